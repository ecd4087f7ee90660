//go:build planted

package keyring

import (
	"testing"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// TestPlantedRewrapEarly makes the successor the local master key before everything is under it: a cut then loses the ring.
func TestPlantedRewrapEarly(t *testing.T) {
	planted.Set(planted.RewrapEarly)
	defer planted.Set()
	if lost, _ := cuts(t); lost == 0 {
		t.Error("nobody notices")
	}
}
