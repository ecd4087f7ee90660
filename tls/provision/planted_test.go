//go:build planted

package provision_test

import (
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// These tests prove that the faults which the others look for would be noticed. They do not run in parallel: faults are
// global.

// TestPlantedCodeBinding has a spent code enrol another key.
func TestPlantedCodeBinding(t *testing.T) {
	l := newLaboratory(t, keyset.Test)
	l.register("T-1")
	code := l.code("T-1")
	check(t, l.device("T-1").enroll(code))
	thief := l.device("T-1")
	if thief.enroll(code) == nil {
		t.Fatal("without the fault another key is enrolled")
	}
	planted.Set(planted.GuardCodeBinding)
	defer planted.Set()
	check(t, thief.enroll(code))
	if n := l.terminals.issued.Load(); n != 2 || l.row("T-1").Serial != thief.serial() {
		t.Errorf("with the fault %d certificates are issued", n)
	}
	l.clock.forward(15 * time.Minute)
	if l.device("T-1").enroll(code) == nil {
		t.Error("the fault outlives the code")
	}
}

// TestPlantedCodeReservedLate redeems one code a hundred times at once: many certificates are issued.
func TestPlantedCodeReservedLate(t *testing.T) {
	planted.Set(planted.CodeReservedLate)
	defer planted.Set()
	l := newLaboratory(t, keyset.Test)
	l.register("T-1")
	certificates, _ := race(l, "T-1", l.code("T-1"), false)
	if n := l.terminals.issued.Load(); n < 2 || len(certificates) < 2 {
		t.Errorf("with the fault %d certificates are issued and %d given out", n, len(certificates))
	}
}
