package provision_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// beside starts a second engine over the store of a laboratory, and returns what has the first laboratory work with it.
func (l *laboratory) beside() *laboratory {
	l.t.Helper()
	second := l.second()
	ctx, end := context.WithCancel(l.t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = second.engine.Run(ctx) }) // returns nil
	l.t.Cleanup(func() { end(); running.Wait() })
	return second
}

// second is beside, with an engine that learns what others write when it is told to. Changes adapt its configuration.
func (l *laboratory) second(changes ...func(*provision.Config)) *laboratory {
	l.t.Helper()
	second := &laboratory{
		t: l.t, clock: l.clock, store: l.store, terminals: l.terminals, services: l.services, keydist: l.keydist, kdh: l.kdh, sets: l.sets, log: l.log,
		config: l.config,
	}
	second.config.Instance = "RA-2"
	for _, change := range changes {
		change(&second.config)
	}
	second.start()
	return second
}

func shares(c *provision.Config) { c.Shared = true }

// TestTwoInstances revokes a terminal at one instance: the other one lets it in no more, and tells its followers.
func TestTwoInstances(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test, shares)
	second := l.beside()
	f := second.follower()
	f.ask()
	d := l.enrolled("T-1")
	waitFor(t, "the second instance knows the terminal", func() bool { return second.admits("T-1", d.serial()) })
	f.ask()
	got := make(chan int, 1)
	go func() { got <- len(second.pageOf(f.head.Epoch, f.head.Sequence, 10*time.Second).Records) }()
	begun := time.Now()
	l.act(provision.ActionRevoke, "T-1")
	if n := <-got; n != 1 {
		t.Errorf("the second instance tells its follower %d records", n)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("a follower of the other instance is told after %v", took)
	}
	if second.admits("T-1", d.serial()) {
		t.Error("the second instance admits a terminal that the first one has revoked")
	}
	f.ask()
	if f.known["T-1"].Status != keyset.StatusRevoked {
		t.Errorf("a follower of the second instance knows it as %v", f.known["T-1"].Status)
	}
}

// TestOwnCommitBetween has the second instance commit what is behind the changes of the first one in the feed before it has seen
// them: it sees them all the same.
func TestOwnCommitBetween(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test, shares)
	gone := l.enrolled("T-1")
	l.register("T-2")
	second := l.second()
	l.act(provision.ActionRevoke, "T-1")
	fresh := l.enrolled("T-3")
	second.do(provision.Operation{Action: provision.ActionLabel, Terminal: "T-2", Group: "NORTH"})
	second.act(provision.ActionRevoke, "T-2") // the label may be none of the feed's business
	check(t, second.engine.CatchUp(t.Context()))
	if second.admits("T-1", gone.serial()) {
		t.Error("a terminal that the first one has revoked is admitted")
	}
	if !second.admits("T-3", fresh.serial()) {
		t.Error("a terminal that has enrolled at the first one is not admitted")
	}
}

// TestAnotherCertificate restarts one of two instances with another certificate, or another pepper: the other one writes nothing
// until it is restarted too.
func TestAnotherCertificate(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*laboratory) func(*provision.Config){
		"certificate": func(l *laboratory) func(*provision.Config) {
			signer, chain := l.certified(l.services, identity.RA, "RA-1")
			return func(c *provision.Config) { c.Signer, c.Chain = signer, chain }
		},
		"pepper": func(*laboratory) func(*provision.Config) {
			return func(c *provision.Config) { c.Pepper = secret.From(bytes.Repeat([]byte{8}, 32)) }
		},
	} {
		l := newLaboratory(t, keyset.Test, shares)
		l.register("T-1")
		l.clock.forward(time.Minute) // a new epoch needs a later second
		adapt := change(l)
		second := l.second(adapt)
		before := second.row("T-1").Generation
		block := provision.Operation{Action: provision.ActionBlock, Terminal: "T-1"}
		_, err := l.engine.Do(t.Context(), anna, block)
		if r := refused(t, name, err, provision.CodeStoreUnavailable); !strings.Contains(r.Detail, "another "+name+": restart") {
			t.Errorf("%s: it says %q", name, r.Detail)
		}
		refused(t, name+", the outbox", l.engine.Sweep(t.Context(), l.clock.time()), provision.CodeStoreUnavailable)
		if row := second.row("T-1"); row.Generation != before {
			t.Errorf("%s: it has written", name)
		}
		adapt(&l.config)
		l.start()
		l.do(block)
		second.act(provision.ActionUnblock, "T-1")
	}
}

