package postgres

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/audit"
)

// patience is how long tests wait for what should take no time.
const patience = 30 * time.Second

// hold keeps the writer busy with one call until the returned function is called.
func hold(t testing.TB, s *Store) (release func()) {
	t.Helper()
	entered, leave := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	var once sync.Once
	wg.Go(func() {
		_ = s.writer.submit(context.Background(), newNeeds(), func(*ledger) error {
			once.Do(func() { close(entered) })
			<-leave
			return nil
		})
	})
	<-entered
	return func() {
		close(leave)
		wg.Wait()
	}
}

// queued waits until n calls are in the queue.
func queued(t testing.TB, s *Store, n int) {
	t.Helper()
	for deadline := time.Now().Add(patience); s.writer.queue.Len() < n; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d calls in the queue, want %d", s.writer.queue.Len(), n)
		}
	}
}

// TestOneBrokenCall mixes calls that fail with good ones: only they fail.
func TestOneBrokenCall(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		do   func(*ledger) error
		want error
	}{
		"it refuses":             {func(*ledger) error { return broken }, broken},
		"it audits no record":    {func(l *ledger) error { return l.log(audit.Record{}) }, audit.ErrRecord},
		"it breaks a rule":       {func(l *ledger) error { l.drains["G"] = &drain{changed: true}; return nil }, ErrUnavailable},
		"it was not to be there": {func(l *ledger) error { l.leaves = append(l.leaves, leaf{n: 7}); return nil }, ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, o := openNew(t)
			release := hold(t, s)
			var wg sync.WaitGroup
			const good = 10
			for i := range good {
				wg.Go(func() {
					if _, err := s.Claim(t.Context(), claimSet(fmt.Sprint(i), i, 1)); err != nil {
						t.Errorf("claim %d: %v", i, err)
					}
				})
			}
			wg.Go(func() {
				if err := s.writer.submit(t.Context(), newNeeds(), c.do); !errors.Is(err, c.want) {
					t.Errorf("broken call: %v, want %v", err, c.want)
				}
			})
			queued(t, s, good+1)
			release()
			wg.Wait()
			if held := dump(t, o); len(held.Requests) != good || len(held.Leaves) != good {
				t.Errorf("%d messages and %d records, want %d of each", len(held.Requests), len(held.Leaves), good)
			}
		})
	}
}

// TestPanic gives the panic of a call to its caller, and goes on.
func TestPanic(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		_ = s.writer.submit(t.Context(), newNeeds(), func(*ledger) error { panic("here") })
	}()
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("check: %v", err)
	}
}

// TestGivesUp has a caller give up whose turn has not come, and one whose commit is under way.
func TestGivesUp(t *testing.T) {
	t.Parallel()
	s, o := openNew(t)
	release := hold(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := s.Claim(ctx, claimSet("s1", 1, 1)); !errors.Is(err, context.Canceled) {
			t.Errorf("claim: %v", err)
		}
	})
	queued(t, s, 1)
	cancel()
	wg.Wait()
	release()
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if held := dump(t, o); len(held.Requests) != 0 {
		t.Errorf("a call that gave up was carried out: %v", held.Requests)
	}
}

// TestNotRead stops a call that looks at what it did not ask for.
func TestNotRead(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	set := claimSet("s1", 1, 1)
	err := s.writer.submit(t.Context(), newNeeds(), func(l *ledger) error {
		_, err := l.claim(&set)
		return err
	})
	if !errors.Is(err, errNotRead) {
		t.Errorf("claim: %v, want %v", err, errNotRead)
	}
	if _, err := s.Claim(t.Context(), set); err != nil {
		t.Errorf("claim: %v", err)
	}
}

// TestLostConnection ends sessions at the server, before and while they are used. Nothing is answered wrongly, and the store comes
// back by itself.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	s, o := openNew(t)
	end := func() {
		t.Helper()
		name := fmt.Sprintf("latchkey %s", o.Instance)
		if err := exec(t, o, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '`+name+`' AND pid <> pg_backend_pid()
			AND datname = current_database() AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND
			((classid::bigint << 32) | objid::bigint) = `+fmt.Sprint(number(o.Schema, "instance", []byte(o.Instance)))+`)`); err != nil {
			t.Fatal(err)
		}
	}
	for n := range uint32(5) {
		end()
		set := claimSet(fmt.Sprint(n), 1, n+1)
		deadline := time.Now().Add(patience)
		for {
			_, err := s.Claim(t.Context(), set)
			if err == nil {
				break
			}
			if !isCode(err, decrypt.CodeStoreUnavailable) || time.Now().After(deadline) {
				t.Fatalf("claim %d: %v", n, err)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	if held := dump(t, o); len(held.Requests) != 5 || len(held.Leaves) != 5 {
		t.Errorf("%d messages, %d records, want 5 of each", len(held.Requests), len(held.Leaves))
	}
	if got := s.Stats(); got.Connections < 6 {
		t.Errorf("%+v, want 6 connections", got)
	}
}
