package postgres

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// ratios asks for comparisons in time, which are no part of the tests: make bench-host.
var ratios = flag.Bool("ratios", false, "compare times, and fail beyond the targets")

// upserts has as many connections write a row each, again and again, and returns how many a second.
func upserts(t *testing.T, conns []*pgx.Conn, next *atomic.Int64, n int) float64 {
	t.Helper()
	last := next.Load() + int64(n)
	begun := time.Now()
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() {
			for i := next.Add(1); i <= last; i = next.Add(1) {
				k := sha256.Sum256(fmt.Append(nil, i))
				if _, err := c.Exec(t.Context(), "INSERT INTO single VALUES ($1, $2) ON CONFLICT (k) DO NOTHING", k[:], k[:]); err != nil {
					t.Errorf("upsert: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	next.Store(last)
	return float64(n) / time.Since(begun).Seconds()
}

// TestRatios compares claims of 128 callers, a whole message each, with single upserts of one short row by 16 connections: in turn, on
// one server, durable both.
func TestRatios(t *testing.T) {
	if !*ratios {
		t.Skip("with -ratios only: make bench-host")
	}
	const target, rounds, callers, connections = 3, 7, 128, 16
	s, o := openNew(t)
	var conns []*pgx.Conn
	for range connections {
		c, err := raw(t, o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close(context.Background())
		conns = append(conns, c)
	}
	if _, err := conns[0].Exec(t.Context(), "CREATE TABLE IF NOT EXISTS single (k bytea PRIMARY KEY, v bytea NOT NULL)"); err != nil {
		t.Fatal(err)
	}
	var next, rows atomic.Int64
	var all []float64
	var single, batched float64
	before := s.Stats()
	for range rounds {
		one := upserts(t, conns, &rows, 2000)
		const n = 4000
		last := next.Load() + n
		begun := time.Now()
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for i := next.Add(1); i <= last; i = next.Add(1) {
					if _, err := s.Claim(t.Context(), claimSet(fmt.Sprint(i), int(i), 1)); err != nil {
						t.Errorf("claim: %v", err)
						return
					}
				}
			})
		}
		wg.Wait()
		next.Store(last)
		many := n / time.Since(begun).Seconds()
		single, batched, all = max(single, one), max(batched, many), append(all, many/one)
	}
	slices.Sort(all)
	after := s.Stats()
	fmt.Printf("%-58s %10.2f %10s   (%.0f/s and %.0f/s at most; %.1f calls for a commit)\n", "PostgreSQL: claims of 128 callers to single upserts", all[rounds/2],
		fmt.Sprintf(">= %d", target), batched, single, float64(after.Calls-before.Calls)/float64(after.Commits-before.Commits))
	if all[rounds/2] < target {
		t.Errorf("ratio %.2f, want %d", all[rounds/2], target)
	}
}
