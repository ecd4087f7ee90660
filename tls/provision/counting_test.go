package provision_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/feed"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// counting is a store that notes what is written, when a snapshot is read and when the feed is pruned.
type counting struct {
	provision.Store
	mu        sync.Mutex
	writes    []string
	limits    []int
	snapshots int
	prunes    int
	reading   func() // called while a snapshot is read
}

func (c *counting) Update(ctx context.Context, f func(provision.Tx) error) error {
	c.note("commit")
	return c.Store.Update(ctx, func(tx provision.Tx) error { return f(countingTx{tx, c}) })
}

func (c *counting) View(ctx context.Context, f func(provision.Tx) error) error {
	return c.Store.View(ctx, func(tx provision.Tx) error { return f(countingTx{tx, c}) })
}

func (c *counting) note(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes = append(c.writes, what)
}

// counted returns how much was written since it was asked last.
func (c *counting) counted() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.writes)
	c.writes = nil
	return n
}

type countingTx struct {
	provision.Tx
	c *counting
}

func (t countingTx) Terminals(after keyset.TerminalID, limit int, yield func(*provision.Terminal) error) error {
	t.c.asked(limit)
	return t.Tx.Terminals(after, limit, yield)
}

func (t countingTx) Certificates(id keyset.TerminalID, after string, limit int, yield func(provision.Issuance) error) error {
	t.c.asked(limit)
	return t.Tx.Certificates(id, after, limit, yield)
}

// asked notes for how many rows an iteration asks, 0 for all.
func (c *counting) asked(limit int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limits = append(c.limits, limit)
}

// limited returns for how many rows iterations have asked since it was called last.
func (c *counting) limited() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.limits
	c.limits = nil
	return out
}

func (t countingTx) PutMeta(m provision.Meta) error {
	t.c.note("meta")
	return t.Tx.PutMeta(m)
}

func (t countingTx) PutTerminal(r *provision.Terminal) error {
	t.c.note("terminal")
	return t.Tx.PutTerminal(r)
}

func (t countingTx) PutOneTimeCode(o *provision.OneTimeCode) error {
	t.c.note("code")
	return t.Tx.PutOneTimeCode(o)
}

func (t countingTx) PutCertificate(c *provision.Certificate) error {
	t.c.note("certificate")
	return t.Tx.PutCertificate(c)
}

func (t countingTx) AppendFeed(r provision.FeedRecord) error {
	t.c.note("feed")
	return t.Tx.AppendFeed(r)
}

func (t countingTx) PutTask(k *provision.Task) error {
	t.c.note("task")
	return t.Tx.PutTask(k)
}

func (t countingTx) Audit(r audit.Record) error {
	t.c.note("audit")
	return t.Tx.Audit(r)
}

func (t countingTx) FeedLatest(epoch uint64, yield func(provision.FeedRecord) error) error {
	t.c.mu.Lock()
	t.c.snapshots++
	reading := t.c.reading
	t.c.mu.Unlock()
	if reading != nil {
		reading()
	}
	return t.Tx.FeedLatest(epoch, yield)
}

func (t countingTx) PruneFeed(epoch, through uint64) (int, error) {
	t.c.mu.Lock()
	t.c.prunes++
	t.c.mu.Unlock()
	return t.Tx.PruneFeed(epoch, through)
}

func newCountingLaboratory(t testing.TB) (*laboratory, *counting) {
	t.Helper()
	c := new(counting)
	l := newLaboratory(t, keyset.Test, func(config *provision.Config) {
		c.Store = config.Store
		config.Store = c
	})
	return l, c
}

