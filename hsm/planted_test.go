//go:build planted && cgo && !nohsm

package hsm

import (
	"testing"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// TestPlantedTokenError shows that the losses of TestServedLosses notice when an error of the token is not looked at: the zone
// gets a block of zeros.
func TestPlantedTokenError(t *testing.T) {
	planted.Set(planted.TokenErrorIgnored)
	t.Cleanup(func() { planted.Set() })
	var r served
	r.run(t, 50)
	if r.wrong.Load() == 0 {
		t.Errorf("%d right, %d refused, and no wrong answer", r.right.Load(), r.refused.Load())
	}
}
