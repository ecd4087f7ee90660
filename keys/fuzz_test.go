package keys_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/keys"
)

// FuzzParse gives the same text to every parser of the package: what is read has the same text again, but for the case of
// hexadecimal digits.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"08D7B4", "08793E25AB", "08793e25ab", "00112233445566778899aabbccddeeff", "AES-128", "2TDEA", "HMAC-256", "B0", "P0", "X", "E", "",
		"legacy:08D7B4", "cmac:08793e25ab", "cmac-short:08793E", "hmac:B61367", "cmac", "adjusted", "required",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := keys.ParseKCV(s); err == nil && (k.String() != strings.ToUpper(s) || k.IsZero()) {
			t.Errorf("check value %q is written %q", s, k)
		}
		if p, err := keys.ParseFingerprint(s); err == nil && p.String() != strings.ToLower(s) {
			t.Errorf("fingerprint %q is written %q", s, p)
		}
		if a, err := keys.ParseAlgorithm(s); err == nil && (a.String() != s || !a.IsValid() || a.KeyBytes() < 16) {
			t.Errorf("algorithm %q is written %q", s, a)
		}
		if u, err := keys.ParseUsage(s); err == nil && string(u) != s {
			t.Errorf("usage %q is written %q", s, u)
		}
		if v, err := keys.ParseCheckValue(s); err == nil {
			kind, digits, _ := strings.Cut(s, ":")
			if v.String() != kind+":"+strings.ToUpper(digits) || v.Kind.String() != kind || v.IsZero() {
				t.Errorf("check value %q is written %q", s, v)
			}
		}
		if k, err := keys.ParseKCVKind(s); err == nil && (k.String() != s || k.Bytes() < 3) {
			t.Errorf("kind %q is written %q", s, k)
		}
		if p, err := keys.ParseParity(s); err == nil && p.String() != s {
			t.Errorf("parity %q is written %q", s, p)
		}
		if len(s) != 1 {
			return
		}
		if m, err := keys.ParseMode(s[0]); err == nil && m.String() != s {
			t.Errorf("mode %q is written %q", s, m)
		}
		if e, err := keys.ParseExportability(s[0]); err == nil && e.String() != s {
			t.Errorf("exportability %q is written %q", s, e)
		}
	})
}

// FuzzParseComponent: a component is exactly the digits that were read, with or without single spaces between groups of four,
// as the standard library reads them, and nothing else is one.
func FuzzParseComponent(f *testing.F) {
	for _, s := range []string{
		"0123456789ABCDEFFEDCBA9876543210", "0123 4567 89ab cdef FEDC BA98 7654 3210", "0123456789ABCDEFFEDCBA987654321G",
		"01010101010101010101010101010101", "0123  567 89AB CDEF FEDC BA98 7654 3210", "",
	} {
		for a := range uint8(10) {
			f.Add(a, []byte(s))
		}
	}
	f.Fuzz(func(t *testing.T, algorithm uint8, digits []byte) {
		a, before := keys.Algorithm(algorithm), bytes.Clone(digits)
		c, err := keys.ParseComponent(a, digits)
		if !bytes.Equal(digits, before) {
			t.Fatal("the caller's digits changed")
		}
		packed := strings.ReplaceAll(string(digits), " ", "")
		raw, herr := hex.DecodeString(packed)
		grouped := len(digits) == len(packed) || strings.TrimRight(groups(packed), " ") == string(digits)
		want := a.IsValid() && herr == nil && len(raw) == a.KeyBytes() && grouped
		if want {
			_, nerr := keys.NewComponent(a, raw)
			want = nerr == nil
		}
		if (err == nil) != want || (err == nil) == c.IsZero() {
			t.Fatalf("%v of %q: %v, want success %t", a, digits, err, want)
		}
		if err != nil {
			return
		}
		defer c.Wipe()
		s := keys.Sheet{Number: 1, Of: 2, Component: c}
		if s.CheckValue, err = c.CheckValue(a.CheckValueKind()); err != nil {
			t.Fatal(err)
		}
		text, err := s.Text()
		if err != nil {
			t.Fatal(err)
		}
		value := strings.TrimPrefix(strings.Split(string(text.Expose()), "\n")[2], "value: ")
		if value != strings.TrimRight(groups(strings.ToUpper(packed)), " ") {
			t.Fatalf("%q is written %q", digits, value)
		}
	})
}

// groups puts a space after every fourth digit.
func groups(s string) string {
	var b strings.Builder
	for i, c := range []byte(s) {
		b.WriteByte(c)
		if i%4 == 3 {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// FuzzParseSheet: a sheet that is read has one way to be written, which differs from what was read in the case of digits, in
// the spaces of the value and in the last line end only, and reads back as the same sheet.
func FuzzParseSheet(f *testing.F) {
	for _, s := range []string{
		sheetText, strings.TrimSuffix(sheetText, "key-kcv: cmac:0102030405\n"), strings.ReplaceAll(sheetText, " ", ""),
		"component: 2 of 2\nalgorithm: AES-128\nvalue: 0123456789abcdeffedcba9876543210\nkcv: cmac:0102030405", "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		s, err := keys.ParseSheet(text)
		if !bytes.Equal(text, before) {
			t.Fatal("the caller's text changed")
		}
		if err != nil {
			return
		}
		defer s.Wipe()
		written, err := s.Text()
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		fold := func(b []byte) string {
			return strings.ToUpper(strings.ReplaceAll(strings.TrimSuffix(string(b), "\n"), " ", ""))
		}
		if fold(written.Expose()) != fold(text) {
			t.Fatalf("%q is written %q", text, written.Expose())
		}
		back, err := keys.ParseSheet(written.Expose())
		if err != nil {
			t.Fatalf("%q: %v", written.Expose(), err)
		}
		again, err := back.Text()
		if err != nil || !again.Equal(written) {
			t.Fatalf("%q is written again %q, %v", text, again.Expose(), err)
		}
	})
}
