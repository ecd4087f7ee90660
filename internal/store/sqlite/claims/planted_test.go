//go:build planted

package claims

import (
	"testing"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// TestPlantedClaimAfterAnswer proves that the durability test can fail. It does not run in parallel: the fault is global.
func TestPlantedClaimAfterAnswer(t *testing.T) {
	planted.Set(planted.ClaimAfterAnswer)
	defer planted.Set()
	total := 0
	for _, missing := range durable(t) {
		total += missing
	}
	if total == 0 {
		t.Error("claims that are acknowledged before their commit are not missed")
	}
}
