package crockford_test

import (
	"bytes"
	"errors"
	"math/big"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/crockford"
)

// TestAppend compares with big integers, which cut five bits off the other end.
func TestAppend(t *testing.T) {
	t.Parallel()
	b := []byte{0x00, 0x44, 0x32, 0x14, 0xc7, 0x42, 0x54, 0xb6, 0x35, 0xcf, 0x84, 0x65, 0x3a, 0x56, 0xd7, 0xc6, 0x75, 0xbe, 0x77, 0xdf}
	got := string(crockford.Append(nil, b, 32))
	if got != crockford.Alphabet {
		t.Errorf("the 32 values in order: %s, want %s", got, crockford.Alphabet)
	}
	want := ""
	for v := new(big.Int).SetBytes(b[:5]); len(want) < 8; v.Rsh(v, 5) {
		want = string(crockford.Alphabet[v.Uint64()&31]) + want
	}
	if got := string(crockford.Append(nil, b[:5], 8)); got != want {
		t.Errorf("five bytes: %s, want %s", got, want)
	}
}

func TestCheckFindsMistakes(t *testing.T) {
	t.Parallel()
	code := []byte("4XQ7M2B9KTD0")
	check := crockford.Check(code)
	for i := range code {
		for _, c := range []byte(crockford.Alphabet) {
			wrong := bytes.Clone(code)
			wrong[i] = c
			if c != code[i] && crockford.Check(wrong) == check {
				t.Errorf("%s and %s share the check character", code, wrong)
			}
		}
		if i > 0 && code[i] != code[i-1] {
			wrong := bytes.Clone(code)
			wrong[i], wrong[i-1] = wrong[i-1], wrong[i]
			if crockford.Check(wrong) == check {
				t.Errorf("%s and %s share the check character", code, wrong)
			}
		}
	}
}

func TestNormalize(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]string{
		"4XQ7-M2B9-KTD0": "4XQ7M2B9KTD0", "4xq7 m2b9 ktdo": "4XQ7M2B9KTD0", "ilO": "110", "": "", "12U": "12U", "1*": "1*",
	} {
		if got, err := crockford.Normalize(nil, []byte(typed)); err != nil || string(got) != want {
			t.Errorf("Normalize(%q) = %q, %v, want %q", typed, got, err, want)
		}
	}
	for _, typed := range []string{"12U4", "1*2", "ä", "1_2", "1\x00"} {
		if got, err := crockford.Normalize(nil, []byte(typed)); !errors.Is(err, crockford.ErrText) {
			t.Errorf("Normalize(%q) = %q, %v", typed, got, err)
		}
	}
}
