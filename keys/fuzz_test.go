package keys_test

import (
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/keys"
)

// FuzzParse gives the same text to every parser of the package: what is read has the same text again, but for the case of
// hexadecimal digits.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"08D7B4", "08793E25AB", "08793e25ab", "00112233445566778899aabbccddeeff", "AES-128", "2TDEA", "HMAC-256", "B0", "P0", "X", "E", "",
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
