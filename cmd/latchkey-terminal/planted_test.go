//go:build planted

package main

import (
	"testing"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// TestPlantedKill proves that the kill test sees what it looks for.
func TestPlantedKill(t *testing.T) {
	for _, fault := range []planted.Name{planted.QueueUnsaved, planted.StateUseFirst} {
		s := newTill(t)
		s.environment = []string{"LATCHKEY_PLANTED=" + string(fault)}
		sales, wrong := s.kill(t, 60)
		if len(wrong) == 0 {
			t.Errorf("%s was not seen in %d sales", fault, sales)
		} else {
			t.Logf("%s: after %d sales %s", fault, sales, wrong[0])
		}
	}
}

// TestPlantedFleet proves that a rehearsal sees what it looks for.
func TestPlantedFleet(t *testing.T) {
	planted.Set(planted.QueueUnsaved)
	defer planted.Set()
	said, _ := rehearse(t, 1, 16)
	if err := said.verdict(); err == nil || said.Lost == 0 {
		t.Errorf("%s was not seen in %d sales with %d power cuts", planted.QueueUnsaved, said.Sales, said.PowerCuts)
	} else {
		t.Log(err)
	}
}
