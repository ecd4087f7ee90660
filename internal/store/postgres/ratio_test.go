package postgres

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-pos/latchkey/decrypt/storetest"
)

// ratios asks for comparisons in time, which are no part of the tests: make bench-host.
var ratios = flag.Bool("ratios", false, "compare times, and fail beyond the targets")

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
	upsert := func(caller int, i int64) error {
		k := sha256.Sum256(fmt.Append(nil, i))
		_, err := conns[caller].Exec(t.Context(), "INSERT INTO single VALUES ($1, $2) ON CONFLICT (k) DO NOTHING", k[:], k[:])
		return err
	}
	claim := func(_ int, i int64) error {
		_, err := s.Claim(t.Context(), claimSet(fmt.Sprint(i), int(i), 1))
		return err
	}
	var all []float64
	var single, batched float64
	before := s.Stats()
	for round := range int64(rounds) {
		one, many := storetest.Rate(t, connections, 2000, 2000*round, upsert), storetest.Rate(t, callers, 4000, 1+4000*round, claim)
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
