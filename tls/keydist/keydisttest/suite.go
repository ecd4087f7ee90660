package keydisttest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

// Harness says how the suite gets at a store.
type Harness struct {
	// Open opens the store that lives in dir, making it the first time. The suite closes it, and may open it again.
	Open func(t testing.TB, dir string) keydist.Store
	// Leaves returns the audit log of an open store.
	Leaves func(t testing.TB, s keydist.Store) []audit.Record
}

// Run runs every test of the suite.
func Run(t *testing.T, h Harness) {
	for name, test := range map[string]func(*testing.T, Harness){
		"Last": testLast, "IssueOnce": testIssueOnce, "Pending": testPending, "Settle": testSettle, "Certified": testCertified,
		"AllOrNothing": testAllOrNothing, "View": testView, "Audit": testAudit, "Durable": testDurable, "Parallel": testParallel,
		"Cancelled": testCancelled, "Closed": testClosed, "Histories": testHistories,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, h)
		})
	}
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

// keyID returns the n-th key id of the suite: of TDES for even, of AES for odd families.
func keyID(family, n int) dukpt.KeyID {
	text := fmt.Sprintf("FFFF98765432%01X%03X0000", family, n<<5&0xfff)
	if family%2 == 1 {
		text = fmt.Sprintf("12345678%08X", family<<16+n)
	}
	id, err := dukpt.ParseKeyID(text)
	if err != nil {
		panic(err) // the texts above are key ids
	}
	return id
}

// setOf names the key set of a family.
func setOf(family int) keyset.ID { return keyset.ID(fmt.Sprint("SET-", family)) }

func issued(family, n int, terminal keyset.TerminalID, slot uint8) keydist.Issued {
	return keydist.Issued{
		KeySet: setOf(family), KeyID: keyID(family, n), Terminal: terminal, Slot: slot, Replaces: keyID(family, 99),
		Delivery: keyset.Attested, Agreement: [32]byte{byte(n), 7}, State: keyset.SlotPending, IssuedAt: noon.Add(time.Duration(n) * time.Second),
	}
}

// stored is what comes back of it.
func stored(i keydist.Issued) keydist.Issued {
	i.IssuedAt = milliseconds(i.IssuedAt)
	return i
}

func record(action string) audit.Record {
	return audit.Record{
		Time: noon.Truncate(time.Millisecond), Instance: "KDH-1", Actor: "RA-1", Role: "ra", Tenant: "ACME", Source: "10.0.0.1", Action: action,
		Object: "T-1/1/SET-0", Result: "ALLOCATED", Reason: "clear-in-host", Digest: [32]byte{1}, KCV: "ABCDEF",
		Labels: audit.Labels{KeyMode: "software", PINExposure: "host-memory", Environment: "test"},
	}
}

// open opens a store that is closed at the end of the test.
func (h Harness) open(t testing.TB, dir string) keydist.Store {
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
func update(t testing.TB, s keydist.Store, f func(keydist.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), f); err != nil {
		t.Fatalf("update: %v", err)
	}
}

func view(t testing.TB, s keydist.Store, f func(keydist.Tx) error) {
	t.Helper()
	if err := s.View(t.Context(), f); err != nil {
		t.Fatalf("view: %v", err)
	}
}

// conflicts runs one transaction that must end with ErrConflict.
func conflicts(t testing.TB, s keydist.Store, what string, f func(keydist.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), f); !errors.Is(err, keydist.ErrConflict) {
		t.Errorf("%s: %v, want ErrConflict", what, err)
	}
}

func last(t testing.TB, s keydist.Store, set keyset.ID) (id dukpt.KeyID) {
	t.Helper()
	view(t, s, func(tx keydist.Tx) (err error) { id, err = tx.Last(set); return err })
	return id
}

func pending(t testing.TB, s keydist.Store, terminal keyset.TerminalID, slot uint8) (out []keydist.Issued) {
	t.Helper()
	view(t, s, func(tx keydist.Tx) (err error) { out, err = tx.Pending(terminal, slot); return err })
	return out
}

func lookup(t testing.TB, s keydist.Store, set keyset.ID, id dukpt.KeyID) (i keydist.Issued, ok bool) {
	t.Helper()
	view(t, s, func(tx keydist.Tx) (err error) { i, ok, err = tx.Issued(set, id); return err })
	return i, ok
}

