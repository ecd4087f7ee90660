package idtech_test

import (
	"errors"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt/idtech"
	"github.com/latchkey-pos/latchkey/internal/fipstest"
)

// TestFIPSOnly runs itself in a process with Go's FIPS mode enforced, where SHA-1 panics: a frame is read, and its tracks are
// refused without a panic, whatever they are.
func TestFIPSOnly(t *testing.T) {
	t.Parallel()
	fipstest.Enforced(t, func(t *testing.T) {
		s, err := idtech.Parse(published(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, clear := range [][]byte{make([]byte, len(s.Ciphertext)), nil} {
			if _, _, err := s.Split(clear); !errors.Is(err, idtech.ErrForbidden) {
				t.Errorf("%d bytes: got %v, want ErrForbidden", len(clear), err)
			}
		}
	})
}
