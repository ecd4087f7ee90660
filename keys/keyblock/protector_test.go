package keyblock

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/keys"
)

// testProtector returns a protector under a fixed AES key.
func testProtector(t testing.TB, size int) *Protector {
	t.Helper()
	p, err := protectorOf('D', bytes.Repeat([]byte{0x5a}, size))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// tdesProtector returns a protector under a fixed TDES key.
func tdesProtector(t testing.TB, size int) *Protector {
	t.Helper()
	p, err := protectorOf('B', []byte("\x02\x13\x25\x37\x49\x5b\x6d\x7f\x81\x93\xa5\xb7\xc9\xdb\xed\xff\x15\x26\x38\x4a\x5c\x6e\x70\x81")[:size])
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func attributes(a keys.Algorithm, u keys.Usage, m keys.Mode) keys.Attributes {
	return keys.Attributes{Algorithm: a, Usage: u, Mode: m, Exportability: keys.NonExportable}
}

func TestWrapUnwrap(t *testing.T) {
	t.Parallel()
	for _, size := range []int{16, 24, 32} {
		p := testProtector(t, size)
		for _, c := range []struct {
			a        keys.Attributes
			optional []OptionalBlock
			length   int
		}{
			{attributes(keys.TDES2, keys.UsageBDK, keys.ModeDerive), nil, 16 + 64 + 32},
			{attributes(keys.TDES3, keys.UsagePIN, keys.ModeEncrypt), nil, 16 + 64 + 32},
			{attributes(keys.AES128, keys.UsageInitialKey, keys.ModeDerive), []OptionalBlock{{OptionalIK, "1234567890123456"}}, 16 + 32 + 96 + 32},
			{attributes(keys.AES128, keys.UsageData, keys.ModeBoth), []OptionalBlock{{OptionalLB, strings.Repeat("x", 300)}, {"XX", "00"}}, 16 + 320 + 96 + 32},
			{attributes(keys.TDES2, keys.UsageInitialKey, keys.ModeDerive), []OptionalBlock{{OptionalKS, "FFFF9876543210E00000"}}, 16 + 32 + 64 + 32},
			{attributes(keys.HMAC128, keys.UsageHMAC, keys.ModeGenVerify), []OptionalBlock{{OptionalHM, "21"}}, 16 + 16 + 96 + 32},
		} {
			k, err := keys.GenerateKey(c.a)
			if err != nil {
				t.Fatal(err)
			}
			block, err := p.Wrap(k, c.optional...)
			if err != nil {
				t.Fatalf("%v: %v", c.a, err)
			}
			if len(block) != c.length {
				t.Errorf("%v: %d characters, want %d: the length must not tell the key's", c.a, len(block), c.length)
			}
			got, err := p.Unwrap(block)
			if err != nil {
				t.Fatalf("%s: %v", block, err)
			}
			back, err := got.Key()
			if err != nil {
				t.Fatal(err)
			}
			if !back.Material().Equal(k.Material()) || back.Attributes() != c.a {
				t.Errorf("%v came back as %v", c.a, back.Attributes())
			}
			if fmt.Sprint(got.Optional) != fmt.Sprint(c.optional) {
				t.Errorf("optional blocks %v came back as %v", c.optional, got.Optional)
			}
			again, err := p.Wrap(k, c.optional...)
			if err != nil {
				t.Fatal(err)
			}
			if again == block {
				t.Error("padding is not random: two blocks of one key are equal")
			}
		}
	}
}

func TestWrapRefuses(t *testing.T) {
	t.Parallel()
	p := testProtector(t, 16)
	strong, err := keys.GenerateKey(attributes(keys.AES256, keys.UsageBDK, keys.ModeDerive))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wrap(strong); err == nil {
		t.Error("a 256-bit key was wrapped under 128 bits")
	}
	if _, err := p.Wrap(keys.Key{}); err == nil {
		t.Error("no key was wrapped")
	}
	k, err := keys.GenerateKey(attributes(keys.AES128, keys.UsageData, keys.ModeBoth))
	if err != nil {
		t.Fatal(err)
	}
	for _, ob := range []OptionalBlock{
		{"X", ""}, {"XYZ", ""}, {"\x1fX", ""}, {"X\x7f", ""}, {"LB", "\x00"}, {"LB", "é"}, {"LB", strings.Repeat("x", 9999)}, {"PB", "0000"}, {"KS", "FFFF9876543210E00000"},
		{"IK", "123456789012345"}, {"IK", "12345678901234567"}, {"IK", "123456789012345a"}, {"HM", "21"},
	} {
		if _, err := p.Wrap(k, ob); err == nil {
			t.Errorf("optional block %.10q was written", ob)
		}
	}
	if _, err := p.Wrap(k, OptionalBlock{"LB", "a"}, OptionalBlock{"LB", "a"}); err == nil {
		t.Error("an optional block was written twice")
	}
	if _, err := p.Wrap(k, manyOptions()...); err == nil {
		t.Error("100 optional blocks were written")
	}
	tdes, err := keys.GenerateKey(attributes(keys.TDES2, keys.UsageInitialKey, keys.ModeDerive))
	if err != nil {
		t.Fatal(err)
	}
	for _, ob := range []OptionalBlock{{"IK", "1234567890123456"}, {"KS", "FFFF9876543210E0"}} {
		if _, err := p.Wrap(tdes, ob); err == nil {
			t.Errorf("optional block %v was written for TDES", ob)
		}
	}
	hmacKey, err := keys.GenerateKey(attributes(keys.HMAC128, keys.UsageHMAC, keys.ModeGenVerify))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wrap(hmacKey, OptionalBlock{"HM", "23"}); err == nil {
		t.Error("an HMAC-SHA-256 key was written as one of SHA-512")
	}
	if _, err := NewProtector(k); err == nil {
		t.Error("a data key protects")
	}
}

func manyOptions() (all []OptionalBlock) {
	for i := range 100 {
		all = append(all, OptionalBlock{ID: fmt.Sprintf("%02d", i), Data: ""})
	}
	return all
}

// TestModeOfProtectionKey: what the protection key may not do, the protector does not.
func TestModeOfProtectionKey(t *testing.T) {
	t.Parallel()
	k, err := keys.GenerateKey(attributes(keys.AES128, keys.UsageData, keys.ModeBoth))
	if err != nil {
		t.Fatal(err)
	}
	raw := bytes.Repeat([]byte{0x5a}, 16)
	block, err := testProtector(t, 16).Wrap(k)
	if err != nil {
		t.Fatal(err)
	}
	for mode, can := range map[keys.Mode]struct{ wrap, unwrap bool }{
		keys.ModeBoth: {true, true}, keys.ModeNone: {true, true}, keys.ModeEncrypt: {true, false}, keys.ModeDecrypt: {false, true},
	} {
		kbpk, err := keys.NewKey(attributes(keys.AES128, keys.UsageKBPK, mode), raw)
		if err != nil {
			t.Fatal(err)
		}
		p, err := NewProtector(kbpk)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Wrap(k); (err == nil) != can.wrap {
			t.Errorf("mode %v: Wrap gives %v", mode, err)
		}
		if _, err := p.Unwrap(block); (err == nil) != can.unwrap {
			t.Errorf("mode %v: Unwrap gives %v", mode, err)
		}
	}
}

func TestWrongProtectionKeys(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]keys.Attributes{
		"TDES":  attributes(keys.TDES2, keys.UsageISOKBPK, keys.ModeBoth),
		"KEK":   attributes(keys.AES128, keys.UsageKEK, keys.ModeBoth),
		"no":    {},
		"wiped": attributes(keys.AES128, keys.UsageKBPK, keys.ModeBoth),
	} {
		k, err := keys.GenerateKey(a)
		if err != nil && name != "no" {
			t.Fatal(err)
		}
		if name == "wiped" {
			k.Wipe()
		}
		p, err := NewProtector(k)
		if err == nil || p != nil || errors.Is(err, ErrKey) != k.IsZero() {
			t.Errorf("%s key protects blocks, or %v", name, err)
		}
	}
}

// TestWiped: what is wiped says so, whatever its algorithm, and not what a cipher says of a key of no bytes.
func TestWiped(t *testing.T) {
	t.Parallel()
	const wiped = "keyblock: not a key that is wrapped: the protection key is wiped"
	for name, p := range map[string]*Protector{
		"AES-128": testProtector(t, 16), "AES-192": testProtector(t, 24), "AES-256": testProtector(t, 32),
		"2TDEA": tdesProtector(t, 16), "3TDEA": tdesProtector(t, 24),
	} {
		k, err := keys.GenerateKey(keys.Attributes{
			Algorithm: keys.TDES2, Usage: keys.UsageData, Mode: keys.ModeBoth, Exportability: keys.Exportable,
		})
		if err != nil {
			t.Fatal(err)
		}
		block, err := p.Wrap(k)
		if err != nil {
			t.Fatal(err)
		}
		content, err := p.Unwrap(block)
		if err != nil {
			t.Fatal(err)
		}
		blocks := []string{block, block[:len(block)-1], ""}
		if p.tdes {
			for _, header := range []string{"A0000D0TB00E0000", "C0000D0TB00E0000"} { // they come by another cipher
				old, _ := authenticated(t, p, header, append([]byte{0, 128}, "sixteen secrets!padding"[:22]...))
				blocks = append(blocks, old)
			}
		}
		p.Wipe()
		refused := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, ErrKey) || err.Error() != wiped {
				t.Errorf("%s, %s: got %v, want %s", name, what, err, wiped)
			}
		}
		_, err = p.Wrap(k)
		refused("Wrap", err)
		_, err = p.Rewrap(content)
		refused("Rewrap", err)
		for _, b := range blocks {
			c, err := p.Unwrap(b)
			refused(fmt.Sprintf("Unwrap of %.16q", b), err)
			if !c.Material().IsZero() {
				t.Errorf("%s: a key came with the error", name)
			}
		}
		content.Wipe()
		if _, err := content.Key(); !errors.Is(err, ErrKey) {
			t.Errorf("%s: the key of a wiped content: %v, want %v", name, err, ErrKey)
		}
		k.Wipe()
	}
	if _, err := new(Protector).Unwrap(""); !errors.Is(err, ErrKey) {
		t.Errorf("no protector unwraps: %v", err)
	}
}

