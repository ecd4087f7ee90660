//go:build planted

package keyblock

import (
	"errors"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// TestPlantedDeclaredLength shows that the fault does what FuzzUnwrap is to find: a key longer than its block is read.
func TestPlantedDeclaredLength(t *testing.T) {
	p := testProtector(t, 32)
	block, _ := authenticated(t, p, "D0000S0RS00N0000", append([]byte{0, 15 * 8}, make([]byte, 14)...))
	planted.Set(planted.ParseKeyBlock)
	t.Cleanup(func() { planted.Set() })
	if got, err := p.Unwrap(block); err != nil || got.Material().Len() != 15 {
		t.Errorf("with the fault on: %d bytes, %v", got.Material().Len(), err)
	}
	planted.Set()
	if _, err := p.Unwrap(block); !errors.Is(err, ErrBlock) {
		t.Errorf("with the fault off: %v", err)
	}
}
