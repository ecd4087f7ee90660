//go:build planted

package postgres

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// TestPlantedStandbyUnconfirmed proves that TestStandbyAway can fail. Planted faults are global: nothing here runs in parallel.
func TestPlantedStandbyUnconfirmed(t *testing.T) {
	_, standby, s, o := pair(t)
	planted.Set(planted.StandbyUnconfirmed)
	defer planted.Set()
	if standbyAway(t, standby, s, o) == 0 {
		t.Error("a claim that the standby does not have is not missed")
	}
}

// TestPlantedLagUnnoticed proves that TestLagOfOthers can fail.
func TestPlantedLagUnnoticed(t *testing.T) {
	planted.Set(planted.LagUnnoticed)
	defer planted.Set()
	if released := lagOfOthers(t, false); released == 0 {
		t.Error("a standby that lacks claims is not missed")
	}
}

// TestPlantedClaimUnchecked proves that TestReplicas can fail.
func TestPlantedClaimUnchecked(t *testing.T) {
	planted.Set(planted.ClaimUnchecked)
	defer planted.Set()
	stores, _ := replicas(t, 2)
	twice := 0
	for n := range uint32(200) {
		var fresh atomic.Int32
		var wg sync.WaitGroup
		for i, s := range stores {
			wg.Go(func() {
				if _, err := s.Claim(t.Context(), claimSet(fmt.Sprint(i, n), 1, n+1)); err == nil {
					fresh.Add(1)
				}
			})
		}
		wg.Wait()
		if fresh.Load() > 1 {
			twice++
		}
	}
	t.Logf("%d of 200 keys released for two contents", twice)
	if twice == 0 {
		t.Error("two contents of one key are not released")
	}
}
