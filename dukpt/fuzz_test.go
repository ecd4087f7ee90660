package dukpt

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// FuzzParseShortKSN: eight bytes are the KSN with FF before them, or none where that is none; nothing else is.
func FuzzParseShortKSN(f *testing.F) {
	for _, s := range []string{"FFFF9876543210E00001", "FFFF9876543210FFF800", "FFFFFFFFFFFFFFE00001"} {
		f.Add(mustKSN(f, s).Append(nil)[2:])
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseShortKSN(b)
		whole := append([]byte{0xFF, 0xFF}, b...)
		if good := len(b) == 8 && reachable(whole); good != (err == nil) {
			t.Fatalf("ParseShortKSN(%X) = %v, %v, want success %v", b, k, err, good)
		}
		if err != nil {
			if !errors.Is(err, ErrKSN) || !k.IsZero() {
				t.Fatalf("ParseShortKSN(%X) = %v, %v", b, k, err)
			}
			return
		}
		if !bytes.Equal(k.Append(nil), whole) || k.Scheme() != TDES {
			t.Fatalf("%X is written as %X of %v", b, k.Append(nil), k.Scheme())
		}
	})
}

// FuzzParseKeyID: what is read has one spelling in each form, and stands between its neighbours.
func FuzzParseKeyID(f *testing.F) {
	for _, s := range []string{
		"FFFF9876543210E00000", "1234567890123456", "123456789012345600000000", "ffff9876543210e00000", "FFFF9876543210E00001", "", "12345678901234567",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseKeyID(s)
		if err != nil {
			if !errors.Is(err, ErrKSN) || !id.IsZero() {
				t.Fatalf("ParseKeyID(%q) = %v, %v", s, id, err)
			}
			return
		}
		want := strings.ToUpper(s)
		if len(s) == 24 {
			want = strings.TrimSuffix(want, "00000000")
		}
		if id.String() != want {
			t.Fatalf("%q is written as %v", s, id)
		}
		again, err := ParseKeyID(id.String())
		if err != nil || again != id || !id.canonical() {
			t.Fatalf("%v reads as %v, %v", id, again, err)
		}
		var binary KeyID
		if err := binary.UnmarshalBinary(id.Append(nil)); err != nil || binary != id {
			t.Fatalf("%X reads as %v, %v", id.Append(nil), binary, err)
		}
		if next, ok := id.Next(); ok && (next.Compare(id) <= 0 || next.Scheme() != id.Scheme()) {
			t.Fatalf("after %v comes %v", id, next)
		}
		if first, err := id.AtOrdinal(1); err != nil || first.KeyID() != id {
			t.Fatalf("the first KSN of %v is %v, %v", id, first, err)
		}
	})
}

// FuzzDescriptor: what a descriptor reads is what stands there behind as many F as are missing, and it splits into what was
// put together, but for the bit of the device id that lies in the counter's digits.
func FuzzDescriptor(f *testing.F) {
	for _, seed := range [][2]string{
		{"605", "9876543210E00001"}, {"906", "FFFF9876543210E00001"}, {"a05", "FFFF9876543210F00001"}, {"101", "12E0001"},
		{"605", "9876543210E00000"}, {"605", "987654321000001"}, {"F01", ""}, {"050", "1"}, {"65", "9876543210E00001"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, digits, text string) {
		d, err := ParseDescriptor(digits)
		if err != nil {
			if !errors.Is(err, ErrKSN) || d != (Descriptor{}) {
				t.Fatalf("ParseDescriptor(%q) = %v, %v", digits, d, err)
			}
			return
		}
		if d.String() != strings.ToUpper(digits) {
			t.Fatalf("%q is written as %v", digits, d)
		}
		k, err := d.Parse(text)
		if err != nil {
			if !errors.Is(err, ErrKSN) || !k.IsZero() {
				t.Fatalf("%v reads %q as %v, %v", d, text, k, err)
			}
			return
		}
		filling := strings.Repeat("F", 20-len(text))
		if want := filling + strings.ToUpper(text); len(text) != d.digits() || k.String() != want {
			t.Fatalf("%v reads %q as %v", d, text, k)
		}
		keySet, subKey, device, err := d.Split(k)
		ids := keySet + subKey + device
		if want := strings.ToUpper(text[:len(text)-counterDigits]); err != nil || ids != want && ids != withoutLastBit(want) {
			t.Fatalf("%v splits %v into %s %s %s, %v", d, k, keySet, subKey, device, err)
		}
	})
}

// withoutLastBit returns hex digits with the lowest bit zero.
func withoutLastBit(s string) string {
	const digits = "0123456789ABCDEF"
	last := strings.IndexByte(digits, s[len(s)-1])
	return s[:len(s)-1] + digits[last&^1:][:1]
}
