package provisiontest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/crockford"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// Harness says how the suite gets at a store.
type Harness struct {
	// Open opens the store that lives in dir, making it the first time. The suite closes it, and may open it again.
	Open func(t testing.TB, dir string) provision.Store
	// Leaves returns the audit log of an open store.
	Leaves func(t testing.TB, s provision.Store) []audit.Record
}

// Run runs every test of the suite.
func Run(t *testing.T, h Harness) {
	for name, test := range map[string]func(*testing.T, Harness){
		"Meta": testMeta, "Terminals": testTerminals, "Codes": testCodes, "Certificates": testCertificates,
		"Approvals": testApprovals, "Highest": testHighest, "Feed": testFeed, "Tasks": testTasks, "Audit": testAudit,
		"AllOrNothing": testAllOrNothing, "Ownership": testOwnership, "View": testView, "Durable": testDurable,
		"Parallel": testParallel, "Cancelled": testCancelled, "Closed": testClosed, "Histories": testHistories,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, h)
		})
	}
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(n int) time.Time { return noon.Add(time.Duration(n) * time.Second) }

func must[T any](v T, err error) T {
	if err != nil {
		panic("provisiontest: " + err.Error())
	}
	return v
}

// id returns the n-th id of an approval or a task; they ascend.
func id(n int) string {
	b := make([]byte, 17)
	b[0], b[1] = byte(n>>8), byte(n)
	return string(crockford.Append(nil, b, 26))
}

func serial(n int) string { return fmt.Sprintf("%08x", n+1) }

// keyID returns the n-th key id of a family: of TDES for even, of AES for odd ones.
func keyID(family, n int) dukpt.KeyID {
	text := fmt.Sprintf("FFFF98765432%01X%03X0000", family, n<<5&0xfff)
	if family%2 == 1 {
		text = fmt.Sprintf("12345678%08X", family<<16+n)
	}
	return must(dukpt.ParseKeyID(text))
}

func setOf(family int) keyset.ID { return keyset.ID(fmt.Sprint("SET-", family)) }

// terminal returns a row with something in every field, in its n-th version.
func terminal(name keyset.TerminalID, n int) *provision.Terminal {
	return &provision.Terminal{
		Tenant: "SHOP", ID: name, Status: keyset.StatusActive, StatusReason: fmt.Sprint("reason ", n), StatusSince: at(n),
		Confirmed: n%2 == 0, Generation: uint64(n + 1), Serial: serial(n), PreviousSerial: serial(n + 1), PreviousUntil: at(n + 60),
		NotBefore: at(-60), NotAfter: at(90 * 24 * 3600), KeyHash: provision.KeyHash{1, byte(n)}, AgreementSerial: serial(n + 2),
		AgreementNotAfter: at(365 * 24 * 3600), AgreementHash: provision.KeyHash{2, byte(n)},
		Slots: []provision.Slot{
			{Number: 1, KeySet: setOf(0), Wanted: true, WantedSince: at(1), Keys: []provision.Key{
				{ID: keyID(0, 1), KeySet: setOf(0), State: keyset.SlotDraining, Delivered: at(2), DrainUntil: at(3), FirstSeen: at(4), High: 7},
				{ID: keyID(0, 2), KeySet: setOf(0), State: keyset.SlotActive, Delivered: at(5)},
			}},
			{Number: 2, KeySet: setOf(1)},
		},
		Endpoints: []string{"https://acquirer.example:8450"},
		DrainGrants: []keyset.DrainGrant{
			{ID: id(n), Slot: 1, KeyID: keyID(0, 1), First: 1, Last: 9, Count: 3, Until: at(n + 9)},
		},
		IssuedDay: 20_513, Issued: uint32(n), Registered: noon, Registrar: "ANNA",
	}
}

func code(name keyset.TerminalID, state provision.CodeState, expires int) *provision.OneTimeCode {
	return &provision.OneTimeCode{
		Terminal: name, Check: [32]byte{9, byte(expires)}, State: state, Created: noon, Expires: at(expires), Failures: 3,
		KeyHash: provision.KeyHash{4}, Reserved: at(1), Spent: at(2), Serial: serial(5), Agreement: provision.KeyHash{5}, Author: "ANNA",
	}
}