// TestGuessesCostTheSame writes as much for a wrong code of an unknown terminal as for any other: nothing can be learned
// from it, and guesses at nobody are no cheaper way to wear the disk out.
func TestGuessesCostTheSame(t *testing.T) {
	t.Parallel()
	l, c := newCountingLaboratory(t)
	l.register("KNOWN")
	l.register("NO-CODE")
	l.register("VOID")
	l.code("KNOWN")
	l.code("VOID")
	for range 5 {
		refused(t, "a guess", l.device("VOID").enroll(provision.NewCode(false)), provision.CodeCredentialsRefused)
	}
	c.counted()
	for _, id := range []keyset.TerminalID{"KNOWN", "NO-CODE", "VOID", "UNKNOWN"} {
		for _, short := range []bool{true, false} {
			refused(t, string(id), l.device(id).enroll(provision.NewCode(short)), provision.CodeCredentialsRefused)
			if n := c.counted(); n != 3 { // one commit, of one row and one audit record
				t.Errorf("%s: %d writes, want 3", id, n)
			}
		}
	}
}

// TestSnapshotsAreShared has many ask for a snapshot at once: one is built, and handed out again while nothing changes and
// its head is fresh.
func TestSnapshotsAreShared(t *testing.T) {
	t.Parallel()
	l, c := newCountingLaboratory(t)
	for n := range 5 {
		l.register(keyset.TerminalID(fmt.Sprint("T-", n)))
	}
	var asking, answered sync.WaitGroup
	asking.Add(20)
	c.reading = func() {
		asking.Wait()
		runtime.Gosched()
	}
	pages := make([][]byte, 20)
	for n := range pages {
		answered.Go(func() {
			asking.Done()
			pages[n], _ = l.engine.Feed(t.Context(), 0, uint64(n), time.Minute)
		})
	}
	answered.Wait()
	c.reading = nil
	for n, page := range pages {
		if len(page) == 0 || !bytes.Equal(page, pages[0]) {
			t.Errorf("asker %d has another page", n)
		}
	}
	built := func(what string, want int) {
		t.Helper()
		page := l.pageOf(0, 0, time.Minute)
		if !page.Snapshot || len(page.Records) != 5 || c.snapshots != want {
			t.Errorf("%s: %d records, and %d snapshots were built, want %d", what, len(page.Records), c.snapshots, want)
		}
		head, err := l.follower().verifier.Head(page.Head, page.Chain)
		check(t, err)
		if lag := l.clock.time().Sub(head.Time); lag >= 10*time.Second {
			t.Errorf("%s: the head is %v old", what, lag)
		}
	}
	built("at once", 1)
	l.clock.forward(9 * time.Second)
	built("a little later", 1)
	l.act(provision.ActionBlock, "T-1")
	built("after a change", 2)
	l.clock.forward(10 * time.Second)
	built("when the head is too old", 3)
	l.sweep()
	built("after a sweep", 3)
	l.clock.forward(10 * time.Second)
	l.sweep() // drops it
	check(t, l.engine.NewEpoch(t.Context()))
	built("in a new epoch", 4)
}

// TestOneLongPageAtATime holds whoever builds a long page, and has others ask meanwhile: who knows almost everything is not
// held up, and who gives up waiting is gone.
func TestOneLongPageAtATime(t *testing.T) {
	t.Parallel()
	l, c := newCountingLaboratory(t)
	l.register("T-1")
	f := l.follower()
	f.ask()
	l.act(provision.ActionBlock, "T-1")
	building, release := make(chan struct{}), make(chan struct{})
	c.reading = sync.OnceFunc(func() { close(building); <-release })
	done := make(chan []byte, 2)
	ask := func() {
		page, err := l.engine.Feed(context.WithoutCancel(t.Context()), 0, 0, time.Minute)
		if err != nil {
			t.Errorf("a snapshot: %v", err)
		}
		done <- page
	}
	go ask()
	<-building
	go ask()
	f.ask() // a short page
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.engine.Feed(impatient, 0, 0, time.Minute); err == nil {
		t.Error("a second snapshot is built meanwhile")
	}
	close(release)
	first, second := <-done, <-done
	if !slices.Equal(first, second) || len(first) == 0 || c.snapshots != 2 { // the follower's was of the state before
		t.Errorf("%d snapshots were built, want 2", c.snapshots)
	}
	if page, err := feed.ParsePage(first); err != nil || !page.Snapshot {
		t.Errorf("page %+v, %v", page, err)
	}
}