func testLast(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	set := func(family, n int) func(keydist.Tx) error {
		return func(tx keydist.Tx) error { return tx.SetLast(setOf(family), keyID(family, n)) }
	}
	if id := last(t, s, setOf(0)); !id.IsZero() {
		t.Errorf("of an empty store: %v", id)
	}
	for _, family := range []int{0, 1} { // TDES and AES
		update(t, s, set(family, 5))
		update(t, s, set(family, 6))
		update(t, s, set(family, 90))
		for _, n := range []int{90, 89, 5} {
			conflicts(t, s, fmt.Sprintf("family %d: %d after 90", family, n), set(family, n))
		}
		if id := last(t, s, setOf(family)); id != keyID(family, 90) {
			t.Errorf("family %d: %v, want %v", family, id, keyID(family, 90))
		}
	}
	if id := last(t, s, setOf(2)); !id.IsZero() {
		t.Errorf("of another set: %v", id)
	}
}

func testIssueOnce(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	first := issued(0, 1, "T-1", 1)
	issue := func(i keydist.Issued) func(keydist.Tx) error { return func(tx keydist.Tx) error { return tx.Issue(i) } }
	update(t, s, issue(first))
	if got, ok := lookup(t, s, first.KeySet, first.KeyID); !ok || got != stored(first) {
		t.Errorf("came back as %+v, %v, want %+v", got, ok, stored(first))
	}
	if got, ok := lookup(t, s, first.KeySet, keyID(0, 2)); ok {
		t.Errorf("an id that was not given out: %+v", got)
	}
	again := first
	again.Terminal, again.Slot = "T-2", 9
	conflicts(t, s, "the id for another terminal", issue(again))
	conflicts(t, s, "twice in one transaction", func(tx keydist.Tx) error {
		if err := tx.Issue(issued(0, 7, "T-1", 1)); err != nil {
			return err
		}
		return tx.Issue(issued(0, 7, "T-1", 1))
	})
	for _, state := range []keyset.SlotState{keyset.SlotActive, keyset.SlotRetired} {
		update(t, s, func(tx keydist.Tx) error { return tx.Settle(first.KeySet, first.KeyID, state, noon) })
		conflicts(t, s, "the id when it is "+state.String(), issue(again))
	}
	other := again
	other.KeySet = "OTHER"
	update(t, s, issue(other)) // the same id under another base key
	if got, ok := lookup(t, s, "OTHER", first.KeyID); !ok || got.Terminal != "T-2" {
		t.Errorf("under another set: %+v, %v", got, ok)
	}
	settled := issued(0, 8, "T-1", 1)
	settled.State = keyset.SlotActive
	conflicts(t, s, "an id that is confirmed from the start", issue(settled))
}

