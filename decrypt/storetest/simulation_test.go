package storetest

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func soaking() bool { return os.Getenv("LATCHKEY_SOAK") != "" }

// run simulates so many seeds on all processors, until one is wrong or all are done.
func run(seeds uint64) (did tally, wrong map[uint64]string) {
	wrong = make(map[uint64]string)
	var mu sync.Mutex
	var next atomic.Uint64
	var stopped atomic.Bool
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for !stopped.Load() {
				seed := next.Add(1)
				if seed > seeds {
					return
				}
				w, d := simulate(seed, nil)
				mu.Lock()
				did.add(d)
				if w != "" {
					wrong[seed] = w
					stopped.Store(true)
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return did, wrong
}

// TestSimulator runs the claims as they are: nothing may be wrong with any seed.
func TestSimulator(t *testing.T) {
	t.Parallel()
	seeds := uint64(20_000)
	switch {
	case soaking():
		seeds = 1_000_000
	case testing.Short():
		seeds = 100
	}
	did, wrong := run(seeds)
	for seed, w := range wrong {
		t.Errorf("seed %d: %s", seed, w)
	}
	t.Logf("%d seeds: %v", seeds, did)
	for name, each := range map[string]int{
		"letters": did.letters / 40, "released": did.released / 20, "released again": did.resent / 2, "refused": did.refused / 2,
		"conflicts": did.conflicts, "attacks": did.attacks / 10, "crashes of replicas": did.crashes, "restarts": did.restarts,
		"fail-overs": did.failovers, "cuts": did.cuts, "changes of clocks": did.clocks, "replays of another host's": 2 * did.imported,
	} {
		if each < int(seeds) {
			t.Errorf("too little happened: %s", name)
		}
	}
}

// TestSimulatorBugs has each bug found, by an invariant that it breaks.
func TestSimulatorBugs(t *testing.T) {
	t.Parallel()
	if len(bugs) < 20 {
		t.Fatalf("%d bugs", len(bugs))
	}
	for _, b := range bugs {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			const seeds = 3000
			for seed := uint64(1); seed <= seeds; seed++ {
				wrong, _ := simulate(seed, b)
				if wrong == "" {
					continue
				}
				t.Logf("seed %d: %s", seed, wrong)
				if invariant, _, _ := strings.Cut(wrong, " "); !slices.Contains(b.breaks, invariant) {
					t.Errorf("found by %s, which is not about it", invariant)
				}
				return
			}
			t.Errorf("not found in %d seeds", seeds)
		})
	}
}
