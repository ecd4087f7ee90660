package enginetest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	stddes "crypto/des"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"hash"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/mac"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// The keys of fixed value that not every engine holds.
const (
	tpkTDES  = "2B2C3D4C5E6F7081929AA4B4C6D7E8F8"
	tpkAES   = "10112233445566778899AABBCCDDEEF0"
	macTDES  = "31323334353637383940414243444546"
	macAES   = "51525354555657585960616263646566"
	cbcTDES  = "61626364656768697071727374757677"
	cmacTDES = "717273747576777879808182838485868788898A8B8C8D8E"
	hmacKey  = "0102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F20"
	kekAES   = "A0A1A2A3A4A5A6A7A8A9AAABACADAEAFB0B1B2B3B4B5B6B7B8B9BABBBCBDBEBF"
	dataTDES = "C1C2C4C5C7C8CACBCDCED0D1D3D4D6D7D9DADCDDDFE0E2E3"
	kekProd  = "D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDFE0E1E2E3E4E5E6E7E8E9EAEBECEDEEEF"
)

// holdsFixed imports the keys of fixed value. It reports false for an engine that takes none of them: fixedKeys has it refuse them.
func (b *bench) holdsFixed(t *testing.T) bool {
	t.Helper()
	if !b.Fixed {
		return false
	}
	b.holds(t, []material{
		{"tpk/tdes", tpkTDES, keys.TDES2, keys.UsagePIN, keys.ModeBoth, keyset.Test},
		{"tpk/aes", tpkAES, keys.AES128, keys.UsagePIN, keys.ModeDecrypt, keyset.Test},
		{"mac/retail", macTDES, keys.TDES2, keys.UsageMACRetail, keys.ModeGenVerify, keyset.Test},
		{"mac/cbc", cbcTDES, keys.TDES2, keys.UsageMACCBC, keys.ModeGenVerify, keyset.Test},
		{"mac/cmac-tdes", cmacTDES, keys.TDES3, keys.UsageMACCMAC, keys.ModeVerify, keyset.Test},
		{"mac/cmac-aes", macAES, keys.AES128, keys.UsageMACCMAC, keys.ModeGenVerify, keyset.Test},
		{"mac/hmac", hmacKey, keys.HMAC256, keys.UsageHMAC, keys.ModeGenVerify, keyset.Test},
		{"kek", kekAES, keys.AES256, keys.UsageKBPK, keys.ModeBoth, keyset.Test},
		{"kek/production", kekProd, keys.AES256, keys.UsageKBPK, keys.ModeBoth, keyset.Production},
		{"data/tdes", dataTDES, keys.TDES3, keys.UsageData, keys.ModeEncrypt, keyset.Test},
	})
	return true
}

func (b *bench) open(t *testing.T, alias string) engine.FixedOps {
	t.Helper()
	ops, err := b.Engine.Open(t.Context(), b.refs[alias])
	if err != nil {
		t.Fatalf("Open(%s): %v", alias, err)
	}
	t.Cleanup(ops.End)
	return ops
}

