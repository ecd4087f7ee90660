//go:build planted

package provision_test

import (
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/provision"
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

// TestPlantedFleetCodeDrawn sends a part of a list twice: with the fault the slips of the first answer are worth nothing.
func TestPlantedFleetCodeDrawn(t *testing.T) {
	planted.Set(planted.FleetCodeDrawn)
	defer planted.Set()
	l := newLaboratory(t, keyset.Test)
	parts, op := listed(t, 2)
	p := provision.Part{Approval: l.do2(op).Approval.ID, Seed: seed(1), All: parts[0]}
	first := must[[]provision.Enlisted](t)(l.engine.Enlist(t.Context(), anna, p))
	again := must[[]provision.Enlisted](t)(l.engine.Enlist(t.Context(), anna, p))
	if first[0].Ticket.Equal(again[0].Ticket) || l.device(first[0].Terminal).enroll(codeOf(t, first[0].Ticket)) == nil {
		t.Error("the fault is not there")
	}
}

// TestPlantedOrphansForgotten ends the process between the issuer's signature and the commit: nobody looks for the certificate.
func TestPlantedOrphansForgotten(t *testing.T) {
	planted.Set(planted.OrphansForgotten)
	defer planted.Set()
	for name, begin := range asks(t) {
		l := newLaboratory(t, keyset.Test)
		if n := l.killed(begin(l)); n != 1 {
			t.Fatalf("%s: %d certificates were made", name, n)
		}
		l.clock.forward(time.Hour)
		l.sweep()
		if n := l.orphans(); n != 0 {
			t.Errorf("%s: with the fault %d certificates are found", name, n)
		}
	}
}
