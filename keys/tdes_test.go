package keys_test

import (
	"bytes"
	stddes "crypto/des"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/keys"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// dual pairs each weak key with itself and each semi-weak one with its partner: what one encrypts the other encrypts back.
var dual = map[string]string{
	"0101010101010101": "0101010101010101", "FEFEFEFEFEFEFEFE": "FEFEFEFEFEFEFEFE",
	"1F1F1F1F0E0E0E0E": "1F1F1F1F0E0E0E0E", "E0E0E0E0F1F1F1F1": "E0E0E0E0F1F1F1F1",
	"01FE01FE01FE01FE": "FE01FE01FE01FE01", "1FE01FE00EF10EF1": "E01FE01FF10EF10E",
	"01E001E001F101F1": "E001E001F101F101", "1FFE1FFE0EFE0EFE": "FE1FFE1FFE0EFE0E",
	"011F011F010E010E": "1F011F010E010E01", "E0FEE0FEF1FEF1FE": "FEE0FEE0FEF1FEF1",
}

// weak returns all 16, after asking DES whether they are.
func weak(t *testing.T) []string {
	t.Helper()
	seen := map[string]bool{}
	var list []string
	for a, b := range dual {
		one, err := stddes.NewCipher(unhex(t, a))
		if err != nil {
			t.Fatal(err)
		}
		other, err := stddes.NewCipher(unhex(t, b))
		if err != nil {
			t.Fatal(err)
		}
		block := []byte("any text")
		one.Encrypt(block, block)
		other.Encrypt(block, block)
		if string(block) != "any text" {
			t.Fatalf("%s and %s are no pair", a, b)
		}
		for _, s := range []string{a, b} {
			if !seen[s] {
				list = append(list, s)
			}
			seen[s] = true
		}
	}
	if len(list) != 16 {
		t.Fatalf("%d weak keys", len(list))
	}
	return list
}

// TestImportKeyRefusesWeakParts: in every place, with either parity, and not when one bit of key is another.
func TestImportKeyRefusesWeakParts(t *testing.T) {
	t.Parallel()
	parts := []string{"0123456789ABCDEF", "FEDCBA9876543210", "89ABCDEF01234567"}
	for _, w := range weak(t) {
		for _, a := range []keys.Algorithm{keys.TDES2, keys.TDES3} {
			for place := range a.KeyBytes() / 8 {
				p := bytes.Clone(unhex(t, strings.Join(parts[:a.KeyBytes()/8], "")))
				copy(p[8*place:], unhex(t, w))
				for _, parity := range []keys.Parity{keys.ParityAdjusted, keys.ParityRequired, keys.ParityIgnored} {
					_, err := keys.ImportKey(attributes(a), parity, p)
					if !errors.Is(err, keys.ErrWeak) && parity != keys.ParityRequired {
						t.Errorf("%s as part %d of %v: %v", w, place+1, a, err)
					}
				}
				k, err := keys.NewKey(attributes(a), p)
				if err != nil {
					t.Errorf("NewKey refuses %s as part %d of %v: %v", w, place+1, a, err)
				}
				if err := k.CheckWeak(); !errors.Is(err, keys.ErrWeak) {
					t.Errorf("%s as part %d of %v is not weak: %v", w, place+1, a, err)
				}
				p[8*place+3] ^= 1
				if _, err := keys.ImportKey(attributes(a), keys.ParityIgnored, p); !errors.Is(err, keys.ErrWeak) {
					t.Errorf("%s with another parity as part %d of %v: %v", w, place+1, a, err)
				}
				p[8*place+3] ^= 2
				k, err = keys.ImportKey(attributes(a), keys.ParityIgnored, p)
				if err != nil || k.CheckWeak() != nil {
					t.Errorf("beside %s as part %d of %v: %v, %v", w, place+1, a, err, k.CheckWeak())
				}
			}
		}
	}
}

func TestCheckWeakOfNoKey(t *testing.T) {
	t.Parallel()
	if err := (keys.Key{}).CheckWeak(); !errors.Is(err, keys.ErrWeak) {
		t.Errorf("no key: %v", err)
	}
	k, err := keys.GenerateKey(attributes(keys.TDES3))
	if err != nil {
		t.Fatal(err)
	}
	k.Wipe()
	if err := k.CheckWeak(); !errors.Is(err, keys.ErrWeak) {
		t.Errorf("a wiped key: %v", err)
	}
}

func TestImportKey(t *testing.T) {
	t.Parallel()
	zeros, odd := strings.Repeat("00", 16), "0123456789ABCDEFFEDCBA9876543210"
	for _, c := range []struct {
		name     string
		a        keys.Algorithm
		p        keys.Parity
		material string
		want     string // what the key is; empty for a refusal
		err      error
	}{
		{"odd, required", keys.TDES2, keys.ParityRequired, odd, odd, nil},
		{"odd, adjusted", keys.TDES2, keys.ParityAdjusted, odd, odd, nil},
		{"odd, ignored", keys.TDES2, keys.ParityIgnored, odd, odd, nil},
		{"first byte even, required", keys.TDES2, keys.ParityRequired, "0023456789ABCDEFFEDCBA9876543210", "", keys.ErrParity},
		{"last byte even, required", keys.TDES2, keys.ParityRequired, "0123456789ABCDEFFEDCBA9876543211", "", keys.ErrParity},
		{"all even, adjusted", keys.TDES2, keys.ParityAdjusted, "0022446688AACCEEFFDDBB9977553311", odd, nil},
		{"one even, ignored", keys.TDES2, keys.ParityIgnored, "0023456789ABCDEFFEDCBA9876543210", "0023456789ABCDEFFEDCBA9876543210", nil},
		{"3TDEA", keys.TDES3, keys.ParityRequired, odd + "89ABCDEF01234567", odd + "89ABCDEF01234567", nil},
		{"3TDEA, outer parts equal", keys.TDES3, keys.ParityAdjusted, odd + odd[:16], "", keys.ErrWeak},
		{"3TDEA, outer parts equal but for parity", keys.TDES3, keys.ParityIgnored, odd + "0022446688AACCEE", "", keys.ErrWeak},
		{"3TDEA, first two equal", keys.TDES3, keys.ParityAdjusted, odd[:16] + odd, "", keys.ErrWeak},
		{"3TDEA, last two equal", keys.TDES3, keys.ParityAdjusted, odd + odd[16:], "", keys.ErrWeak},
		{"2TDEA, equal halves", keys.TDES2, keys.ParityAdjusted, odd[:16] + odd[:16], "", keys.ErrWeak},
		{"2TDEA of zeros", keys.TDES2, keys.ParityAdjusted, zeros, "", keys.ErrWeak},
		{"AES of zeros", keys.AES128, keys.ParityAdjusted, zeros, "", keys.ErrWeak},
		{"AES with one bit", keys.AES128, keys.ParityRequired, zeros[:31] + "1", zeros[:31] + "1", nil},
		{"AES with one bit in front", keys.AES128, keys.ParityAdjusted, "80" + zeros[2:], "80" + zeros[2:], nil},
		{"HMAC of zeros", keys.HMAC128, keys.ParityIgnored, zeros, "", keys.ErrWeak},
		{"too short", keys.TDES2, keys.ParityIgnored, odd[:30], "", keys.ErrLength},
		{"too long", keys.AES128, keys.ParityIgnored, odd + "00", "", keys.ErrLength},
		{"single DES", keys.TDES2, keys.ParityIgnored, odd[:16], "", keys.ErrLength},
		{"no parity", keys.TDES2, 0, odd, "", nil},
		{"unknown parity", keys.AES128, 4, odd, "", nil},
		{"no algorithm", 0, keys.ParityIgnored, odd, "", nil},
	} {
		k, err := keys.ImportKey(attributes(c.a), c.p, unhex(t, c.material))
		if (err == nil) != (c.want != "") || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := fmt.Sprintf("%X", k.Material().Expose()); got != c.want {
			t.Errorf("%s: key %s, want %s", c.name, got, c.want)
		}
	}
}

// TestImportKeyCopies: the caller's bytes stay as they are.
func TestImportKeyCopies(t *testing.T) {
	t.Parallel()
	even := unhex(t, "0022446688AACCEEFFDDBB9977553311")
	own := bytes.Clone(even)
	if _, err := keys.ImportKey(attributes(keys.TDES2), keys.ParityAdjusted, own); err != nil || !bytes.Equal(own, even) {
		t.Errorf("%x, %v", own, err)
	}
}

func TestParityWords(t *testing.T) {
	t.Parallel()
	for p, word := range map[keys.Parity]string{keys.ParityAdjusted: "adjusted", keys.ParityRequired: "required", keys.ParityIgnored: "ignored"} {
		if got, err := keys.ParseParity(word); err != nil || got != p || p.String() != word {
			t.Errorf("%s is %v, %v", word, got, err)
		}
	}
	for _, word := range []string{"", "odd", "Adjusted", "Parity(0)"} {
		if got, err := keys.ParseParity(word); err == nil || got != 0 {
			t.Errorf("%q is %v", word, got)
		}
	}
	if got := keys.Parity(0).String() + keys.Parity(4).String(); got != "Parity(0)Parity(4)" {
		t.Errorf("unknown parities print as %s", got)
	}
}