// TestContentIsItsOwn: the key of a content outlives it, and wiping the content wipes its bytes.
func TestContentIsItsOwn(t *testing.T) {
	t.Parallel()
	p := testProtector(t, 16)
	want, err := keys.GenerateKey(attributes(keys.AES128, keys.UsageData, keys.ModeBoth))
	if err != nil {
		t.Fatal(err)
	}
	block, err := p.Wrap(want)
	if err != nil {
		t.Fatal(err)
	}
	content, err := p.Unwrap(block)
	if err != nil {
		t.Fatal(err)
	}
	k, err := content.Key()
	if err != nil {
		t.Fatal(err)
	}
	live := content.Material().Expose()
	content.Wipe()
	content.Wipe()
	if !bytes.Equal(live, make([]byte, 16)) {
		t.Error("Wipe left bytes of the key")
	}
	if !k.Material().Equal(want.Material()) {
		t.Error("the key was wiped with the content")
	}
	if _, err := content.Key(); !errors.Is(err, ErrKey) {
		t.Errorf("a wiped content has a key: %v", err)
	}
	if _, err := (Content{}).Key(); !errors.Is(err, ErrKey) {
		t.Errorf("no content has a key: %v", err)
	}
}

func TestConcurrent(t *testing.T) {
	t.Parallel()
	p := testProtector(t, 32)
	want, err := keys.GenerateKey(attributes(keys.TDES2, keys.UsageBDK, keys.ModeDerive))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				block, err := p.Wrap(want, OptionalBlock{OptionalLB, "x"})
				if err != nil {
					t.Error(err)
					return
				}
				content, err := p.Unwrap(block)
				if err != nil || !content.Material().Equal(want.Material()) {
					t.Errorf("came back as %v, %v", content.Header, err)
				}
			}
		})
	}
	wg.Wait()
}