func certificate(name keyset.TerminalID, role identity.Role, n int) *provision.Certificate {
	return &provision.Certificate{
		Role: role, Serial: serial(n), Terminal: name, Chain: [][]byte{{0x30, byte(n)}, {0x30}}, KeyHash: provision.KeyHash{6, byte(n)},
		Renewal: true, Issued: at(n), NotBefore: at(n - 60), NotAfter: at(n + 3600), Revoked: at(n + 1), Reason: 4,
	}
}

func approval(n int) *provision.Approval {
	who := identity.Identity{Tenant: "SHOP", Role: identity.Operator, Name: "ANNA"}
	other := who
	other.Name = "BERT"
	return &provision.Approval{
		ID: id(n), Requester: who, Source: "10.0.0.1:1", Created: at(n), Expires: at(n + 60), Approver: other,
		Status: keyset.StatusActive, StatusSince: at(n - 60), Approved: at(n + 1),
		Operation: provision.Operation{
			Action: provision.ActionDrain, Terminal: "T-1", Slot: 1, KeyID: keyID(0, 1), First: 1, Last: 9, Count: 3, Until: at(60),
			Reason: "because",
		},
	}
}

func task(n, due int) *provision.Task {
	return &provision.Task{
		ID: id(n), Kind: provision.TaskRevoke, Terminal: "T-1", Serial: serial(n), Reason: 1, Created: noon, Due: at(due), Tries: 2,
	}
}

func record(action string) audit.Record {
	return audit.Record{
		Time: noon, Instance: "RA-1", Actor: "ANNA", Role: "operator", Tenant: "SHOP", Source: "10.0.0.1", Action: action,
		Object: "T-1", Result: "DONE", Reason: "because", Digest: [32]byte{1}, Labels: audit.Labels{Environment: "test"},
		Approvals: []string{"ANNA", "BERT"},
	}
}

// open opens a store that is closed at the end of the test.
func (h Harness) open(t testing.TB, dir string) provision.Store {
	t.Helper()
	s := h.Open(t, dir)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// update runs one transaction that must succeed.
func update(t testing.TB, s provision.Store, f func(provision.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), f); err != nil {
		t.Fatalf("update: %v", err)
	}
}

func view(t testing.TB, s provision.Store, f func(provision.Tx) error) {
	t.Helper()
	if err := s.View(t.Context(), f); err != nil {
		t.Fatalf("view: %v", err)
	}
}

// fails runs one transaction whose last step must end with an error that wraps want.
func fails(t testing.TB, s provision.Store, what string, want error, f func(provision.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), f); !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

// same compares what came back with what was put.
func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %+v, want %+v", what, got, want)
	}
}

// collect gathers what an iteration yields.
func collect[R any](each func(func(R) error) error) (out []R, err error) {
	err = each(func(r R) error {
		out = append(out, r)
		return nil
	})
	return out, err
}

func testAudit(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	before := len(h.Leaves(t, s))
	want := record("one")
	want.Sequence = 999 // the store's to say
	update(t, s, func(tx provision.Tx) error { return errors.Join(tx.Audit(want), tx.Audit(record("two"))) })
	err := s.Update(t.Context(), func(tx provision.Tx) error {
		_ = tx.Audit(audit.Record{Time: noon}) // breaks the format; its error is not passed on
		return tx.PutMeta(provision.Meta{Tenant: "BAD", Epoch: 1})
	})
	if err == nil {
		t.Error("a transaction with a bad audit record is kept")
	}
	leaves := h.Leaves(t, s)
	if len(leaves) != before+2 {
		t.Fatalf("%d records, want %d", len(leaves), before+2)
	}
	for i, action := range []string{"one", "two"} {
		r := record(action)
		r.Sequence = uint64(before + i + 1)
		same(t, action, leaves[before+i], r)
	}
	view(t, s, func(tx provision.Tx) error {
		m, err := tx.Meta()
		if m.Tenant == "BAD" {
			t.Error("half of a transaction was kept")
		}
		return err
	})
}

