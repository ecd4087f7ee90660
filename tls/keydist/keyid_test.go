package keydist_test

import (
	"errors"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

// TestNextKeyID steps over the boundaries of bytes, over the counter and to the end of each scheme.
func TestNextKeyID(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ first, last, given, want string }{
		{"FFFF9876543210E00000", "FFFFFFFFFFFFFFE00000", "", "FFFF9876543210E00000"},
		{"FFFF9876543210E00000", "FFFFFFFFFFFFFFE00000", "FFFF9876543210E00000", "FFFF9876543211000000"},
		{"FFFF9876543210E00000", "FFFFFFFFFFFFFFE00000", "FFFF98765432FFE00000", "FFFF9876543300000000"},
		{"FFFF9876543210E00000", "FFFFFFFFFFFFFFE00000", "FFFF98FFFFFFFFE00000", "FFFF9900000000000000"},
		{"FFFF9876543210E00000", "FFFFFFFFFFFFFFE00000", "FFFFFFFFFFFFFFE00000", ""},
		{"FFFF9876543210E00000", "FFFF9876543211000000", "FFFF9876543211000000", ""},
		{"0000000000000000", "FFFFFFFFFFFFFFFF", "", "0000000000000000"},
		{"0000000000000000", "FFFFFFFFFFFFFFFF", "00000000FFFFFFFF", "0000000100000000"},
		{"0000000000000000", "FFFFFFFFFFFFFFFF", "FFFFFFFFFFFFFFFF", ""},
		{"1234567800000001", "1234567800000001", "1234567800000001", ""},
	} {
		first, last := keyID(t, c.first), keyID(t, c.last)
		set := &keyset.KeySet{ID: "S", Scheme: first.Scheme(), FirstID: first, LastID: last}
		var given []dukpt.KeyID
		if c.given != "" {
			given = []dukpt.KeyID{first, {}, keyID(t, c.given), {}}
		}
		got, err := keydist.NextKeyID(set, given...)
		if c.want == "" {
			if !errors.Is(err, keydist.ErrNoKeyID) || !got.IsZero() {
				t.Errorf("after %s: %v, %v, want ErrNoKeyID", c.given, got, err)
			}
			continue
		}
		if err != nil || got != keyID(t, c.want) {
			t.Errorf("after %q: %v, %v, want %s", c.given, got, err, c.want)
		}
	}
}