// authenticated makes a block that verifies out of any header and clear content, also out of such as Wrap never writes. The
// length in the header is put right and the content filled with zeros up to the block.
func authenticated(t testing.TB, p *Protector, header string, content []byte) (block string, filled []byte) {
	t.Helper()
	f, version := forms['D'], byte('D')
	if p.tdes {
		f, version = forms['B'], 'B'
	}
	if header != "" && forms[header[0]].block == f.block {
		f, version = forms[header[0]], header[0]
	}
	filled = append(bytes.Clone(content), make([]byte, f.block)...)
	filled = filled[:max(len(content)+f.block-1, 2*f.block-1)/f.block*f.block]
	if len(header) >= 5 {
		header = header[:1] + fmt.Sprintf("%04d", len(header)+2*len(filled)+2*f.mac) + header[5:]
	}
	w, err := p.working(version)
	if err != nil {
		t.Fatal(err)
	}
	defer w.wipe()
	encrypted := bytes.Clone(filled)
	var sum []byte
	if !isVariant(version) {
		sum = w.seal(header, encrypted)
	} else {
		cipher.NewCBCEncrypter(w.enc, []byte(header + "00000000")[:8]).CryptBlocks(encrypted, encrypted)
		sum = w.sum(header, encrypted)
	}
	return header + strings.ToUpper(hex.EncodeToString(encrypted)+hex.EncodeToString(sum)), filled
}

