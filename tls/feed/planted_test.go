//go:build planted

package feed

import (
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// TestPlantedGate proves that the test of the cut can fail. It does not run in parallel: the fault is global.
func TestPlantedGate(t *testing.T) {
	s := newSite(t)
	config := s.enrol(t, "T-1")
	planted.Set(planted.GuardFeedGate)
	defer planted.Set()
	if got := s.change(t, "T-1", config, keyset.StatusRevoked, cutLimit); len(got) != 0 {
		t.Errorf("without the guard these are shut: %v", got)
	}
	planted.Set()
	begun := time.Now()
	until(t, "refused", func() bool {
		conn, err := s.visit(config, "/")
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	t.Logf("with the guard again, refused after %v", time.Since(begun))
}

// TestPlantedChain proves that the order of records is checked in one place only, and that the tests of it can fail.
func TestPlantedChain(t *testing.T) {
	r, f := newStory(t)
	check(t, f.learnPage(t, r.past(t, 2).mustPage(t, 0, 0)))
	p := r.mustPage(t, 1, 2)
	p.Records = p.Records[2:]
	planted.Set(planted.ParseFeed)
	defer planted.Set()
	if err := f.learnPage(t, p); err != nil {
		t.Errorf("without the guard: %v", err)
	}
}