// fixedData compares data under a data key with crypto/aes, and asks for what is not whole. Every engine holds such a key.
func fixedData(t *testing.T, b *bench) {
	ops := b.open(t, "data")
	c, err := aes.NewCipher(unhex(t, dataKey))
	if err != nil {
		t.Fatal(err)
	}
	plain, iv := bytes.Repeat([]byte("0123456789ABCDEF"), 3), unhex(t, "101112131415161718191A1B1C1D1E1F")
	for name, s := range map[string]engine.CipherSpec{
		"CBC": {Mode: dukpt.CBC, IV: iv}, "CBC without IV": {Mode: dukpt.CBC}, "ECB": {Mode: dukpt.ECB},
	} {
		want := bytes.Clone(plain)
		switch {
		case s.Mode == dukpt.ECB:
			for i := 0; i < len(want); i += 16 {
				c.Encrypt(want[i:], want[i:])
			}
		case s.IV == nil:
			cipher.NewCBCEncrypter(c, make([]byte, 16)).CryptBlocks(want, want)
		default:
			cipher.NewCBCEncrypter(c, iv).CryptBlocks(want, want)
		}
		got, err := ops.Encrypt([]byte("dst"), s, plain)
		if err != nil || !bytes.Equal(got, append([]byte("dst"), want...)) {
			t.Errorf("%s: got %X, %v; want %X", name, got, err, want)
		}
		back, err := ops.Decrypt(nil, s, want)
		if err != nil || !bytes.Equal(back, plain) {
			t.Errorf("%s back: got %X, %v", name, back, err)
		}
	}
	for name, s := range map[string]engine.CipherSpec{"an IV of 15": {Mode: dukpt.CBC, IV: iv[1:]}, "an IV of ECB": {Mode: dukpt.ECB, IV: iv}} {
		got, err := ops.Encrypt(nil, s, plain)
		want(t, name, err, dukpt.ErrLength)
		if len(got) != 0 {
			t.Errorf("%s gave %X", name, got)
		}
	}
	for _, n := range []int{0, 1, 15, 17} {
		_, err := ops.Decrypt(nil, engine.CipherSpec{Mode: dukpt.CBC}, plain[:n])
		want(t, "not whole blocks", err, dukpt.ErrLength)
	}
	_, err = ops.Encrypt(nil, engine.CipherSpec{}, plain)
	want(t, "no mode", err, dukpt.ErrUnsupported)
	_, err = ops.MAC(nil, engine.FixedMAC{Algorithm: dukpt.MACCMAC, Length: 16}, plain)
	want(t, "a MAC under a data key", err, engine.ErrUsage)
	_, err = ops.TranslatePIN(nil, engine.PINIn{Format: pin.Format4, PAN: newPAN(t, cardNumber), Block: plain[:16]},
		engine.PINOut{Format: pin.Format4, PAN: newPAN(t, cardNumber), Key: b.refs["zone/aes"]})
	want(t, "a PIN under a data key", err, engine.ErrUsage)
	info := ops.Info()
	if described, err := b.Engine.Describe(t.Context(), b.refs["data"]); err != nil || info != described {
		t.Errorf("info %+v, described as %+v, %v", info, described, err)
	}
	ops.End()
	_, err = ops.Encrypt(nil, engine.CipherSpec{Mode: dukpt.ECB}, plain)
	want(t, "after the end", err, engine.ErrEnded)
}

// fixedKeys opens what cannot be opened.
func fixedKeys(t *testing.T, b *bench) {
	for _, alias := range []string{"bdk/tdes", "bdk/aes"} {
		_, err := b.Engine.Open(t.Context(), b.refs[alias])
		want(t, "Open("+alias+")", err, engine.ErrUsage)
		_, err = b.Engine.Unwrap(t.Context(), b.refs[alias], "D0112")
		if err == nil {
			t.Errorf("Unwrap under %s went through", alias)
		}
	}
	_, err := b.Engine.Open(t.Context(), ref(t, "alias/nothing"))
	want(t, "Open of nothing", err, engine.ErrKeyNotFound)
	_, err = b.Engine.Unwrap(t.Context(), ref(t, "alias/nothing"), "D0112")
	want(t, "Unwrap under nothing", err, engine.ErrKeyNotFound)
	_, err = b.Engine.Open(cancelledContext(t), b.refs["data"])
	if err == nil {
		t.Error("Open went through although the context has ended")
	}
	if !b.Fixed {
		_, err := b.Engine.Open(t.Context(), b.refs["zone/aes"])
		want(t, "a PIN key where PINs only leave", err, dukpt.ErrUnsupported)
		_, err = b.Engine.Unwrap(t.Context(), b.refs["data"], "D0112")
		want(t, "a key block where nothing unwraps", err, dukpt.ErrUnsupported)
	}
}

