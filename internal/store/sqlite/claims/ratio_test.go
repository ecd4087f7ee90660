package claims

import (
	"flag"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/storetest"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
)

// ratios asks for comparisons in time, which are no part of the tests: make bench-host.
var ratios = flag.Bool("ratios", false, "compare times, and fail beyond the targets")

// TestRatios compares 128 callers, who share commits, with one transaction for each request, in turn.
func TestRatios(t *testing.T) {
	if !*ratios {
		t.Skip("with -ratios only: make bench-host")
	}
	const target, rounds = 10, 7
	s, _ := openNew(t)
	claim := func(_ int, i int64) error {
		_, err := s.Claim(t.Context(), claimSet(fmt.Sprint(i), uint32(i)))
		return err
	}
	var all []float64
	before := s.Stats()
	var alone, together float64
	for round := range int64(rounds) {
		one, many := storetest.Rate(t, 1, 500, 1+5500*round, claim), storetest.Rate(t, 128, 5000, 501+5500*round, claim)
		alone, together, all = max(alone, one), max(together, many), append(all, many/one)
	}
	slices.Sort(all)
	after := s.Stats()
	fmt.Printf("%-58s %10.2f %10s   (%.0f/s and %.0f/s at most; %.1f calls for a commit)\n", "SQLite: 128 callers to one transaction for each request", all[rounds/2],
		fmt.Sprintf(">= %d", target), together, alone, float64(after.Calls-before.Calls)/float64(after.Commits-before.Commits))
	if all[rounds/2] < target {
		t.Errorf("ratio %.2f, want %d", all[rounds/2], target)
	}
}

// TestRestart opens a database in which a million key ids are known.
func TestRestart(t *testing.T) {
	if !*ratios {
		t.Skip("with -ratios only: make bench-host")
	}
	const known, most = 1_000_000, time.Second
	s, path := openNew(t)
	base := must(keys.ParseFingerprint("000102030405060708090a0b0c0d0e0f"))
	for n := 0; n < known; {
		floors := make([]decrypt.Floor, 10_000)
		for i := range floors {
			floors[i] = decrypt.Floor{Counter: decrypt.CounterKey{BaseKey: base, KeyID: must(dukpt.ParseKeyID(fmt.Sprintf("12345678%08X", n)))}, Ordinal: 7}
			n++
		}
		r := claimSet("floors", 1).Audit
		r.Action, r.Result = "store/raise", "DONE"
		if _, err := s.Raise(t.Context(), floors, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	begun := time.Now()
	s = openAt(t, path)
	if _, err := s.Claim(t.Context(), claimSet("after the restart", 9)); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begun)
	runtime.GC()
	runtime.ReadMemStats(&after)
	fmt.Printf("%-58s %10s %10s   (%.1f bytes of memory for a key id)\n", "SQLite: first claim after a start, 1,000,000 key ids", took.Round(time.Millisecond), "< 1s",
		max(0, float64(after.HeapAlloc)-float64(before.HeapAlloc))/known)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if took >= most {
		t.Errorf("%v, want less than %v", took, most)
	}
}
