package vault_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/enroll"
)

const (
	workers = seats // as many as an issuer in Vault takes at once
	// durable is how many commits an enrolment makes: the code is reserved before the issuer is asked, and spent with the
	// certificate, its row, the feed and the audit log in one.
	durable = 2
)

// TestEnrolmentCosts enrols terminals through all of the registration authority, over TLS with a handshake each, and has the
// bare issuer certify as many with as many callers. How the two rates compare is printed, and not judged where others use the machine, too;
// what an enrolment costs in commits and calls of the issuer is counted.
func TestEnrolmentCosts(t *testing.T) {
	if testing.Short() {
		t.Skip("a load test")
	}
	n := 200
	if os.Getenv("LATCHKEY_SOAK") != "" {
		n = 3000
	}
	for name, open := range map[string]func(testing.TB, *stage) *registration{"embedded": newEmbedded, "Vault": newRegistration} {
		t.Run(name, func(t *testing.T) {
			r := open(t, newStage(time.Now(), time.Second))
			r.commits.n.Store(0) // of making the registry
			var whole, bare time.Duration
			done, rounds := 0, 4
			for round := range rounds { // in turns, so that both have the same machine
				w, b := r.compare(t, round, n/rounds)
				whole, bare, done = whole+w, bare+b, done+n/rounds
			}
			each := float64(r.commits.n.Load()) / float64(done)
			rate := func(d time.Duration) float64 { return float64(done) / d.Seconds() }
			t.Logf("%s: %d enrolments, %.0f/s through the registration authority, %.0f/s of the bare issuer, ratio %.2f; %.2f commits for each",
				name, done, rate(whole), rate(bare), rate(whole)/rate(bare), each)
			if done != n || r.commits.n.Load() != int64(done*durable) {
				t.Errorf("%d commits for %d enrolments, want %d for each", r.commits.n.Load(), done, durable)
			}
			if r.front == nil {
				return
			}
			if signed := r.front.count("/sign"); signed != 2*done {
				t.Errorf("Vault was asked to sign %d times for %d enrolments and as many calls of the bare issuer", signed, done)
			}
			if rest := r.front.count(""); rest > 5 {
				t.Errorf("Vault was asked %d other things", rest)
			}
		})
	}
}

// compare takes the time of n enrolments and of n calls of the issuer.
func (r *registration) compare(t *testing.T, round, n int) (whole, bare time.Duration) {
	t.Helper()
	r.align(t)
	before := r.commits.n.Load()
	f := &fleet{r: r}
	codes := make([]secret.Bytes, n)
	for i := range n {
		one := &till{fleet: f, id: keyset.TerminalID(fmt.Sprintf("T-%d-%d", round, i))}
		var err error
		if codes[i], err = one.register(t.Context()); err == nil {
			err = one.prepare()
		}
		if err != nil {
			t.Fatal(err)
		}
		f.all = append(f.all, one)
	}
	r.commits.n.Store(before) // what an operator does is no part of it
	whole = together(t, n, func(ctx context.Context, i int) error {
		one := f.all[i]
		c, err := enroll.NewVisitor(enroll.Options{URL: r.url, Tenant: tenant, Terminal: string(one.id), Clock: r.stage.clock}, r.list)
		if err != nil {
			return err
		}
		defer c.Close()
		one.chain, err = c.Enroll(ctx, one.csr, codes[i])
		return err
	})
	for i, one := range f.all {
		codes[i].Wipe()
		if err := one.prepare(); err != nil {
			t.Fatal(err)
		}
	}
	r.align(t)
	bare = together(t, n, func(ctx context.Context, i int) error {
		one := f.all[i]
		_, err := r.issuer.Issue(ctx, ca.Request{PublicKey: one.key.Public(), CSR: one.csr, Identity: one.identity()})
		return err
	})
	return whole, bare
}

// together does n things with some callers at once, and returns how long it took.
func together(t *testing.T, n int, do func(ctx context.Context, i int) error) time.Duration {
	t.Helper()
	work := make(chan int, n)
	for i := range n {
		work <- i
	}
	close(work)
	begun := time.Now()
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for i := range work {
				if err := do(t.Context(), i); err != nil {
					t.Errorf("%d: %v", i, err)
				}
			}
		})
	}
	all.Wait()
	return time.Since(begun)
}
