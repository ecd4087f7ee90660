//go:build planted

package decrypt_test

import (
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
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

// TestPlantedImportUnfloored has an import that ignores its floor: what another host has answered is answered again.
func TestPlantedImportUnfloored(t *testing.T) {
	claim := judged(7, decrypt.PurposeMAC, func(c *decrypt.Claim) { c.Floor = 9 })
	if r := decrypt.Judge(decrypt.KeyIDState{}, nil, claim); r.Code != decrypt.CodeKSNTooOld {
		t.Fatalf("with the floor: %v %s", r.Verdict, r.Code)
	}
	planted.Set(planted.ImportUnfloored)
	defer planted.Set()
	if r := decrypt.Judge(decrypt.KeyIDState{}, nil, claim); r.Verdict != decrypt.Fresh {
		t.Errorf("without the floor: %v %s, want FRESH", r.Verdict, r.Code)
	}
}

// TestPlantedClaimGuardOfCalls proves that the guard can be missed in calls outside of messages.
func TestPlantedClaimGuardOfCalls(t *testing.T) {
	l := newLaboratory(t, dukpt.AES)
	must[*decrypt.CallResult](t)(l.service.DecryptData(t.Context(), l.caller, l.card(1, testTrack)))
	other := l.card(1, ";5413330089020011=2212")
	if _, err := l.service.DecryptData(t.Context(), l.caller, other); codeOf(err) != decrypt.CodeKSNReplayed {
		t.Fatalf("with the guard: %v", err)
	}
	planted.Set(planted.GuardClaim)
	defer planted.Set()
	if _, err := l.service.DecryptData(t.Context(), l.caller, other); err != nil {
		t.Errorf("without the guard: %v, want it released", err)
	}
}

// TestPlantedSearchForPINs proves that the search of TestSearchingForPINs finds its way where nothing limits it.
func TestPlantedSearchForPINs(t *testing.T) {
	h := newHall(t, decrypt.Limits{})
	planted.Set(planted.PINsUnlimited)
	defer planted.Set()
	for i := range 100 {
		if _, err := h.service.TranslatePIN(t.Context(), h.caller, h.zoned(t, fmt.Sprintf("%04d", i), testPAN)); err != nil {
			t.Fatalf("number %d: %v, want all of them", i, err)
		}
	}
}