// fixedMACs compares every algorithm with another implementation.
func fixedMACs(t *testing.T, b *bench) {
	if !b.holdsFixed(t) {
		return
	}
	msg := bytes.Repeat([]byte("all that is well"), 3)
	tdes := func(hex string) cipher.Block {
		k := unhex(t, hex)
		if len(k) == 16 {
			k = append(k, k[:8]...)
		}
		c, err := stddes.NewTripleDESCipher(k)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	lastCBC := func(c cipher.Block) []byte {
		out := bytes.Clone(msg)
		cipher.NewCBCEncrypter(c, make([]byte, c.BlockSize())).CryptBlocks(out, out)
		return out[len(out)-c.BlockSize():]
	}
	hmacOf := func(h func() hash.Hash) []byte {
		m := hmac.New(h, unhex(t, hmacKey))
		m.Write(msg)
		return m.Sum(nil)
	}
	aesBlock, err := aes.NewCipher(unhex(t, macAES))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		alias     string
		algorithm dukpt.MACAlgorithm
		want      []byte
		least     int
		verifies  bool // only
	}{
		{"mac/cbc", dukpt.MACCBC, lastCBC(tdes(cbcTDES)), 4, false},
		{"mac/retail", dukpt.MACRetail, retailOracle(t, unhex(t, macTDES), msg), 4, false},
		{"mac/cmac-tdes", dukpt.MACCMAC, mac.CMAC(nil, tdes(cmacTDES), msg), 4, true},
		{"mac/cmac-aes", dukpt.MACCMAC, mac.CMAC(nil, aesBlock, msg), 4, false},
		{"mac/hmac", dukpt.MACHMACSHA256, hmacOf(sha256.New), 16, false},
		{"mac/hmac", dukpt.MACHMACSHA384, hmacOf(sha512.New384), 24, false},
		{"mac/hmac", dukpt.MACHMACSHA512, hmacOf(sha512.New), 32, false},
	} {
		ops := b.open(t, c.alias)
		for _, n := range []int{c.least, len(c.want)} {
			s := engine.FixedMAC{Algorithm: c.algorithm, Length: n}
			if got, err := ops.MAC(nil, s, msg); c.verifies {
				want(t, c.alias+": generation under a key that verifies", err, engine.ErrUsage)
			} else if err != nil || !bytes.Equal(got, c.want[:n]) {
				t.Errorf("%s, %v: got %X, %v; want %X", c.alias, c.algorithm, got, err, c.want[:n])
			}
			if err := ops.VerifyMAC(s, msg, c.want[:n]); err != nil {
				t.Errorf("%s, %v: %v", c.alias, c.algorithm, err)
			}
			wrong := bytes.Clone(c.want[:n])
			wrong[n-1] ^= 1
			want(t, c.alias+": a wrong MAC", ops.VerifyMAC(s, msg, wrong), dukpt.ErrVerify)
			want(t, c.alias+": a short MAC", ops.VerifyMAC(s, msg, c.want[:n-1]), dukpt.ErrVerify)
		}
		for _, n := range []int{0, c.least - 1, len(c.want) + 1} {
			want(t, c.alias+": a length that is none", ops.VerifyMAC(engine.FixedMAC{Algorithm: c.algorithm, Length: n}, msg, c.want), dukpt.ErrLength)
		}
		for a := dukpt.MACAlgorithm(0); a <= dukpt.MACHMACSHA512+1; a++ {
			if engine.MACUsage(a) == ops.Info().Attributes.Usage {
				continue
			}
			want(t, c.alias+": another algorithm", ops.VerifyMAC(engine.FixedMAC{Algorithm: a, Length: 8}, msg, c.want[:8]), engine.ErrUsage)
		}
		if c.algorithm == dukpt.MACCBC || c.algorithm == dukpt.MACRetail {
			for _, n := range []int{0, 7, 9} {
				_, err := ops.MAC(nil, engine.FixedMAC{Algorithm: c.algorithm, Length: 8}, msg[:n])
				want(t, c.alias+": not whole blocks", err, dukpt.ErrLength)
			}
		}
	}
	_, err = b.open(t, "data/tdes").Decrypt(nil, engine.CipherSpec{Mode: dukpt.ECB}, msg)
	want(t, "decryption under a key that encrypts", err, engine.ErrUsage)
}