// TestSplit: what follows a header is whole blocks of content, one at least, and a MAC.
func TestSplit(t *testing.T) {
	t.Parallel()
	for version, f := range forms {
		for _, header := range []int{16, 24, 32, 20} {
			for n := range 100 {
				content, mac, ok := split(strings.Repeat("A", n), header, f)
				size := n - 2*f.mac
				want := header%f.block == 0 && size > 0 && size%(2*f.block) == 0
				if ok != want || ok && (len(content) != size/2 || len(mac) != f.mac) || !ok && (content != nil || mac != nil) {
					t.Errorf("version %c, %d characters after %d: %x and %x, %v", version, n, header, content, mac, ok)
				}
			}
		}
		good := strings.Repeat("A", 2*f.block+2*f.mac)
		for _, bad := range []string{good[1:] + "a", good[1:] + "G", good[1:] + " ", "g" + good[1:]} {
			if _, _, ok := split(bad, 16, f); ok {
				t.Errorf("version %c: %q is split", version, bad)
			}
		}
	}
}

// TestDeclaredLength: the length of the key inside an authentic block may be anything; only what fits is believed.
func TestDeclaredLength(t *testing.T) {
	t.Parallel()
	p := testProtector(t, 32)
	for _, c := range []struct {
		algorithm byte
		size      int // of the content
		bits      int
		ok        bool
	}{
		{'A', 48, 128, true}, {'A', 48, 192, true}, {'A', 48, 256, true}, {'A', 32, 128, true}, {'H', 48, 256, true},
		{'T', 32, 64, true}, {'T', 32, 128, true}, {'T', 32, 192, true}, {'R', 48, 46 * 8, true}, {'R', 48, 8, true},
		{'A', 16, 128, false}, {'A', 32, 256, false}, {'R', 48, 47 * 8, false}, {'R', 16, 65528, false}, {'R', 48, 0, false},
		{'R', 48, 127, false}, {'R', 48, 65535, false}, {'A', 48, 64, false}, {'A', 48, 136, false}, {'T', 32, 72, false},
		{'H', 48, 8, false},
	} {
		content := make([]byte, c.size)
		for i := range content {
			content[i] = byte(i)
		}
		content[0], content[1] = byte(c.bits>>8), byte(c.bits)
		block, _ := authenticated(t, p, fmt.Sprintf("D0000D0%cB00N0000", c.algorithm), content)
		got, err := p.Unwrap(block)
		if c.ok != (err == nil) || err != nil && !errors.Is(err, ErrBlock) {
			t.Errorf("%c, %d bits in %d bytes: %v", c.algorithm, c.bits, c.size, err)
		}
		if err == nil && !bytes.Equal(got.Material().Expose(), content[2:2+c.bits/8]) {
			t.Errorf("%c, %d bits in %d bytes: material %x", c.algorithm, c.bits, c.size, got.Material().Expose())
		}
		if err != nil && got.Material().Len() != 0 {
			t.Errorf("%c, %d bits in %d bytes: material with an error", c.algorithm, c.bits, c.size)
		}
	}
}

