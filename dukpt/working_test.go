package dukpt

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	stddes "crypto/des"
	stdhmac "crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"slices"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/mac"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/pin"
)

var (
	tdesKeys = []WorkingKey{KeyTDES2, KeyTDES3}
	aesKeys  = []WorkingKey{KeyAES128, KeyAES192, KeyAES256}
	hmacKeys = []WorkingKey{KeyHMAC128, KeyHMAC192, KeyHMAC256}
)

// stdBlock is the standard library's cipher under a working key; 16 bytes of TDES key are two parts.
func stdBlock(t testing.TB, w WorkingKey, k []byte) cipher.Block {
	t.Helper()
	var b cipher.Block
	var err error
	switch {
	case w.isAES():
		b, err = aes.NewCipher(k)
	case len(k) == 16:
		b, err = stddes.NewTripleDESCipher(append(bytes.Clone(k), k[:8]...))
	default:
		b, err = stddes.NewTripleDESCipher(k)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var stdHashes = map[MACAlgorithm]func() hash.Hash{MACHMACSHA256: sha256.New, MACHMACSHA384: sha512.New384, MACHMACSHA512: sha512.New}

// wantMAC computes a MAC past the session, from the key that the published vectors vouch for.
func wantMAC(t *testing.T, s *session, spec MACSpec, d Direction, msg []byte) []byte {
	t.Helper()
	defer s.wipeWorkingKey()
	k, err := s.macKey(d, spec.Key)
	if err != nil {
		t.Fatal(err)
	}
	var sum []byte
	switch spec.Algorithm {
	case MACRetail:
		sum, err = mac.Retail(nil, k, msg, mac.Padding(spec.Padding))
	case MACCBC:
		sum, err = mac.CBC(nil, stdBlock(t, spec.Key, k), msg, mac.Padding(spec.Padding))
	case MACCMAC:
		sum = mac.CMAC(nil, stdBlock(t, spec.Key, k), msg)
	default:
		h := stdhmac.New(stdHashes[spec.Algorithm], k)
		h.Write(msg)
		sum = h.Sum(nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// goes says what goes together, written down a second time: which keys and paddings an algorithm has, and its sizes.
func goes(scheme Scheme, s MACSpec) (least, full int) {
	forTDES := scheme == TDES && s.Key == 0 || scheme == AES && slices.Contains(tdesKeys, s.Key)
	iso := s.Padding == MACPadding1 || s.Padding == MACPadding2 || s.Padding == MACPadding3
	switch s.Algorithm {
	case MACRetail, MACCBC:
		if forTDES && iso {
			return 4, 8
		}
	case MACCMAC:
		if forTDES && s.Padding == 0 {
			return 4, 8
		}
		if scheme == AES && slices.Contains(aesKeys, s.Key) && s.Padding == 0 {
			return 4, 16
		}
	case MACHMACSHA256, MACHMACSHA384, MACHMACSHA512:
		if scheme == AES && slices.Contains(hmacKeys, s.Key) && s.Padding == 0 {
			n := map[MACAlgorithm]int{MACHMACSHA256: 32, MACHMACSHA384: 48, MACHMACSHA512: 64}[s.Algorithm]
			return n / 2, n
		}
	}
	return 0, 0
}

// TestEveryMAC takes every algorithm, key and padding there is, and the next number that is none, through both roles.
func TestEveryMAC(t *testing.T) {
	t.Parallel()
	made, refused := 0, 0
	for _, b := range testBases(t) {
		r := testRoles(t, b, 99)
		msg := []byte("0200 amount 12.34, and a little more")
		for _, spec := range macSpecs() {
			name := fmt.Sprintf("%s, %v under %v with %v", b.name, spec.Algorithm, spec.Key, spec.Padding)
			least, full := goes(b.id.Scheme(), spec)
			spec.Length = max(full, 8)
			switch {
			case full == 0:
				refused += checkMACRefused(t, name, r, spec, ErrUnsupported)
				continue
			case b.id.Scheme() == AES && workingKeys[spec.Key].strength > workingKeys[b.base.family.key].strength:
				refused += checkMACRefused(t, name, r, spec, ErrStrength)
				continue
			}
			for _, length := range []int{-1, 0, 3, least - 1, full + 1, 1000} {
				bad := spec
				bad.Length = length
				refused += checkMACRefused(t, fmt.Sprintf("%s, %d bytes", name, length), r, bad, ErrLength)
			}
			for _, length := range []int{least, full} {
				spec.Length = length
				want := wantMAC(t, &r.host.s, spec, Request, msg)[:length]
				got, err := r.term.MAC([]byte("x"), spec, msg)
				if err != nil || string(got) != "x"+string(want) {
					t.Errorf("%s: MAC = %X, %v, want x%X", name, got, err, want)
				}
				checkForgeries(t, name, want, func(m []byte) error { return r.host.VerifyMAC(spec, msg, m) })
				want = wantMAC(t, &r.host.s, spec, Response, msg)[:length]
				got, err = r.host.MACResponse(nil, spec, msg)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: MACResponse = %X, %v, want %X", name, got, err, want)
				}
				checkForgeries(t, name, want, func(m []byte) error { return r.term.VerifyResponse(spec, msg, m) })
				made++
			}
			if r.host.s.macs.Size() != 0 || !bytes.Equal(r.host.s.workingKey(maxKey), make([]byte, maxKey)) {
				t.Errorf("%s: the MAC key is still there", name)
			}
		}
	}
	if refused < 300 || made < 100 {
		t.Errorf("%d made and %d refused", made, refused)
	}
	t.Logf("MACs: %d, hostile specifications: %d", made, refused)
}

func macSpecs() (out []MACSpec) {
	for a := MACAlgorithm(0); a <= MACHMACSHA512+1; a++ {
		for w := WorkingKey(0); w <= KeyHMAC256+1; w++ {
			for p := MACPadding(0); p <= MACPadding3+1; p++ {
				out = append(out, MACSpec{Algorithm: a, Key: w, Padding: p})
			}
		}
	}
	return out
}

func checkMACRefused(t *testing.T, name string, r roles, spec MACSpec, want error) int {
	t.Helper()
	if got, err := r.term.MAC([]byte("x"), spec, []byte("m")); !errors.Is(err, want) || string(got) != "x" {
		t.Errorf("%s: MAC = %X, %v, want %v", name, got, err, want)
	}
	if got, err := r.host.MACResponse(nil, spec, []byte("m")); !errors.Is(err, want) || got != nil {
		t.Errorf("%s: MACResponse = %X, %v, want %v", name, got, err, want)
	}
	if err := r.host.VerifyMAC(spec, []byte("m"), make([]byte, 8)); !errors.Is(err, want) {
		t.Errorf("%s: VerifyMAC: %v, want %v", name, err, want)
	}
	return 1
}

// padded fills text up as the standards say it in words.
func padded(p DataPadding, text []byte, size int) []byte {
	out := bytes.Clone(text)
	fill := size - len(text)%size
	switch p {
	case ISO9797M2Padding:
		return append(append(out, 0x80), make([]byte, fill-1)...)
	case PKCS7Padding:
		return append(out, bytes.Repeat([]byte{byte(fill)}, fill)...)
	}
	return append(out, make([]byte, fill%size)...)
}

// TestEveryDataKey takes every key type, mode and padding through both roles, and through the standard library.
func TestEveryDataKey(t *testing.T) {
	t.Parallel()
	text := []byte("4111111111111111=30122010000000000")
	for _, b := range testBases(t) {
		r := testRoles(t, b, 7)
		for _, spec := range paddedSpecs(b.id.Scheme()) {
			size := 16
			if b.id.Scheme() == TDES || spec.Key.isTDES() {
				size = 8
			}
			name := fmt.Sprintf("%s %+v", b.name, spec)
			if b.id.Scheme() == AES && workingKeys[spec.Key].strength > workingKeys[b.base.family.key].strength {
				if got, err := r.term.EncryptData([]byte("x"), spec, text[:32]); !errors.Is(err, ErrStrength) || string(got) != "x" {
					t.Errorf("%s: %X, %v, want ErrStrength", name, got, err)
				}
				continue
			}
			for n := 0; n <= 2*size+1; n++ {
				checkText(t, name, r, spec, text[:n], size)
			}
		}
	}
}

func paddedSpecs(s Scheme) (out []DataSpec) {
	for p := NoPadding; p <= PKCS7Padding; p++ {
		for _, spec := range []DataSpec{{Mode: CBC}, {Mode: ECB}, {Mode: CBC, IV: []byte("initial vector!!")}} {
			spec.Direction, spec.Padding = Request, p
			if s == TDES {
				spec.Profile = DataOneWay
				if spec.IV != nil {
					spec.IV = spec.IV[:8]
				}
				out = append(out, spec)
				continue
			}
			for _, w := range slices.Concat(tdesKeys, aesKeys) {
				spec.Key = w
				if spec.IV != nil {
					spec.IV = []byte("initial vector!!")[:stdSize(w)]
				}
				out = append(out, spec)
			}
		}
	}
	return out
}

func stdSize(w WorkingKey) int {
	if w.isAES() {
		return 16
	}
	return 8
}

// checkText takes one text there and back, and one with every bit of its last block changed.
func checkText(t *testing.T, name string, r roles, spec DataSpec, text []byte, size int) {
	t.Helper()
	got, err := r.term.EncryptData([]byte("x"), spec, text)
	takesOff := spec.Padding == ISO9797M2Padding || spec.Padding == PKCS7Padding
	if spec.Padding == NoPadding && len(text)%size != 0 || !takesOff && len(text) == 0 {
		if !errors.Is(err, ErrLength) || string(got) != "x" {
			t.Errorf("%s, %d bytes: %X, %v, want ErrLength", name, len(text), got, err)
		}
		return
	}
	want := padded(spec.Padding, text, size)
	back := want
	if takesOff {
		back = text
	}
	want = stdEncrypt(t, &r.host.s, spec, want)
	if err != nil || string(got) != "x"+string(want) {
		t.Fatalf("%s, %d bytes: got %X, %v, want %X", name, len(text), got, err, want)
	}
	clear, err := r.host.DecryptData([]byte("y"), spec, want)
	if err != nil || string(clear) != "y"+string(back) {
		t.Fatalf("%s, %d bytes: came back as %X, %v", name, len(text), clear, err)
	}
	if _, err := r.host.DecryptData(nil, spec, want[:len(want)-1]); !errors.Is(err, ErrLength) {
		t.Errorf("%s: part of a block: %v, want ErrLength", name, err)
	}
}

func stdEncrypt(t *testing.T, s *session, spec DataSpec, in []byte) []byte {
	t.Helper()
	defer s.wipeWorkingKey()
	k, err := s.dataKey(spec)
	if err != nil {
		t.Fatal(err)
	}
	b := stdBlock(t, spec.Key, k)
	out := make([]byte, len(in))
	if spec.Mode == CBC {
		iv := spec.IV
		if iv == nil {
			iv = make([]byte, b.BlockSize())
		}
		cipher.NewCBCEncrypter(b, iv).CryptBlocks(out, in)
		return out
	}
	for i := 0; i < len(in); i += b.BlockSize() {
		b.Encrypt(out[i:], in[i:])
	}
	return out
}

// TestBrokenPadding sends every wrong last byte, and wants one and the same refusal and nothing decrypted left behind.
func TestBrokenPadding(t *testing.T) {
	t.Parallel()
	refused := 0
	for _, b := range testBases(t) {
		r := testRoles(t, b, 3)
		for _, p := range []DataPadding{ISO9797M2Padding, PKCS7Padding} {
			spec := b.id.Scheme().DefaultData()
			size, err := spec.Key.blockSize(b.id.Scheme())
			if err != nil {
				t.Fatal(err)
			}
			for last := range 256 {
				block := []byte("no padding here!")[16-size:]
				block[size-1] = byte(last)
				if p == ISO9797M2Padding && last == 0x80 || p == PKCS7Padding && last == 1 {
					continue
				}
				spec.Padding = NoPadding
				ct, err := r.term.EncryptData(nil, spec, block)
				if err != nil {
					t.Fatal(err)
				}
				spec.Padding = p
				room := make([]byte, 1, 64)
				got, err := r.host.DecryptData(room, spec, ct)
				if err != ErrVerify || len(got) != 1 {
					t.Fatalf("%s, %v, last byte %02X: %X, %v, want ErrVerify itself", b.name, p, last, got, err)
				}
				if !bytes.Equal(room[:64], make([]byte, 64)) {
					t.Fatalf("%s, %v, last byte %02X: left behind: %X", b.name, p, last, room[:64])
				}
				refused++
			}
		}
	}
	if refused < 4*2*255 {
		t.Errorf("%d refused", refused)
	}
}

// TestEveryPINKey translates PINs that come under every key type of AES DUKPT.
func TestEveryPINKey(t *testing.T) {
	t.Parallel()
	p, pan := testPIN(t, "12345", "4111111111111111")
	for _, b := range testBases(t) {
		r := testRoles(t, b, 21)
		for w := WorkingKey(0); w <= KeyHMAC256+1; w++ {
			for f := pin.Format(0); f <= pin.Format4PAN12+1; f++ {
				spec := PINSpec{Format: f, Key: w}
				name := fmt.Sprintf("%s, %v under %v", b.name, f, w)
				short := f == pin.Format0 || f == pin.Format1 || f == pin.Format3
				long := f == pin.Format4 || f == pin.Format4PAN12
				goes := short && (b.id.Scheme() == TDES && w == 0 || b.id.Scheme() == AES && w.isTDES()) ||
					long && b.id.Scheme() == AES && (w == 0 || w.isAES())
				block, err := r.term.EncryptPINUnder([]byte("x"), spec, p, pan)
				want := ErrUnsupported
				if goes && w != 0 && workingKeys[w].strength > workingKeys[b.base.family.key].strength {
					want = ErrStrength
				}
				if !goes || want == ErrStrength {
					in := PINBlock{Format: f, Key: w, PAN: pan, Block: make([]byte, max(f.BlockSize(), 8))}
					checkPINRefused(t, name, r, block, err, in, want)
					continue
				}
				if err != nil || len(block) != 1+f.BlockSize() {
					t.Fatalf("%s: %X, %v", name, block, err)
				}
				checkPINKey(t, name, r, PINBlock{Format: f, Key: w, PAN: pan, Block: block[1:]}, p)
			}
		}
	}
}

func checkPINRefused(t *testing.T, name string, r roles, block []byte, err error, in PINBlock, want error) {
	t.Helper()
	if !errors.Is(err, want) || string(block) != "x" {
		t.Errorf("%s: EncryptPINUnder = %X, %v, want %v", name, block, err, want)
	}
	zone, zoneErr := zoneKey(pin.Format4)
	if zoneErr != nil {
		t.Fatal(zoneErr)
	}
	got, err := r.host.TranslatePIN(nil, in, PINTarget{Format: pin.Format4, PAN: in.PAN, Key: zone})
	if !errors.Is(err, want) && !errors.Is(err, pin.ErrTranslation) || got != nil {
		t.Errorf("%s: TranslatePIN = %X, %v, want %v", name, got, err, want)
	}
}

// checkPINKey opens a block on the host, and wants none of another key type to open it.
func checkPINKey(t *testing.T, name string, r roles, in PINBlock, p pin.PIN) {
	t.Helper()
	var c check
	got, err := r.host.s.decryptPIN(in)
	c.ok(err)
	scale := newAES(make([]byte, 16)) // a PIN out of a block is compared in another block
	one, err := got.Encrypt(nil, pin.Side{Format: pin.Format4, PAN: in.PAN, Cipher: scale}, pin.Fill{})
	c.ok(err)
	two, err := pin.EncryptFormat4(nil, scale, p, in.PAN, pin.Fill{})
	c.ok(err)
	c.bytes("block of the PIN", one, two)
	if in.Format == pin.Format4 {
		zone, err := zoneKey(pin.Format4)
		c.ok(err)
		_, err = r.host.TranslatePIN(nil, in, PINTarget{Format: pin.Format4, PAN: in.PAN, Key: zone})
		c.ok(err)
		other := in
		other.Key = KeyAES128 + KeyAES192 - max(in.Key, KeyAES128)
		if in.Key == KeyAES256 {
			other.Key = 0
		}
		_, err = r.host.s.decryptPIN(other)
		c.true("another key is refused", err != nil)
		if in.Key == 0 {
			in.Key = KeyAES128
			_, err = r.host.s.decryptPIN(in)
			c.ok(err)
		}
	}
	if _, err := c.done(); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// TestVectorsWycheproof takes the cases of CBC with PKCS 7 past the derivation of the key.
func TestVectorsWycheproof(t *testing.T) {
	t.Parallel()
	cases := 0
	crypt := func(v testvec.Vector, in []byte, encrypt bool) ([]byte, error) {
		spec := DataSpec{Mode: CBC, IV: v.Hex("iv"), Padding: PKCS7Padding}
		out, err := spec.lay(nil, in, aesBlock, encrypt)
		if err != nil {
			return nil, err
		}
		spec.crypt(out, newAES(v.Hex("key")), encrypt)
		if encrypt {
			return out, nil
		}
		return spec.unpad(out, aesBlock)
	}
	handlers := map[string]testvec.Handler{
		"IndCpaTest valid": func(v testvec.Vector) (int, error) {
			cases++
			var c check
			ct, err := crypt(v, v.Hex("msg"), true)
			c.ok(err)
			c.bytes("ciphertext", ct, v.Hex("ct"))
			msg, err := crypt(v, v.Hex("ct"), false)
			c.ok(err)
			c.bytes("message", msg, v.Hex("msg"))
			return c.done()
		},
		"IndCpaTest invalid": func(v testvec.Vector) (int, error) {
			cases++
			_, err := crypt(v, v.Hex("ct"), false)
			if err != ErrVerify && !errors.Is(err, ErrLength) {
				return 1, fmt.Errorf("accepted, or refused for another reason: %v", err)
			}
			return 1, nil
		},
	}
	testvec.Run(t, "wycheproof-aes_cbc_pkcs5", handlers)
	if cases < 216 {
		t.Errorf("%d cases, want at least 216", cases)
	}
	testvec.Flip(t, "wycheproof-aes_cbc_pkcs5", handlers, map[string][]string{"IndCpaTest valid": {"ct", "msg"}})
}

// TestUseAllocates: beside the ciphers, whose keys are set up for each use, MACs and data allocate nothing after the first.
func TestUseAllocates(t *testing.T) {
	b := testBases(t)[3]
	r := testRoles(t, b, 1)
	out, msg := make([]byte, 0, 128), make([]byte, 48)
	for name, use := range map[string]func() error{
		"HMAC": func() (err error) {
			out, err = r.term.MAC(out[:0], MACSpec{Algorithm: MACHMACSHA256, Key: KeyHMAC256, Length: 32}, msg)
			return err
		},
		"CMAC": func() (err error) {
			out, err = r.term.MAC(out[:0], MACSpec{Algorithm: MACCMAC, Key: KeyAES128, Length: 16}, msg)
			return err
		},
		"data": func() (err error) {
			out, err = r.term.EncryptData(out[:0], DataSpec{Direction: Request, Key: KeyAES128, Mode: CBC, Padding: PKCS7Padding}, msg)
			return err
		},
	} {
		derivation := testing.AllocsPerRun(20, func() {
			if _, err := r.term.s.derive(usageMACGenerate, KeyHMAC256); err != nil {
				t.Fatal(err)
			}
		})
		ciphers := 1.0
		if name == "HMAC" {
			ciphers = 0
		}
		var err error
		n := testing.AllocsPerRun(100, func() { err = errors.Join(err, use()) })
		if err != nil || n > derivation+ciphers {
			t.Errorf("%s: %v allocations, want those of the derivation, %v, and of %v ciphers; %v", name, n, derivation, ciphers, err)
		}
	}
}

// fipsTDESUnderAES is part of TestFIPSOnly: there a TDES working key is refused before it is used.
func fipsTDESUnderAES(t *testing.T, tx *HostTransaction, refused func(string, error)) {
	t.Helper()
	_, err := tx.MACResponse(nil, MACSpec{Algorithm: MACRetail, Padding: MACPadding2, Key: KeyTDES2, Length: 8}, nil)
	refused("MAC under a TDES working key", err)
	_, err = tx.EncryptResponse(nil, DataSpec{Direction: Response, Key: KeyTDES3, Mode: CBC}, make([]byte, 8))
	refused("data under a TDES working key", err)
	_, err = tx.s.pinKey(PINSpec{Format: pin.Format0, Key: KeyTDES2})
	refused("PIN under a TDES working key", err)
	if tx.s.cell.Equal(secret.New(sessionSize)) {
		t.Error("the transaction has no key")
	}
	if _, err := tx.MACResponse(nil, MACSpec{Algorithm: MACHMACSHA256, Key: KeyHMAC128, Length: 32}, nil); err != nil {
		t.Errorf("HMAC: %v", err)
	}
}