// everything writes one of each kind.
func everything(tx provision.Tx, n int) error {
	name := keyset.TerminalID(fmt.Sprint("T-", n))
	return errors.Join(
		tx.PutMeta(provision.Meta{Tenant: "SHOP", Epoch: 7, Objects: uint64(n)}), tx.PutTerminal(terminal(name, n)),
		tx.PutOneTimeCode(code(name, provision.StateOpen, n)), tx.PutCertificate(certificate(name, identity.Terminal, n)),
		tx.PutApproval(approval(n)), tx.RaiseHighest(setOf(0), keyID(0, n)), tx.AppendFeed(feedRecord(7, uint64(n), string(name))),
		tx.PutTask(task(n, n)), tx.Audit(record(fmt.Sprint("everything ", n))))
}

// dump reads everything.
func dump(t testing.TB, h Harness, s provision.Store) map[string]any {
	t.Helper()
	out := make(map[string]any)
	put := func(name string, v any, err error) {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if r := reflect.ValueOf(v); r.Kind() != reflect.Slice || r.Len() > 0 {
			out[name] = v
		}
	}
	view(t, s, func(tx provision.Tx) error {
		meta, err := tx.Meta()
		put("meta", meta, err)
		terminals, err := terminalsAfter(tx, "")
		put("terminals", terminals, err)
		for _, r := range terminals {
			c, ok, err := tx.OneTimeCode(r.ID)
			put(fmt.Sprint("code of ", r.ID, ok), c, err)
		}
		issued, err := issuedAfter(tx, "", "")
		put("issued", issued, err)
		for _, i := range issued {
			c, ok, err := tx.Certificate(i.Role, i.Serial)
			put(fmt.Sprint("certificate ", i.Serial, i.Role, ok), c, err)
		}
		approvals, err := collect(tx.Approvals)
		put("approvals", approvals, err)
		for family := range 2 {
			highest, err := tx.Highest(setOf(family))
			put(fmt.Sprint("highest ", family), highest, err)
		}
		records, err := tx.FeedAfter(meta.Epoch, 0, 1<<20)
		put("feed", records, err)
		tasks, err := tx.Tasks(at(1<<30).Unix(), provision.TaskPlace{}, 1<<20)
		put("tasks", tasks, err)
		return nil
	})
	put("leaves", h.Leaves(t, s), nil)
	return out
}

func testAllOrNothing(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	update(t, s, func(tx provision.Tx) error { return everything(tx, 1) })
	before := dump(t, h, s)
	failure := errors.New("changed its mind")
	err := s.Update(t.Context(), func(tx provision.Tx) error {
		if err := everything(tx, 2); err != nil {
			return err
		}
		if got, ok, err := tx.Terminal("T-2"); !ok || err != nil || got.ID != "T-2" {
			t.Errorf("a transaction does not see what it wrote: %+v, %t, %v", got, ok, err)
		}
		return failure
	})
	if !errors.Is(err, failure) {
		t.Errorf("update: %v, want the error of f", err)
	}
	same(t, "after an error", dump(t, h, s), before)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a panic was swallowed")
			}
		}()
		_ = s.Update(t.Context(), func(tx provision.Tx) error {
			_ = everything(tx, 3)
			panic("provisiontest")
		})
	}()
	same(t, "after a panic", dump(t, h, s), before)
	update(t, s, func(tx provision.Tx) error { return everything(tx, 2) })
}

// testOwnership changes what was given and what came back: the store has its own.
func testOwnership(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	given := terminal("T-1", 1)
	envelope := []byte("envelope")
	update(t, s, func(tx provision.Tx) error {
		defer func() { given.Slots[0].Keys[0].High, given.Endpoints[0], envelope[0] = 999, "changed", 'X' }()
		return errors.Join(tx.PutTerminal(given), tx.AppendFeed(provision.FeedRecord{Epoch: 1, Sequence: 1, Object: "A", Envelope: envelope}))
	})
	for range 2 {
		view(t, s, func(tx provision.Tx) error {
			got, _, err := tx.Terminal("T-1")
			same(t, "terminal", got, terminal("T-1", 1))
			got.Slots[0].Keys[0].High = 999
			head, _, headErr := tx.FeedHead(1)
			same(t, "envelope", string(head.Envelope), "envelope")
			head.Envelope[0] = 'X'
			return errors.Join(err, headErr)
		})
	}
}