func testPending(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	all := []keydist.Issued{ // in this order, which is not that of the ids
		issued(0, 5, "T-1", 1), issued(1, 3, "T-1", 1), issued(0, 2, "T-1", 1), issued(0, 6, "T-1", 2), issued(0, 7, "T-2", 1),
		issued(0, 9, "T-1", 1), issued(1, 1, "T-1", 1),
	}
	for _, i := range all {
		update(t, s, func(tx keydist.Tx) error { return tx.Issue(i) })
	}
	update(t, s, func(tx keydist.Tx) error {
		if err := tx.Settle(all[1].KeySet, all[1].KeyID, keyset.SlotActive, noon); err != nil {
			return err
		}
		return tx.Settle(all[5].KeySet, all[5].KeyID, keyset.SlotRetired, noon)
	})
	want := []keydist.Issued{stored(all[0]), stored(all[2]), stored(all[6])}
	if got := pending(t, s, "T-1", 1); !slices.Equal(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if got := pending(t, s, "T-2", 1); len(got) != 1 || got[0] != stored(all[4]) {
		t.Errorf("of another terminal: %+v", got)
	}
	if got := pending(t, s, "T-2", 2); len(got) != 0 {
		t.Errorf("of an empty slot: %+v", got)
	}
}

func testSettle(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	states := []keyset.SlotState{keyset.SlotPending, keyset.SlotActive, keyset.SlotDraining, keyset.SlotRetired}
	n := 0
	for _, from := range []keyset.SlotState{keyset.SlotPending, keyset.SlotActive, keyset.SlotRetired} {
		for _, to := range states {
			n++
			i := issued(0, n, "T-1", 1)
			update(t, s, func(tx keydist.Tx) error {
				if err := tx.Issue(i); err != nil || from == keyset.SlotPending {
					return err
				}
				return tx.Settle(i.KeySet, i.KeyID, from, noon)
			})
			permitted := to != keyset.SlotPending && to != keyset.SlotDraining && from < to
			at := noon.Add(time.Hour)
			err := s.Update(t.Context(), func(tx keydist.Tx) error { return tx.Settle(i.KeySet, i.KeyID, to, at) })
			if permitted != (err == nil) || !permitted && !errors.Is(err, keydist.ErrConflict) {
				t.Errorf("from %v to %v: %v, permitted %v", from, to, err, permitted)
			}
			want := stored(i)
			switch {
			case permitted:
				want.State, want.SettledAt = to, milliseconds(at)
			case from != keyset.SlotPending:
				want.State, want.SettledAt = from, milliseconds(noon)
			}
			if got, ok := lookup(t, s, i.KeySet, i.KeyID); !ok || got != want {
				t.Errorf("from %v to %v: stored %+v\nwant %+v", from, to, got, want)
			}
		}
	}
	conflicts(t, s, "an id that was not given out", func(tx keydist.Tx) error {
		return tx.Settle(setOf(0), keyID(0, 100), keyset.SlotActive, noon)
	})
}

func testCertified(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	entry := func(terminal keyset.TerminalID, spki byte, serial string) keydist.Certified {
		return keydist.Certified{
			Terminal: terminal, SPKI: [32]byte{spki}, Serial: serial, IssuedAt: milliseconds(noon),
			Chain: [][]byte{[]byte("leaf " + serial), []byte("issuing"), {0}},
		}
	}
	find := func(terminal keyset.TerminalID, spki byte) (c keydist.Certified, ok bool) {
		view(t, s, func(tx keydist.Tx) (err error) { c, ok, err = tx.Certified(terminal, [32]byte{spki}); return err })
		return c, ok
	}
	count := func(terminal keyset.TerminalID) (n int) {
		view(t, s, func(tx keydist.Tx) (err error) { n, err = tx.AgreementKeys(terminal); return err })
		return n
	}
	if _, ok := find("T-1", 1); ok || count("T-1") != 0 {
		t.Error("an empty store has a certificate")
	}
	for _, c := range []keydist.Certified{entry("T-1", 1, "01"), entry("T-1", 2, "02"), entry("T-2", 1, "03"), entry("T-1", 1, "04")} {
		update(t, s, func(tx keydist.Tx) error { return tx.Certify(c) })
	}
	for _, want := range []keydist.Certified{entry("T-1", 1, "04"), entry("T-1", 2, "02"), entry("T-2", 1, "03")} {
		if got, ok := find(want.Terminal, want.SPKI[0]); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v\nwant %+v", got, ok, want)
		}
	}
	if a, b := count("T-1"), count("T-2"); a != 2 || b != 1 {
		t.Errorf("%d and %d keys, want 2 and 1", a, b)
	}
	if _, ok := find("T-2", 2); ok {
		t.Error("a key of another terminal")
	}
}

var errWanted = errors.New("the function failed")

func testAllOrNothing(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	everything := func(tx keydist.Tx) error {
		return errors.Join(tx.SetLast(setOf(0), keyID(0, 1)), tx.Issue(issued(0, 1, "T-1", 1)),
			tx.Certify(keydist.Certified{Terminal: "T-1", SPKI: [32]byte{1}, Serial: "01", Chain: [][]byte{{1}}, IssuedAt: noon}),
			tx.Settle(setOf(0), keyID(0, 1), keyset.SlotActive, noon), tx.Audit(record("deliver")))
	}
	err := s.Update(t.Context(), func(tx keydist.Tx) error {
		if err := everything(tx); err != nil {
			return err
		}
		i, ok, err := tx.Issued(setOf(0), keyID(0, 1)) // a transaction sees what it wrote
		if err != nil || !ok || i.State != keyset.SlotActive {
			return fmt.Errorf("inside the transaction: %+v, %v, %w", i, ok, err)
		}
		return errWanted
	})
	if !errors.Is(err, errWanted) {
		t.Fatalf("update: %v, want the error of the function", err)
	}
	refusal := &keydist.Refusal{Code: keydist.CodeTooManyPending, Detail: "slot 1"}
	err = s.Update(t.Context(), func(tx keydist.Tx) error { return errors.Join(everything(tx), refusal) })
	if got, ok := errors.AsType[*keydist.Refusal](err); !ok || got.Code != refusal.Code || got.Detail != refusal.Detail {
		t.Errorf("update: %v, want the refusal of the function", err)
	}
	if _, ok := lookup(t, s, setOf(0), keyID(0, 1)); ok || !last(t, s, setOf(0)).IsZero() || len(h.Leaves(t, s)) != 0 {
		t.Error("a failed transaction left something behind")
	}
	update(t, s, everything)
	if i, ok := lookup(t, s, setOf(0), keyID(0, 1)); !ok || i.State != keyset.SlotActive || len(h.Leaves(t, s)) != 1 {
		t.Errorf("a good transaction left %+v, %v", i, ok)
	}
}