// TestFork has the store lose what an instance knows to have been in it, as after a fail-over to a server that lagged: that
// instance admits nobody any more, also when others have written on until the feed is as long as it was.
func TestFork(t *testing.T) {
	t.Parallel()
	for _, further := range []int{0, 1, 2} {
		l := newLaboratory(t, keyset.Test, shares)
		d := l.enrolled("T-1")
		l.register("T-2")
		second := l.second()
		left := l.store.Copy()
		l.act(provision.ActionBlock, "T-2")
		check(t, second.engine.CatchUp(t.Context()))
		l.store.Restore(left)
		for n := range further {
			third := l.second()
			third.register(keyset.TerminalID(fmt.Sprintf("T-3%d", n)))
		}
		for range 2 {
			if err := second.engine.CatchUp(t.Context()); err == nil {
				t.Fatalf("%d records further: it sees nothing wrong", further)
			}
		}
		if second.admits("T-1", d.serial()) {
			t.Errorf("%d records further: it admits somebody", further)
		}
		if n := strings.Count(l.log.String(), `"level":"ERROR"`); n != 1 {
			t.Errorf("%d records further: %d errors in the log", further, n)
		}
		second.start()
		if !second.admits("T-1", d.serial()) {
			t.Errorf("%d records further: it admits nobody after a restart", further)
		}
	}
}

// TestOneCodeAtTwoInstances shows one code with two keys at two instances at once.
func TestOneCodeAtTwoInstances(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test, shares)
	second := l.beside()
	for range 20 {
		id := keyset.TerminalID("T-" + string(rune('A'+l.terminals.issued.Load()%26)))
		l.register(id)
		code := l.code(id)
		devices := []*device{l.device(id), second.device(id)}
		errs := make([]error, len(devices))
		var both sync.WaitGroup
		for i, d := range devices {
			both.Go(func() { errs[i] = d.enroll(code) })
		}
		both.Wait()
		if (errs[0] == nil) == (errs[1] == nil) {
			t.Fatalf("one code at two instances: %v and %v", errs[0], errs[1])
		}
		if n := len(l.certificates(id, identity.Terminal)); n != 1 {
			t.Fatalf("%d certificates for one code", n)
		}
	}
}

// TestBlind has an instance see nothing of the store: it admits nobody and tells followers nothing.
func TestBlind(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test, shares)
	d := l.enrolled("T-1")
	if !l.admits("T-1", d.serial()) {
		t.Fatal("it is not admitted")
	}
	l.engine.SeenBefore(time.Minute)
	if l.admits("T-1", d.serial()) {
		t.Error("admitted by an instance that does not know what others have decided")
	}
	_, err := l.engine.Feed(t.Context(), 0, 0, 0)
	refused(t, "the feed of it", err, provision.CodeStoreUnavailable)
	l.store.Fail = func() error { return errors.New("down") }
	if err := l.engine.CatchUp(t.Context()); err == nil {
		t.Error("it sees a store that is down")
	}
	l.store.Fail = nil
	check(t, l.engine.CatchUp(t.Context()))
	if !l.admits("T-1", d.serial()) {
		t.Error("not admitted when the store is seen again")
	}
	alone := newLaboratory(t, keyset.Test)
	d = alone.enrolled("T-1")
	alone.engine.SeenBefore(time.Minute)
	if !alone.admits("T-1", d.serial()) {
		t.Error("an instance that is alone waits for others")
	}
}