func testView(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	update(t, s, func(tx provision.Tx) error { return everything(tx, 1) })
	before := dump(t, h, s)
	for name, write := range map[string]func(provision.Tx) error{
		"PutMeta":        func(tx provision.Tx) error { return tx.PutMeta(provision.Meta{}) },
		"PutTerminal":    func(tx provision.Tx) error { return tx.PutTerminal(terminal("T-2", 1)) },
		"PutOneTimeCode": func(tx provision.Tx) error { return tx.PutOneTimeCode(code("T-2", provision.StateOpen, 1)) },
		"PutCertificate": func(tx provision.Tx) error { return tx.PutCertificate(certificate("T-2", identity.Terminal, 2)) },
		"PutApproval":    func(tx provision.Tx) error { return tx.PutApproval(approval(2)) },
		"PruneApprovals": func(tx provision.Tx) error { _, err := tx.PruneApprovals(at(999).Unix()); return err },
		"RaiseHighest":   func(tx provision.Tx) error { return tx.RaiseHighest(setOf(0), keyID(0, 9)) },
		"AppendFeed":     func(tx provision.Tx) error { return tx.AppendFeed(feedRecord(7, 9, "A")) },
		"PruneFeed":      func(tx provision.Tx) error { _, err := tx.PruneFeed(9, 9); return err },
		"PutTask":        func(tx provision.Tx) error { return tx.PutTask(task(2, 2)) },
		"DeleteTask":     func(tx provision.Tx) error { return tx.DeleteTask(id(1)) },
		"Audit":          func(tx provision.Tx) error { return tx.Audit(record("view")) },
	} {
		if err := s.View(t.Context(), write); !errors.Is(err, provision.ErrReadOnly) {
			t.Errorf("%s in a view: %v, want ErrReadOnly", name, err)
		}
	}
	same(t, "after the views", dump(t, h, s), before)
	failure := errors.New("not what was looked for")
	if err := s.View(t.Context(), func(provision.Tx) error { return failure }); !errors.Is(err, failure) {
		t.Errorf("view: %v, want the error of f", err)
	}
}

func testDurable(t *testing.T, h Harness) {
	dir := t.TempDir()
	s := h.Open(t, dir)
	for n := 1; n <= 3; n++ {
		update(t, s, func(tx provision.Tx) error { return everything(tx, n) })
	}
	before := dump(t, h, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := h.open(t, dir)
	same(t, "after opening again", dump(t, h, again), before)
	if err := again.Check(t.Context()); err != nil {
		t.Errorf("check: %v", err)
	}
	same(t, "after the check", dump(t, h, again), before)
}

// testParallel appends to the feed from many goroutines as the engine does: head, then append. No place may be taken
// twice, none may be lost, and a view never sees half of a transaction.
func testParallel(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	const writers, each = 8, 10
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				err := s.Update(t.Context(), func(tx provision.Tx) error {
					head, _, err := tx.FeedHead(1)
					if err != nil {
						return err
					}
					meta, err := tx.Meta()
					if err != nil {
						return err
					}
					if meta.Objects != head.Sequence {
						return fmt.Errorf("meta says %d, the head %d", meta.Objects, head.Sequence)
					}
					meta.Tenant, meta.Epoch, meta.Objects = "SHOP", 1, head.Sequence+1
					r := feedRecord(1, head.Sequence+1, fmt.Sprint("T-", w, "-", i))
					return errors.Join(tx.AppendFeed(r), tx.PutMeta(meta), tx.Audit(record("append")))
				})
				if err != nil {
					t.Errorf("update: %v", err)
				}
			}
		})
		wg.Go(func() {
			for range each {
				err := s.View(t.Context(), func(tx provision.Tx) error {
					head, _, err := tx.FeedHead(1)
					if err != nil {
						return err
					}
					meta, err := tx.Meta()
					if err == nil && meta.Objects != head.Sequence {
						t.Errorf("a view sees meta %d beside head %d", meta.Objects, head.Sequence)
					}
					return err
				})
				if err != nil {
					t.Errorf("view: %v", err)
				}
			}
		})
	}
	wg.Wait()
	view(t, s, func(tx provision.Tx) error {
		all, err := tx.FeedAfter(1, 0, 1000)
		if len(all) != writers*each || all[len(all)-1].Sequence != writers*each {
			t.Errorf("%d records, want %d", len(all), writers*each)
		}
		return err
	})
	if n := len(h.Leaves(t, s)); n != writers*each {
		t.Errorf("%d audit records, want %d", n, writers*each)
	}
}

