//go:build planted

package decrypt_test

import (
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/planted"
)

// TestPlantedClaimGuard proves that the guard of the claims can be missed. It does not run in parallel: the fault is global.
func TestPlantedClaimGuard(t *testing.T) {
	claim, row := judged(1, decrypt.PurposeMAC), contents(1)
	if r := decrypt.Judge(decrypt.KeyIDState{}, row, claim); r.Code != decrypt.CodeKSNReplayed {
		t.Fatalf("with the guard: %v %s", r.Verdict, r.Code)
	}
	planted.Set(planted.GuardClaim)
	defer planted.Set()
	if r := decrypt.Judge(decrypt.KeyIDState{}, row, claim); r.Verdict != decrypt.Fresh {
		t.Errorf("without the guard: %v %s, want FRESH", r.Verdict, r.Code)
	}
}