// retailOracle is algorithm 3 of ISO 9797-1 on crypto/des.
func retailOracle(t *testing.T, key, msg []byte) []byte {
	t.Helper()
	left, err := stddes.NewCipher(key[:8])
	right, err2 := stddes.NewCipher(key[8:])
	if err = errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	out := bytes.Clone(msg)
	cipher.NewCBCEncrypter(left, make([]byte, 8)).CryptBlocks(out, out)
	last := out[len(out)-8:]
	right.Decrypt(last, last)
	left.Encrypt(last, last)
	return last
}

// fixedPINs moves PINs from zone to zone by the table of permitted translations.
func fixedPINs(t *testing.T, b *bench) {
	if !b.holdsFixed(t) {
		return
	}
	pan := newPAN(t, cardNumber)
	tdes, err := des.New(unhex(t, tpkTDES))
	if err != nil {
		t.Fatal(err)
	}
	inAES, err := aes.NewCipher(unhex(t, tpkAES))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from     string
		cipher   cipher.Block
		format   pin.Format
		to       string
		toFormat pin.Format
	}{
		{"tpk/tdes", tdes, pin.Format0, "zone/tdes", pin.Format0},
		{"tpk/tdes", tdes, pin.Format3, "zone/tdes", pin.Format0},
		{"tpk/tdes", tdes, pin.Format0, "zone/aes", pin.Format4},
		{"tpk/aes", inAES, pin.Format4, "zone/tdes", pin.Format0},
		{"tpk/aes", inAES, pin.Format4, "zone/aes", pin.Format4},
	} {
		block, err := c.format.Encrypt(nil, c.cipher, newPIN(t, "12345"), pan, pin.Fill{})
		if err != nil {
			t.Fatal(err)
		}
		ops := b.open(t, c.from)
		in := engine.PINIn{Format: c.format, PAN: pan, Block: block}
		got, err := ops.TranslatePIN([]byte("dst"), in, engine.PINOut{Format: c.toFormat, PAN: pan, Key: b.refs[c.to], Fill: [8]byte{1}})
		if err != nil || !bytes.HasPrefix(got, []byte("dst")) {
			t.Errorf("%s %v to %s %v: %v", c.from, c.format, c.to, c.toFormat, err)
			continue
		}
		if o, err := b.openZone(t, c.to, got[3:], pan); err != nil || !samePIN(t, o, "12345", pan) {
			t.Errorf("%s %v to %s %v: the zone finds another PIN (%v)", c.from, c.format, c.to, c.toFormat, err)
		}
		refused := func(what string, in engine.PINIn, out engine.PINOut, target error) {
			t.Helper()
			made, err := ops.TranslatePIN(nil, in, out)
			want(t, c.from+": "+what, err, target)
			if len(made) != 0 {
				t.Errorf("%s: %s gave %X", c.from, what, made)
			}
		}
		out := engine.PINOut{Format: c.toFormat, PAN: pan, Key: b.refs[c.to]}
		wrong := newPAN(t, "4000005678901235")
		refused("another PAN on the way out", in, engine.PINOut{Format: c.toFormat, PAN: wrong, Key: b.refs[c.to]}, pin.ErrTranslation)
		for _, f := range []pin.Format{0, pin.Format1, pin.Format2} {
			refused("a format that is not permitted", in, engine.PINOut{Format: f, PAN: pan, Key: b.refs[c.to]}, pin.ErrTranslation)
		}
		noise := bytes.Clone(block)
		noise[0] ^= 0xA5
		refused("a block that does not open", engine.PINIn{Format: c.format, PAN: pan, Block: noise}, out, dukpt.ErrVerify)
		refused("a short block", engine.PINIn{Format: c.format, PAN: pan, Block: block[1:]}, out, dukpt.ErrLength)
		refused("no key", in, engine.PINOut{Format: c.toFormat, PAN: pan}, engine.ErrKeyNotFound)
		refused("a data key", in, engine.PINOut{Format: c.toFormat, PAN: pan, Key: b.refs["data"]}, engine.ErrUsage)
		refused("a key of production", in, engine.PINOut{Format: pin.Format4, PAN: pan, Key: b.refs["zone/production"]}, engine.ErrUsage)
	}
	_, err = b.open(t, "zone/aes").TranslatePIN(nil, engine.PINIn{Format: pin.Format4, PAN: pan, Block: make([]byte, 16)},
		engine.PINOut{Format: pin.Format4, PAN: pan, Key: b.refs["zone/aes"]})
	want(t, "from a key that encrypts", err, engine.ErrUsage)
	_, err = b.open(t, "tpk/tdes").TranslatePIN(nil, engine.PINIn{Format: pin.Format0, PAN: pan, Block: make([]byte, 8)},
		engine.PINOut{Format: pin.Format4, PAN: pan, Key: b.refs["tpk/aes"]})
	want(t, "to a key that decrypts", err, engine.ErrUsage)
}

