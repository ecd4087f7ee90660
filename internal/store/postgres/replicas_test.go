package postgres

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/message"
)

// replicas are services over one database.
func replicas(t testing.TB, n int) ([]*Store, []Options) {
	t.Helper()
	o := inFolder(t, t.TempDir())
	stores, all := make([]*Store, n), make([]Options, n)
	for i := range stores {
		all[i] = o
		all[i].Instance = fmt.Sprint("DECRYPT-", i+1)
		stores[i] = open(t, all[i])
	}
	return stores, all
}

// TestReplicas has three services claim other contents under the same keys, in opposite orders: each key is released for one content,
// nobody waits in a circle, and each audit log has what its service was asked.
func TestReplicas(t *testing.T) {
	t.Parallel()
	stores, o := replicas(t, 3)
	const callers, terminals = 8, 24
	var mu sync.Mutex
	fresh, replayed := make(map[int]int), 0
	var wg sync.WaitGroup
	for i, s := range stores {
		for c := range callers {
			wg.Go(func() {
				for k := range terminals {
					terminal := k
					if c%2 == 1 {
						terminal = terminals - 1 - k
					}
					_, err := s.Claim(t.Context(), claimSet(fmt.Sprint(i, c, terminal), terminal, 1))
					mu.Lock()
					switch {
					case err == nil:
						fresh[terminal]++
					case isCode(err, decrypt.CodeKSNReplayed):
						replayed++
					default:
						t.Errorf("service %d: %v", i, err)
					}
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	for terminal := range terminals {
		if fresh[terminal] != 1 {
			t.Errorf("terminal %d: one key released for %d contents", terminal, fresh[terminal])
		}
	}
	if want := terminals * (len(stores)*callers - 1); replayed != want {
		t.Errorf("%d refused, want %d", replayed, want)
	}
	for i := range stores {
		if got := len(dump(t, o[i]).Leaves); got != callers*terminals {
			t.Errorf("audit log of service %d has %d records, want %d", i, got, callers*terminals)
		}
		if got := stores[i].Stats(); got.Connections != 1 || got.Calls != callers*terminals {
			t.Errorf("service %d: %+v", i, got)
		}
	}
	t.Logf("%d claims at %d services: %+v", len(stores)*callers*terminals, len(stores), stores[0].Stats())
}

// TestReplicasAnswer has two services record other answers to one message: there is one decision, and both tell it.
func TestReplicasAnswer(t *testing.T) {
	t.Parallel()
	stores, _ := replicas(t, 2)
	for n := range uint32(10) {
		set := claimSet(fmt.Sprint("s", n), 1, n+1)
		if _, err := stores[0].Claim(t.Context(), set); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var outcomes [2]error
		for i, result := range []message.Result{message.Approved, message.Declined} {
			wg.Go(func() {
				_, outcomes[i] = stores[i].RecordAnswer(t.Context(), answer(set, result))
			})
		}
		wg.Wait()
		first := 0
		if outcomes[0] != nil {
			first = 1
		}
		if outcomes[first] != nil || !isCode(outcomes[1-first], decrypt.CodeAnswerConflict) {
			t.Fatalf("answers %v", outcomes)
		}
		for i, s := range stores {
			a, ok, err := s.LookupAnswer(t.Context(), set.Digest)
			if err != nil || !ok || a.Result != []message.Result{message.Approved, message.Declined}[first] {
				t.Errorf("service %d tells %v %v %v", i, a.Result, ok, err)
			}
		}
	}
}

func answer(set decrypt.ClaimSet, result message.Result) decrypt.Answer {
	return decrypt.Answer{
		Digest: set.Digest, Original: set.Original, Tenant: set.Tenant, Result: result, Body: []byte(result.String()),
		Ack: []byte("ack of " + result.String()), KSN: set.Claims[0].KSN, Content: decrypt.Content(set.Digest), Time: noon,
		Audit: audit.Record{Time: noon, Instance: "decrypt-1", Action: "answer", Object: "s", Result: "DONE"},
	}
}

// TestInstanceIsOne refuses a second process of one name, and takes it when the first has ended.
func TestInstanceIsOne(t *testing.T) {
	t.Parallel()
	o := inFolder(t, t.TempDir())
	o.Patience = patience / 10
	first := mustOpen(t, o)
	if s, err := Open(t.Context(), o); !errors.Is(err, ErrLocked) {
		t.Errorf("open: %v %v, want %v", s, err, ErrLocked)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, o)
}

// TestStatements counts: one statement writes all claims of a batch, and a commit takes two exchanges, whatever their number.
func TestStatements(t *testing.T) {
	t.Parallel()
	const callers = 128
	s, _ := openNew(t)
	release := hold(t, s)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			if _, err := s.Claim(t.Context(), claimSet(fmt.Sprint(i), i, 1)); err != nil {
				t.Errorf("claim %d: %v", i, err)
			}
		})
	}
	queued(t, s, callers)
	before := s.Stats()
	release()
	wg.Wait()
	after := s.Stats()
	commits, calls, statements := after.Commits-before.Commits, after.Calls-before.Calls, after.Statements-before.Statements
	if commits != 2 || calls != callers+1 { // the one held, and the rest
		t.Errorf("%d commits of %d calls, want 2 of %d", commits, calls, callers+1)
	}
	if statements > 16 {
		t.Errorf("%d statements for %d claims", statements, callers)
	}
	t.Logf("%d claims under way: %d commits, %d statements", callers, commits, statements)
}
