package provision_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/feed"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// follower follows the feed by hand, and believes only what follows.
type follower struct {
	l        *laboratory
	verifier *feed.Verifier
	head     feed.Head
	known    map[keyset.TerminalID]keyset.Terminal
}

func (l *laboratory) follower() *follower {
	l.t.Helper()
	v := must[*feed.Verifier](l.t)(feed.NewVerifier(pool(l.services), tenant, l.clock.time))
	return &follower{l: l, verifier: v, known: make(map[keyset.TerminalID]keyset.Terminal)}
}

// ask takes one page and returns whether it was a snapshot.
func (f *follower) ask() bool {
	t := f.l.t
	t.Helper()
	page := f.l.pageOf(f.head.Epoch, f.head.Sequence, 0)
	head, err := f.verifier.Head(page.Head, page.Chain)
	check(t, err)
	last, hash := f.head.Sequence, f.head.Hash
	if page.Snapshot {
		clear(f.known)
		last, hash = 0, [32]byte{}
		if head.Snapshot != feed.SnapshotDigest(page.Records) {
			t.Fatal("the head is of another snapshot")
		}
	}
	for _, envelope := range page.Records {
		r, h, err := f.verifier.Record(envelope, page.Chain)
		check(t, err)
		if r.Epoch != head.Epoch || r.Sequence <= last || !page.Snapshot && (r.Sequence != last+1 || r.Previous != hash) {
			t.Fatalf("record %d/%d after %d", r.Epoch, r.Sequence, last)
		}
		if old, ok := f.known[r.Terminal.ID]; ok && old.Generation >= r.Terminal.Generation {
			t.Fatalf("generation %d after %d", r.Terminal.Generation, old.Generation)
		}
		f.known[r.Terminal.ID] = r.Terminal
		last, hash = r.Sequence, h
	}
	if last != head.Sequence || hash != head.Hash || uint64(len(f.known)) != head.Objects {
		t.Fatalf("the records end at %d with %d terminals, the head says %d with %d", last, len(f.known), head.Sequence, head.Objects)
	}
	f.head = *head
	return page.Snapshot
}

func TestFeed(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	f := l.follower()
	if !f.ask() || f.head.Sequence != 0 || f.head.Epoch != uint64(noon.Unix()) {
		t.Errorf("head of a new feed %+v", f.head)
	}
	d, key := l.active("T-1")
	l.enrolled("T-2")
	if f.ask() {
		t.Error("a snapshot for somebody who knows the beginning")
	}
	if r := f.known["T-1"]; r.Serial != d.serial() || r.Status != keyset.StatusActive || len(r.Slots) != 1 || r.Slots[0].KeyID != key || r.Slots[0].State != keyset.SlotActive {
		t.Errorf("record %+v", r)
	}
	before := f.head
	if f.ask() || f.head.Sequence != before.Sequence {
		t.Error("a heartbeat moved the feed")
	}
	l.act(provision.ActionRevoke, "T-1")
	f.ask()
	if f.known["T-1"].Status != keyset.StatusRevoked {
		t.Errorf("record %+v", f.known["T-1"])
	}
	fresh := l.follower()
	if !fresh.ask() || len(fresh.known) != 2 || fresh.head.Sequence != f.head.Sequence {
		t.Errorf("snapshot of %d terminals at %d", len(fresh.known), fresh.head.Sequence)
	}
	for _, p := range [][2]uint64{{f.head.Epoch, f.head.Sequence + 1}, {f.head.Epoch + 1, 0}, {f.head.Epoch - 1, f.head.Sequence}, {0, 0}, {f.head.Epoch, ^uint64(0)}} {
		if page := l.pageOf(p[0], p[1], time.Minute); !page.Snapshot || len(page.Records) != 2 {
			t.Errorf("at %v: snapshot %t with %d records", p, page.Snapshot, len(page.Records))
		}
	}
	l.start()
	if f.ask() {
		t.Error("a snapshot after a restart")
	}
	l.act(provision.ActionRevoke, "T-2")
	f.ask()
}