// TestLengthIsHidden: the length of a block tells the algorithm, not the length of its key.
func TestLengthIsHidden(t *testing.T) {
	t.Parallel()
	p := testProtector(t, 32)
	lengths := make(map[byte]int)
	for a := keys.TDES2; a <= keys.HMAC256; a++ {
		u, m := keys.UsageData, keys.ModeBoth
		if a.IsHMAC() {
			u, m = keys.UsageHMAC, keys.ModeGenVerify
		}
		k, err := keys.GenerateKey(attributes(a, u, m))
		if err != nil {
			t.Fatal(err)
		}
		block, err := p.Wrap(k)
		if err != nil {
			t.Fatal(err)
		}
		if want, ok := lengths[a.Letter()]; ok && want != len(block) {
			t.Errorf("%v: %d characters, a shorter key has %d", a, len(block), want)
		}
		lengths[a.Letter()] = len(block)
	}
}

// TestMalleability changes every character of a block to every other printable one.
func TestMalleability(t *testing.T) {
	t.Parallel()
	p := testProtector(t, 32)
	k, err := keys.GenerateKey(attributes(keys.AES128, keys.UsageInitialKey, keys.ModeDerive))
	if err != nil {
		t.Fatal(err)
	}
	block, err := p.Wrap(k, OptionalBlock{OptionalIK, "1234567890123456"})
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for i := range block {
		for _, changed := range []string{block[:i], block[:i] + block[i+1:], block[:i] + "0" + block[i:]} {
			if _, err := p.Unwrap(changed); !errors.Is(err, ErrBlock) {
				t.Fatalf("cut, without or with one more character at %d: %v", i, err)
			}
		}
		for c := byte(0x1f); c < 0x80; c++ {
			if c == block[i] {
				continue
			}
			changed := block[:i] + string(rune(c)) + block[i+1:]
			if _, err := p.Unwrap(changed); !errors.Is(err, ErrBlock) && !errors.Is(err, ErrVersion) {
				t.Fatalf("character %d as %q: %v", i, c, err)
			}
			tried++
		}
	}
	for name, changed := range map[string]string{
		"lower case": block[:48] + strings.ToLower(block[48:]), "a space behind": block + " ", "a line end behind": block + "\n",
	} {
		if _, err := p.Unwrap(changed); changed == block || !errors.Is(err, ErrBlock) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if tried < 10000 {
		t.Errorf("only %d changes tried", tried)
	}
}

func TestOtherVersionsAreRefused(t *testing.T) {
	t.Parallel()
	p := testProtector(t, 32)
	tdes := tdesProtector(t, 16)
	for _, v := range []string{"A", "B", "C", "D"} {
		block := v + "0072K0TN00N0000F40D5672C6D0EC86F860BA88D44D00F0CA9A8CE8CD2F640287A9A9EB"
		if _, err := p.Unwrap(block); errors.Is(err, ErrVersion) != (v != "D") {
			t.Errorf("version %s under AES: %v", v, err)
		}
		if _, err := tdes.Unwrap(block); errors.Is(err, ErrVersion) != (v == "D") {
			t.Errorf("version %s under TDES: %v", v, err)
		}
	}
}

func TestPrint(t *testing.T) {
	t.Parallel()
	p := testProtector(t, 32)
	raw := []byte("sixteen secrets!")
	k, err := keys.NewKey(attributes(keys.AES128, keys.UsageData, keys.ModeBoth), raw)
	if err != nil {
		t.Fatal(err)
	}
	block, err := p.Wrap(k)
	if err != nil {
		t.Fatal(err)
	}
	content, err := p.Unwrap(block)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	log := slog.New(slog.NewJSONHandler(&out, nil))
	text := slog.New(slog.NewTextHandler(&out, nil))
	type holder struct {
		c  Content
		pc *Content
		p  *Protector
		v  Protector
	}
	h := holder{content, &content, p, *p}
	for _, v := range []any{p, *p, content, &content, []Content{content}, map[string]any{"c": content}, h, &h, []*holder{&h}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "% x", "%q", "%d", "%p", "%o", "%b", "%c", "%U", "%t", "%e"} {
			fmt.Fprintf(&out, verb, v)
		}
		log.Info("v", "v", v)
		text.Info("v", "v", v)
		if b, err := json.Marshal(v); err == nil {
			out.Write(b)
		}
	}
	for _, leak := range []string{string(raw), hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)), fmt.Sprint(raw)[1:20], "5a5a5a", "90 90 90"} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("printed %q", leak)
		}
	}
}