// fixedBlocks works under keys that come in key blocks, and under what only looks like one.
func fixedBlocks(t *testing.T, b *bench) {
	if !b.holdsFixed(t) {
		return
	}
	p, err := keyblock.NewProtector(b.keys["kek"])
	if err != nil {
		t.Fatal(err)
	}
	defer p.Wipe()
	wrap := func(a keys.Algorithm, usage keys.Usage, mode keys.Mode, o keyblock.Options) (string, keys.Key) {
		t.Helper()
		k, err := keys.GenerateKey(keys.Attributes{Algorithm: a, Usage: usage, Mode: mode, Exportability: keys.NonExportable})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(k.Wipe)
		block, err := p.WrapWith(k, o)
		if err != nil {
			t.Fatal(err)
		}
		return block, k
	}
	unwrap := func(block string) (engine.FixedOps, error) { return b.Engine.Unwrap(t.Context(), b.refs["kek"], block) }
	block, k := wrap(keys.AES128, keys.UsageData, keys.ModeDecrypt, keyblock.Options{})
	ops, err := unwrap(block)
	if err != nil {
		t.Fatal(err)
	}
	c, err := aes.NewCipher(k.Material().Expose())
	if err != nil {
		t.Fatal(err)
	}
	ct := make([]byte, 16)
	c.Encrypt(ct, []byte("sixteen of bytes"))
	if got, err := ops.Decrypt(nil, engine.CipherSpec{Mode: dukpt.ECB}, ct); err != nil || string(got) != "sixteen of bytes" {
		t.Errorf("under a key in a block: %q, %v", got, err)
	}
	_, err = ops.Encrypt(nil, engine.CipherSpec{Mode: dukpt.ECB}, ct)
	want(t, "encryption under a key whose header says that it decrypts", err, engine.ErrUsage)
	kek, err := b.Engine.Describe(t.Context(), b.refs["kek"])
	if info := ops.Info(); err != nil || info.KCV != k.KCV() || info.Attributes != k.Attributes() || info.ID != kek.ID || !info.Fingerprint.IsZero() || info.Labels != kek.Labels {
		t.Errorf("info %+v, %v", info, err)
	}
	ops.End()
	_, err = ops.Decrypt(nil, engine.CipherSpec{Mode: dukpt.ECB}, ct)
	want(t, "after the end", err, engine.ErrEnded)

	altered := 0
	for i := range block { // every character is under the MAC
		for _, c := range []byte{'0', 'E', 'B'} {
			if block[i] == c {
				continue
			}
			if _, err := unwrap(block[:i] + string(c) + block[i+1:]); !errors.Is(err, dukpt.ErrVerify) {
				t.Errorf("with %c at %d: %v", c, i, err)
			}
			altered++
		}
	}
	if altered < 200 {
		t.Errorf("only %d blocks were altered", altered)
	}
	for name, text := range map[string]string{"nothing": "", "a part": block[:40], "more": block + "00"} {
		_, err := unwrap(text)
		want(t, name, err, dukpt.ErrVerify)
	}
	_, err = b.Engine.Unwrap(t.Context(), b.refs["kek/production"], block)
	want(t, "under another key", err, dukpt.ErrVerify)
	_, err = b.Engine.Unwrap(t.Context(), b.refs["data"], block)
	want(t, "under a data key", err, engine.ErrUsage)
	for name, made := range map[string]string{
		"a base key":           first(wrap(keys.AES128, keys.UsageBDK, keys.ModeDerive, keyblock.Options{})),
		"a key encryption key": first(wrap(keys.AES128, keys.UsageKEK, keys.ModeBoth, keyblock.Options{})),
		"for storage only":     first(wrap(keys.AES128, keys.UsageData, keys.ModeBoth, keyblock.Options{Context: keyblock.ContextStorage})),
	} {
		_, err := unwrap(made)
		want(t, name, err, engine.ErrUsage)
	}
	hm, _ := wrap(keys.HMAC256, keys.UsageHMAC, keys.ModeGenVerify, keyblock.Options{})
	hops, err := unwrap(hm)
	if err != nil {
		t.Fatal(err)
	}
	defer hops.End()
	if _, err := hops.MAC(nil, engine.FixedMAC{Algorithm: dukpt.MACHMACSHA256, Length: 32}, ct); err != nil {
		t.Errorf("HMAC under a key in a block: %v", err)
	}
	_, err = hops.MAC(nil, engine.FixedMAC{Algorithm: dukpt.MACHMACSHA512, Length: 64}, ct)
	want(t, "another hash than the header's", err, engine.ErrUsage)

	// A PIN from a key that came to one that came.
	pan := newPAN(t, cardNumber)
	fromBlock, from := wrap(keys.AES128, keys.UsagePIN, keys.ModeDecrypt, keyblock.Options{})
	toBlock, to := wrap(keys.AES256, keys.UsagePIN, keys.ModeEncrypt, keyblock.Options{})
	source, err := aes.NewCipher(from.Material().Expose())
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := pin.EncryptFormat4(nil, source, newPIN(t, "4321"), pan, pin.Fill{})
	if err != nil {
		t.Fatal(err)
	}
	in, err := unwrap(fromBlock)
	if err != nil {
		t.Fatal(err)
	}
	defer in.End()
	under, err := unwrap(toBlock)
	if err != nil {
		t.Fatal(err)
	}
	moved, err := in.TranslatePIN(nil, engine.PINIn{Format: pin.Format4, PAN: pan, Block: sealed}, engine.PINOut{Format: pin.Format4, PAN: pan, Under: under})
	if err != nil {
		t.Fatal(err)
	}
	target, err := aes.NewCipher(to.Material().Expose())
	if err != nil {
		t.Fatal(err)
	}
	if o, err := pin.DecryptFormat4(target, moved, pan); err != nil || !samePIN(t, o, "4321", pan) {
		t.Errorf("the other zone finds another PIN (%v)", err)
	}
	under.End()
	_, err = in.TranslatePIN(nil, engine.PINIn{Format: pin.Format4, PAN: pan, Block: sealed}, engine.PINOut{Format: pin.Format4, PAN: pan, Under: under})
	want(t, "to a key whose operations have ended", err, engine.ErrUsage)
}

func first(block string, _ keys.Key) string { return block }
