package keyblock

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/keys"
)

func testProtector(t testing.TB, size int) *Protector {
	t.Helper()
	p, err := protectorOf(bytes.Repeat([]byte{0x5a}, size))
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
	for _, ob := range []OptionalBlock{{"X", ""}, {"LB", "\x00"}, {"LB", "é"}, {"LB", strings.Repeat("x", 9999)}} {
		if _, err := p.Wrap(k, ob); err == nil {
			t.Errorf("optional block %.10q was written", ob)
		}
	}
	if _, err := NewProtector(k); err == nil {
		t.Error("a data key protects")
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
	if tried < 10000 {
		t.Errorf("only %d changes tried", tried)
	}
}

func TestOtherVersionsAreRefused(t *testing.T) {
	t.Parallel()
	p := testProtector(t, 32)
	for _, v := range []string{"A", "B", "C"} {
		if _, err := p.Unwrap(v + "0072K0TN00N0000F40D5672C6D0EC86F860BA88D44D00F0CA9A8CE8CD2F640287A9A9EB"); !errors.Is(err, ErrVersion) {
			t.Errorf("version %s: %v", v, err)
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
	for _, v := range []any{p, *p, content, &content, []Content{content}, map[string]any{"c": content}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d"} {
			fmt.Fprintf(&out, verb, v)
		}
		log.Info("v", "v", v)
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
		enc, auth, err := testProtector(t, size).derive()
		if err != nil {
			t.Fatal(err)
		}
		for purpose, got := range map[byte]interface{ Encrypt(dst, src []byte) }{0: enc, 1: auth} {
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

func FuzzUnwrap(f *testing.F) {
	p := testProtector(f, 16)
	known := make(map[string]bool)
	for _, optional := range [][]OptionalBlock{nil, {{OptionalIK, "1234567890123456"}}, {{OptionalLB, strings.Repeat("y", 260)}}} {
		// The fuzzer runs in several processes: padding is fixed here, so that all of them know the same blocks.
		h := Header{Version: 'D', Usage: "B1", Algorithm: 'A', Mode: keys.ModeDerive, KeyVersion: "00", Exportability: keys.NonExportable, Reserved: "00", Optional: optional}
		text, err := h.format(96)
		if err != nil {
			f.Fatal(err)
		}
		block, err := p.protect(text, append([]byte{0, 128}, make([]byte, 46)...))
		if err != nil {
			f.Fatal(err)
		}
		known[block] = true
		f.Add(block, uint(100), byte('A'))
	}
	f.Add("D0112B0TN00N0000", uint(3), byte('0'))
	f.Add("D0048P0AE00E0100KS0002001C", uint(3), byte('0'))
	f.Fuzz(func(t *testing.T, block string, at uint, c byte) {
		if h, err := Inspect(block); err == nil && h.Version == 'D' && known[block] {
			if _, err := p.Unwrap(block); err != nil {
				t.Fatalf("a block of ours is refused: %v", err)
			}
		}
		// Whatever the fuzzer made, a block that nobody wrapped is refused, and so is one of ours with one character changed.
		if !known[block] {
			if _, err := p.Unwrap(block); err == nil {
				t.Fatalf("accepted %q", block)
			}
			return
		}
		i := at % uint(len(block))
		changed := []byte(block)
		changed[i] = c
		if string(changed) == block {
			return
		}
		if _, err := p.Unwrap(string(changed)); err == nil {
			t.Fatalf("accepted %q with character %d changed to %q", block, i, c)
		}
	})
}