// derivedKey is the counter-mode derivation of ANSI X9.143, 7.2.1, written a second time.
func derivedKey(t *testing.T, kbpk []byte, purpose byte) []byte {
	t.Helper()
	b, err := aes.NewCipher(kbpk)
	if err != nil {
		t.Fatal(err)
	}
	var out []byte
	for i := byte(1); len(out) < len(kbpk); i++ {
		in := []byte{i, 0, purpose, 0, 0, map[int]byte{16: 2, 24: 3, 32: 4}[len(kbpk)], map[int]byte{16: 0, 24: 0, 32: 1}[len(kbpk)], map[int]byte{16: 128, 24: 192, 32: 0}[len(kbpk)], 0x80, 0, 0, 0, 0, 0, 0, 0}
		k := make([]byte, 16)
		b.Encrypt(k, k)
		for range 2 { // K2
			carry := k[0] >> 7
			for j := range 15 {
				k[j] = k[j]<<1 | k[j+1]>>7
			}
			k[15] = k[15]<<1 ^ 0x87*carry
		}
		for j := range in {
			in[j] ^= k[j]
		}
		b.Encrypt(in, in)
		out = append(out, in...)
	}
	return out[:len(kbpk)]
}

func TestDerive(t *testing.T) {
	t.Parallel()
	for _, size := range []int{16, 24, 32} {
		kbpk := bytes.Repeat([]byte{0x5a}, size)
		w, err := testProtector(t, size).working('D')
		if err != nil {
			t.Fatal(err)
		}
		for purpose, got := range map[byte]cipher.Block{0: w.enc, 1: w.auth} {
			want, err := aes.NewCipher(derivedKey(t, kbpk, purpose))
			if err != nil {
				t.Fatal(err)
			}
			var a, b [16]byte
			got.Encrypt(a[:], a[:])
			want.Encrypt(b[:], b[:])
			if a != b {
				t.Errorf("%d bits, purpose %d: other keys", 8*size, purpose)
			}
		}
	}
}