func testView(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	update(t, s, func(tx keydist.Tx) error { return tx.Issue(issued(0, 1, "T-1", 1)) })
	for name, write := range map[string]func(keydist.Tx) error{
		"SetLast": func(tx keydist.Tx) error { return tx.SetLast(setOf(0), keyID(0, 1)) },
		"Issue":   func(tx keydist.Tx) error { return tx.Issue(issued(0, 2, "T-1", 1)) },
		"Settle":  func(tx keydist.Tx) error { return tx.Settle(setOf(0), keyID(0, 1), keyset.SlotActive, noon) },
		"Certify": func(tx keydist.Tx) error {
			return tx.Certify(keydist.Certified{Terminal: "T-1", Serial: "01", Chain: [][]byte{{1}}, IssuedAt: noon})
		},
		"Audit": func(tx keydist.Tx) error { return tx.Audit(record("deliver")) },
	} {
		if err := s.View(t.Context(), write); err == nil {
			t.Errorf("%s in a view went through", name)
		}
	}
	if err := s.View(t.Context(), func(keydist.Tx) error { return errWanted }); !errors.Is(err, errWanted) {
		t.Errorf("view: %v, want the error of the function", err)
	}
	i, _ := lookup(t, s, setOf(0), keyID(0, 1))
	if _, ok := lookup(t, s, setOf(0), keyID(0, 2)); ok || i.State != keyset.SlotPending || !last(t, s, setOf(0)).IsZero() || len(h.Leaves(t, s)) != 0 {
		t.Error("a view changed the store")
	}
}

func testAudit(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	for _, action := range []string{"deliver", "settle"} {
		update(t, s, func(tx keydist.Tx) error {
			return errors.Join(tx.Audit(record(action)), tx.Audit(record(action+" again")))
		})
	}
	leaves := h.Leaves(t, s)
	if len(leaves) != 4 {
		t.Fatalf("%d records, want 4", len(leaves))
	}
	for i, action := range []string{"deliver", "deliver again", "settle", "settle again"} {
		want := record(action)
		want.Sequence = uint64(i) + 1
		if !reflect.DeepEqual(leaves[i], want) {
			t.Errorf("record %d: %+v\nwant %+v", i, leaves[i], want)
		}
	}
	if err := s.Update(t.Context(), func(tx keydist.Tx) error { return tx.Audit(audit.Record{}) }); err == nil {
		t.Error("a record that is none went through")
	}
}

func testDurable(t *testing.T, h Harness) {
	dir := t.TempDir()
	s := h.Open(t, dir)
	one := issued(1, 1, "T-1", 1)
	update(t, s, func(tx keydist.Tx) error {
		return errors.Join(tx.SetLast(one.KeySet, one.KeyID), tx.Issue(one), tx.Audit(record("deliver")),
			tx.Certify(keydist.Certified{Terminal: "T-1", SPKI: [32]byte{1}, Serial: "01", Chain: [][]byte{{1}, {2}}, IssuedAt: noon}))
	})
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("check: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	s = h.open(t, dir)
	if got, ok := lookup(t, s, one.KeySet, one.KeyID); !ok || got != stored(one) || last(t, s, one.KeySet) != one.KeyID {
		t.Errorf("after opening again: %+v, %v, last %v", got, ok, last(t, s, one.KeySet))
	}
	if got := pending(t, s, "T-1", 1); len(got) != 1 {
		t.Errorf("after opening again %+v is pending", got)
	}
	conflicts(t, s, "the same id after opening again", func(tx keydist.Tx) error { return tx.Issue(one) })
	update(t, s, func(tx keydist.Tx) error { return tx.Audit(record("settle")) }) // the log goes on where it ended
	if leaves := h.Leaves(t, s); len(leaves) != 2 || leaves[1].Sequence != 2 {
		t.Errorf("audit log %+v", leaves)
	}
}

// testParallel takes the next number of a set in many transactions at once: as if one came after the other.
func testParallel(t *testing.T, h Harness) {
	const takers = 64
	s := h.open(t, t.TempDir())
	var all sync.WaitGroup
	for range takers {
		all.Go(func() {
			err := s.Update(t.Context(), func(tx keydist.Tx) error {
				before, err := tx.Last(setOf(1))
				if err != nil {
					return err
				}
				n := 1
				for !before.IsZero() && keyID(1, n) != before {
					n++
				}
				if !before.IsZero() {
					n++
				}
				return errors.Join(tx.SetLast(setOf(1), keyID(1, n)), tx.Issue(issued(1, n, "T-1", 1)), tx.Audit(record("deliver")))
			})
			if err != nil {
				t.Errorf("update: %v", err)
			}
		})
	}
	all.Wait()
	if got := last(t, s, setOf(1)); got != keyID(1, takers) || len(pending(t, s, "T-1", 1)) != takers || len(h.Leaves(t, s)) != takers {
		t.Errorf("last is %v with %d given out and %d records, want %v and %d", got, len(pending(t, s, "T-1", 1)), len(h.Leaves(t, s)), keyID(1, takers), takers)
	}
}

func testCancelled(t *testing.T, h Harness) {
	s := h.open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	issue := func(tx keydist.Tx) error { return tx.Issue(issued(0, 1, "T-1", 1)) }
	if err := s.Update(ctx, issue); !errors.Is(err, context.Canceled) {
		t.Errorf("update: %v, want the error of the context", err)
	}
	if err := s.View(ctx, func(keydist.Tx) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("view: %v, want the error of the context", err)
	}
	if _, ok := lookup(t, s, setOf(0), keyID(0, 1)); ok {
		t.Error("a cancelled transaction left something behind")
	}
}

func testClosed(t *testing.T, h Harness) {
	s := h.Open(t, t.TempDir())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"update": s.Update(t.Context(), func(keydist.Tx) error { return nil }),
		"view":   s.View(t.Context(), func(keydist.Tx) error { return nil }),
		"check":  s.Check(t.Context()),
	} {
		if r, ok := errors.AsType[*keydist.Refusal](err); !ok || r.Code != keydist.CodeStoreUnavailable {
			t.Errorf("%s after close: %v, want %s", name, err, keydist.CodeStoreUnavailable)
		}
	}
}

