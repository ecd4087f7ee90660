//go:build planted

package keydist_test

import (
	"crypto/elliptic"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// TestPlantedKeyIDAllocatedLate proves that an allocation that comes too late would be noticed: a host that ends between
// the answer and the allocation gives the id out again. It does not run in parallel: the fault is global.
func TestPlantedKeyIDAllocatedLate(t *testing.T) {
	l := newLaboratory(t)
	d := l.enrol("T-1", elliptic.P256())
	if a, b := d.fetch("CODE", 1), d.fetch("CODE", 1); a == b {
		t.Fatalf("without the fault %v goes out twice", a)
	}
	planted.Set(planted.KeyIDAllocatedLate)
	defer planted.Set()
	first := d.fetch("CODE", 1)
	if n := len(l.store.IssuedAll()); n != 2 {
		t.Errorf("%d ids are recorded when the answer is there, want 2", n)
	}
	if second := d.fetch("CODE", 1); second != first {
		t.Errorf("with the fault: %v after %v", second, first)
	}
	for deadline := time.Now().Add(10 * time.Second); len(l.store.IssuedAll()) != 3; {
		if time.Now().After(deadline) {
			t.Fatal("the late allocation never came")
		}
		time.Sleep(time.Millisecond)
	}
}