func testCancelled(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	before := dump(t, h, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Update(ctx, func(tx provision.Tx) error { return everything(tx, 1) }); !errors.Is(err, context.Canceled) {
		t.Errorf("update: %v, want context.Canceled", err)
	}
	if err := s.View(ctx, func(provision.Tx) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("view: %v, want context.Canceled", err)
	}
	same(t, "after cancelled calls", dump(t, h, s), before)
}

func testClosed(t *testing.T, h Harness) {
	s := h.Open(t, t.TempDir())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	nothing := func(provision.Tx) error { t.Error("a closed store runs a transaction"); return nil }
	for name, err := range map[string]error{
		"update": s.Update(t.Context(), nothing), "view": s.View(t.Context(), nothing), "check": s.Check(t.Context()),
	} {
		if refusal, ok := errors.AsType[*provision.Refusal](err); !ok || refusal.Code != provision.CodeStoreUnavailable {
			t.Errorf("%s after Close: %v, want CodeStoreUnavailable", name, err)
		}
	}
}

// testHistories compares the store with the model over random transactions, some of which end with an error.
func testHistories(t *testing.T, h Harness) {
	for seed := range uint64(4) {
		s := h.open(t, t.TempDir())
		model := new(Model)
		modelHarness := Harness{Leaves: func(testing.TB, provision.Store) []audit.Record { return model.Leaves() }}
		r := rand.New(rand.NewPCG(seed, 3))
		for step := range 60 {
			steps := make([]func(provision.Tx) error, 1+r.IntN(4))
			for i := range steps {
				steps[i] = randomStep(r)
			}
			undo := r.IntN(5) == 0
			run := func(tx provision.Tx) error {
				for _, f := range steps {
					if err := f(tx); err != nil {
						return err
					}
				}
				if undo {
					return errors.New("undone")
				}
				return nil
			}
			got, want := s.Update(t.Context(), run), model.Update(t.Context(), run)
			if (got == nil) != (want == nil) || errors.Is(got, provision.ErrExists) != errors.Is(want, provision.ErrExists) {
				t.Fatalf("seed %d, step %d: %v, the model says %v", seed, step, got, want)
			}
		}
		got, want := dump(t, h, s), dump(t, modelHarness, model)
		same(t, fmt.Sprint("seed ", seed), got, want)
	}
}

func randomStep(r *rand.Rand) func(provision.Tx) error {
	n, name, place := r.IntN(6), keyset.TerminalID(fmt.Sprint("T-", r.IntN(3))), uint64(1+r.IntN(40))
	steps := []func(provision.Tx) error{
		func(tx provision.Tx) error {
			return tx.PutMeta(provision.Meta{Tenant: "SHOP", Epoch: uint64(1 + n%2), Objects: uint64(n)})
		},
		func(tx provision.Tx) error { return tx.PutTerminal(terminal(name, n)) },
		func(tx provision.Tx) error {
			return tx.PutOneTimeCode(code(name, provision.CodeState(1+n%4), n))
		},
		func(tx provision.Tx) error { return tx.PutCertificate(certificate(name, identity.Terminal, n)) },
		func(tx provision.Tx) error { return tx.PutApproval(approval(n)) },
		func(tx provision.Tx) error { _, err := tx.PruneApprovals(at(n - 4).Unix()); return err },
		func(tx provision.Tx) error { return tx.RaiseHighest(setOf(n%2), keyID(n%2, n)) },
		func(tx provision.Tx) error {
			return tx.AppendFeed(feedRecord(uint64(1+n%2), place, string(name)))
		},
		func(tx provision.Tx) error { _, err := tx.PruneFeed(uint64(1+n%2), uint64(n)); return err },
		func(tx provision.Tx) error { return tx.PutTask(task(n, n)) },
		func(tx provision.Tx) error { return tx.DeleteTask(id(n)) },
		func(tx provision.Tx) error { return tx.Audit(record(fmt.Sprint("step ", n))) },
	}
	return steps[r.IntN(len(steps))]
}