// testHistories makes the same random moves in the store and in a model, and compares what they answer.
func testHistories(t *testing.T, h Harness) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			s, model := h.open(t, t.TempDir()), new(Model)
			random := rand.New(rand.NewPCG(seed, 1))
			for step := range 60 {
				move, name := randomMove(random)
				want := model.Update(t.Context(), move)
				got := s.Update(t.Context(), move)
				if (want == nil) != (got == nil) || errors.Is(want, keydist.ErrConflict) != errors.Is(got, keydist.ErrConflict) {
					t.Fatalf("step %d, %s: %v, want %v", step, name, got, want)
				}
			}
			for family := range 2 {
				if got, want := last(t, s, setOf(family)), last(t, model, setOf(family)); got != want {
					t.Errorf("last of %d: %v, want %v", family, got, want)
				}
				for n := range 12 {
					got, ok := lookup(t, s, setOf(family), keyID(family, n))
					if want, there := lookup(t, model, setOf(family), keyID(family, n)); ok != there || got != want {
						t.Errorf("id %d of %d: %+v, %v\nwant %+v, %v", n, family, got, ok, want, there)
					}
				}
			}
			for slot := range uint8(4) {
				if got, want := pending(t, s, "T-1", slot), pending(t, model, "T-1", slot); !slices.Equal(got, want) {
					t.Errorf("pending in %d: %+v\nwant %+v", slot, got, want)
				}
			}
			if got, want := h.Leaves(t, s), model.Leaves(); !reflect.DeepEqual(got, want) {
				t.Errorf("audit log %+v\nwant %+v", got, want)
			}
		})
	}
}

// randomMove is a transaction of one to three writes, of which some conflict.
func randomMove(random *rand.Rand) (func(keydist.Tx) error, string) {
	type write struct {
		kind, family, n int
		slot            uint8
		state           keyset.SlotState
	}
	var writes []write
	for range 1 + random.IntN(3) {
		writes = append(writes, write{
			random.IntN(4), random.IntN(2), random.IntN(12), uint8(random.IntN(3)) + 1, keyset.SlotState(random.IntN(4)) + 1,
		})
	}
	return func(tx keydist.Tx) error {
		for _, w := range writes {
			var err error
			switch w.kind {
			case 0:
				err = tx.SetLast(setOf(w.family), keyID(w.family, w.n))
			case 1:
				err = tx.Issue(issued(w.family, w.n, "T-1", w.slot))
			case 2:
				err = tx.Settle(setOf(w.family), keyID(w.family, w.n), w.state, noon)
			default:
				err = tx.Audit(record(fmt.Sprint("move ", w.n)))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}, fmt.Sprintf("%+v", writes)
}