// TestFeedWakes waits for a change, which comes long before the wait is over.
func TestFeedWakes(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.register("T-1")
	f := l.follower()
	f.ask()
	answered := make(chan []byte, 1)
	go func() {
		page, err := l.engine.Feed(context.WithoutCancel(t.Context()), f.head.Epoch, f.head.Sequence, time.Minute)
		if err == nil {
			answered <- page
		}
		close(answered)
	}()
	l.act(provision.ActionBlock, "T-1")
	select {
	case b := <-answered:
		if page, err := feed.ParsePage(b); err != nil || page.Snapshot || len(page.Records) != 1 {
			t.Errorf("page %+v", page)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing for ten seconds")
	}
	f.ask()
	start := time.Now()
	if page := l.pageOf(f.head.Epoch, f.head.Sequence, 20*time.Millisecond); len(page.Records) != 0 || time.Since(start) < 20*time.Millisecond {
		t.Errorf("a heartbeat after %v with %d records", time.Since(start), len(page.Records))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.engine.Feed(ctx, f.head.Epoch, f.head.Sequence, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestFeedInParallel changes many terminals at once while somebody follows: nothing is lost, and gate and feed agree.
func TestFeedInParallel(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	var ids []keyset.TerminalID
	for i := range 8 {
		ids = append(ids, keyset.TerminalID("T-"+string(rune('0'+i))))
		l.enrolled(ids[i])
	}
	f := l.follower()
	var wg sync.WaitGroup
	for _, id := range ids {
		wg.Go(func() {
			for range 10 {
				for _, action := range []provision.Action{provision.ActionBlock, provision.ActionUnblock} {
					if _, err := l.engine.Do(t.Context(), anna, op(action, id)); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		f.ask()
	}
	f.ask()
	for _, id := range ids {
		if row := l.row(id); f.known[id].Generation != row.Generation || f.known[id].Status != keyset.StatusPending {
			t.Errorf("%s: generation %d, the registry says %d", id, f.known[id].Generation, row.Generation)
		}
	}
}

// TestGateFollowsTheFeed compares the gate with that of feed.Follower's rule, status by status.
func TestGateFollowsTheFeed(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	for s, want := range map[keyset.Status]bool{
		keyset.StatusPending: false, keyset.StatusActive: true, keyset.StatusBlocked: true, keyset.StatusQuarantined: true,
		keyset.StatusCompromised: false, keyset.StatusRevoked: false, keyset.StatusRetired: false,
	} {
		id := keyset.TerminalID(strings.ToUpper(s.String()[:3]) + "-X")
		l.bring(id, s)
		serial := l.row(id).Serial
		if s != keyset.StatusPending && serial == "" {
			t.Fatalf("%v has no serial", s)
		}
		if got := l.admits(id, serial); got != want {
			t.Errorf("%v: admitted %t, want %t", s, got, want)
		}
		if l.admits(id, "") || l.admits(id, "ab12") {
			t.Errorf("%v: admitted with another serial number", s)
		}
	}
	l.start()
	if !l.admits("ACT-X", l.row("ACT-X").Serial) || l.admits("REV-X", l.row("REV-X").Serial) {
		t.Error("the gate forgets over a restart")
	}
	if l.admits("NOBODY", "ab12") {
		t.Error("an unknown terminal is admitted")
	}
	foreign := identity.Identity{Tenant: "OTHER", Role: identity.Terminal, Name: "ACT-X"}
	if l.engine.Admit(foreign, l.row("ACT-X").Serial) == nil {
		t.Error("a terminal of another tenant is admitted")
	}
	if err := l.engine.Admit(anna.Identity, "ab12"); err != nil {
		t.Errorf("an operator: %v", err)
	}
}

// TestEpochAhead begins no epoch that followers would refuse, and says that it is the clock.
func TestEpochAhead(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.register("T-1")
	l.clock.forward(time.Hour) // wrong
	check(t, l.engine.NewEpoch(t.Context()))
	l.clock.forward(-time.Hour)
	before, _ := l.store.Leaves(), l.row("T-1")
	refusal := refused(t, "with the clock corrected", l.engine.NewEpoch(t.Context()), provision.CodeStoreUnavailable)
	if text := refusal.Error(); !strings.Contains(text, "clock says 2026-03-01T12:00:00Z") || !strings.Contains(text, "2026-03-01T13:00:00Z") {
		t.Errorf("text %q", text)
	}
	if len(l.store.Leaves()) != len(before) {
		t.Error("something was changed")
	}
	l.start() // goes on in the epoch that there is, and says that nobody follows it
	if !strings.Contains(l.log.String(), "epoch of the feed is ahead of the clock") {
		t.Errorf("log %s", l.log)
	}
	l.config.Signer, l.config.Chain = l.certified(l.services, identity.RA, "RA-1")
	if _, err := provision.New(t.Context(), l.config); err == nil || !strings.Contains(err.Error(), "clock") {
		t.Errorf("a new signer: %v", err)
	}
	l.clock.forward(55*time.Minute + time.Second)
	l.start()
}

func TestNewEpoch(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.enrolled("T-1")
	l.register("T-2")
	f := l.follower()
	f.ask()
	check(t, l.engine.NewEpoch(t.Context())) // within the same second
	before := f.head
	if !f.ask() || f.head.Epoch != before.Epoch+1 || f.head.Sequence != 2 || len(f.known) != 2 {
		t.Errorf("head %+v after %+v", f.head, before)
	}
	l.clock.forward(time.Hour)
	check(t, l.engine.NewEpoch(t.Context()))
	f.ask()
	if f.head.Epoch != uint64(l.clock.time().Unix()) {
		t.Errorf("epoch %d, want %d", f.head.Epoch, l.clock.time().Unix())
	}
	if l.audited("feed/epoch", "DONE", "") != 2 {
		t.Error("epochs are not audited")
	}
	l.act(provision.ActionBlock, "T-2")
	if f.ask() || f.known["T-2"].Status != keyset.StatusBlocked {
		t.Error("the new epoch does not go on")
	}
}

// TestNewSigner restarts with another signing certificate: every record is signed by it.
func TestNewSigner(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	d := l.enrolled("T-1")
	f := l.follower()
	f.ask()
	old := l.config.Chain[0]
	l.clock.forward(364 * 24 * time.Hour)
	l.config.Signer, l.config.Chain = l.certified(l.services, identity.RA, "RA-1")
	l.start()
	l.clock.forward(2 * 24 * time.Hour) // the old certificate has expired
	if l.clock.time().Before(old.NotAfter) {
		t.Fatal("the certificate before is still valid")
	}
	if !f.ask() || f.known["T-1"].Serial != d.serial() {
		t.Errorf("record %+v", f.known["T-1"])
	}
	if l.audited("feed/epoch", "DONE", "the signing certificate has changed") != 1 {
		t.Error("the new epoch is not audited")
	}
}

// TestPrune runs so many changes that the beginning of the feed is dropped.
func TestPrune(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.register("OLD")
	l.register("T-1")
	f := l.follower()
	f.ask()
	check(t, l.store.Update(t.Context(), func(tx provision.Tx) error { // as if the feed had gone on for long
		meta, err := tx.Meta()
		if err != nil {
			return err
		}
		head, _, err := tx.FeedHead(meta.Epoch)
		if err != nil {
			return err
		}
		row, _, err := tx.Terminal("T-1")
		if err != nil {
			return err
		}
		hash := sha256.Sum256(head.Envelope)
		for i := range uint64(3 * provision.FeedKept) {
			row.Generation++
			r := &feed.Record{
				Epoch: meta.Epoch, Sequence: head.Sequence + i + 1, Previous: hash, Kind: feed.KindTerminal, Issuer: "RA-1", Terminal: row.Record(),
			}
			envelope, h, err := feed.SignRecord(r, l.config.Chain[0].Raw, l.config.Signer)
			if err != nil {
				return err
			}
			hash = h
			if err := tx.AppendFeed(provision.FeedRecord{Epoch: r.Epoch, Sequence: r.Sequence, Object: "T-1", Envelope: envelope}); err != nil {
				return err
			}
		}
		return tx.PutTerminal(row)
	}))
	l.start()
	if !f.ask() {
		t.Error("a long list instead of a snapshot")
	}
	l.sweep()
	check(t, l.store.View(t.Context(), func(tx provision.Tx) error {
		left, err := tx.FeedAfter(f.head.Epoch, 0, 1<<20)
		if len(left) != provision.FeedKept+1 || left[0].Object != "OLD" {
			t.Errorf("%d records left, want %d and the newest of OLD", len(left), provision.FeedKept)
		}
		return err
	}))
	fresh := l.follower()
	if !fresh.ask() || len(fresh.known) != 2 {
		t.Errorf("a snapshot of %d terminals", len(fresh.known))
	}
	l.act(provision.ActionBlock, "OLD")
	if f.ask() || fresh.ask() {
		t.Error("a snapshot for a follower that is up to date")
	}
}

// TestPruneOnlyWhenDue lets codes expire: the feed, which the store searches from its beginning, is pruned when it has grown
// by as much as is worth it, and not because of a code.
func TestPruneOnlyWhenDue(t *testing.T) {
	t.Parallel()
	l, c := newCountingLaboratory(t)
	l.register("T-1")
	grow := func(to uint64) {
		t.Helper()
		check(t, l.store.Update(t.Context(), func(tx provision.Tx) error {
			meta, err := tx.Meta()
			if err != nil {
				return err
			}
			return tx.AppendFeed(provision.FeedRecord{Epoch: meta.Epoch, Sequence: to, Object: "T-1", Envelope: []byte{1}})
		}))
	}
	expire := func(next keyset.TerminalID, want int) {
		t.Helper()
		l.code("T-1")
		l.register(next) // one record more
		l.clock.forward(40 * 24 * time.Hour)
		before := l.audited("code/void", "", "expired")
		c.prunes = 0
		for range 3 { // once is enough
			l.sweep()
		}
		if c.prunes != want {
			t.Errorf("%s: the feed was pruned %d times, want %d", next, c.prunes, want)
		}
		if l.audited("code/void", "", "expired") != before+1 {
			t.Errorf("%s: the code is not void", next)
		}
	}
	grow(provision.FeedKept + 9)
	expire("T-2", 0)
	grow(2*provision.FeedKept - 1)
	expire("T-3", 0)
	expire("T-4", 1)
	expire("T-5", 0)
}

// TestKeptAfterAll has the store keep a change and say that it failed: gate and feed find out at once.
func TestKeptAfterAll(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	d := l.enrolled("T-1")
	f := l.follower()
	f.ask()
	l.store.Lose = func() error { return errors.New("the connection to the database broke") }
	_, err := l.engine.Do(t.Context(), anna, op(provision.ActionRevoke, "T-1"))
	refused(t, "revoke", err, provision.CodeStoreUnavailable)
	if d.admitted() || l.changes.Load() == 0 {
		t.Error("a terminal that was revoked is admitted, or nobody was told")
	}
	f.ask()
	if f.known["T-1"].Status != keyset.StatusRevoked {
		t.Errorf("record %+v", f.known["T-1"])
	}
}

// TestDoubt has the store be away after a change of which nobody knows whether it was kept.
func TestDoubt(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	d, other := l.enrolled("T-1"), l.enrolled("T-2")
	f := l.follower()
	f.ask()
	away := errors.New("the connection to the database broke")
	l.store.Lose = func() error { l.store.Fail = func() error { return away }; return away }
	_, err := l.engine.Do(t.Context(), anna, op(provision.ActionBlock, "T-1"))
	refused(t, "block", err, provision.CodeStoreUnavailable)
	if d.admitted() || !other.admitted() {
		t.Error("in doubt a terminal is admitted, or another is not")
	}
	if _, err := l.engine.Feed(t.Context(), f.head.Epoch, f.head.Sequence, 0); err == nil {
		t.Error("a sign of life although nobody knows where the feed stands")
	}
	l.store.Lose, l.store.Fail = nil, nil
	f.ask()
	if !d.admitted() || f.known["T-1"].Status != keyset.StatusBlocked {
		t.Errorf("admitted %t, record %+v", d.admitted(), f.known["T-1"])
	}
	l.act(provision.ActionUnblock, "T-1")
	f.ask()
}
