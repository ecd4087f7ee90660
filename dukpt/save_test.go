package dukpt

import (
	"bytes"
	"errors"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

func TestStateWipedAfterSave(t *testing.T) {
	t.Parallel()
	term := testBases(t)[1].terminal(t)
	var kept secret.Bytes
	if err := term.Reserve(1, func(s secret.Bytes) error { kept = s; return nil }); err != nil || kept.Len() != 0 {
		t.Errorf("after Reserve the state has %d bytes, %v", kept.Len(), err)
	}
	if err := term.Reserve(1, func(s secret.Bytes) error { kept = s; return errors.New("x") }); err == nil || kept.Len() != 0 {
		t.Errorf("after a failed save the state has %d bytes, %v", kept.Len(), err)
	}
}

func TestOldRegistersWiped(t *testing.T) {
	t.Parallel()
	b := testBases(t)[1]
	term := b.terminal(t)
	empty := func(when string) {
		t.Helper()
		for name, cell := range map[string]secret.Bytes{"spare registers": term.spare, "room for the state": term.room} {
			if b := cell.Expose(); len(b) < 300 || !bytes.Equal(b, make([]byte, len(b))) {
				t.Errorf("after %s the %s are not %d zeros", when, name, len(b))
			}
		}
	}
	fail := func(secret.Bytes) error { return errors.New("x") }
	empty("NewTerminal")
	for what, change := range map[string]func(save func(secret.Bytes) error) error{
		"Reserve": func(save func(secret.Bytes) error) error { return term.Reserve(1, save) },
		"SkipTo":  func(save func(secret.Bytes) error) error { return term.SkipTo(mustAt(t, b.id, 5000), save) },
	} {
		if err := change(nil); err == nil {
			t.Errorf("%s without a save function went on", what)
		}
		empty(what + " without a save function")
		if err := change(fail); err == nil {
			t.Errorf("%s went on after a failed save", what)
		}
		empty("a failed " + what)
		before := bytes.Clone(term.cell.Expose())
		if err := change(discard); err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(before, term.cell.Expose()) {
			t.Errorf("%s changed nothing", what)
		}
		empty(what)
	}
}

// savers are the two that save, as a test calls them on a fresh terminal.
var savers = map[string]func(testing.TB, testBase, *Terminal, func(secret.Bytes) error) error{
	"Reserve": func(_ testing.TB, _ testBase, term *Terminal, save func(secret.Bytes) error) error {
		return term.Reserve(2, save)
	},
	"SkipTo": func(t testing.TB, b testBase, term *Terminal, save func(secret.Bytes) error) error {
		return term.SkipTo(mustAt(t, b.id, 5000), save)
	},
}

// TestWipeInSave has a terminal tampered with while it saves: nothing that was computed before comes back, least of all as
// zeros that anybody can encrypt with.
func TestWipeInSave(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		for name, change := range savers {
			term := b.terminal(t)
			if err := term.Reserve(3, discard); err != nil {
				t.Fatal(err)
			}
			err := change(t, b, term, func(secret.Bytes) error { term.Wipe(); return nil })
			if !errors.Is(err, ErrWiped) {
				t.Errorf("%s, %s: %v, want %v", b.name, name, err, ErrWiped)
			}
			if ksn, ok := term.NextKSN(); ok || term.Available() != 0 {
				t.Errorf("%s, %s: the wiped terminal has %d keys, next %v", b.name, name, term.Available(), ksn)
			}
			if err := term.Next(NewTransaction()); !errors.Is(err, ErrExhausted) {
				t.Errorf("%s, %s: Next of the wiped terminal: %v", b.name, name, err)
			}
			if err := change(t, b, term, discard); !errors.Is(err, ErrExhausted) {
				t.Errorf("%s, %s: again after that: %v", b.name, name, err)
			}
			for what, cell := range map[string]secret.Bytes{"registers": term.cell, "spare": term.spare, "reserved keys": term.reserved, "state": term.room} {
				if x := cell.Expose(); !bytes.Equal(x, make([]byte, len(x))) {
					t.Errorf("%s, %s: keys are left in the %s", b.name, name, what)
				}
			}
		}
	}
}

// TestSaveInSave refuses to change what is being saved, and loses nothing by it. Reserved keys may be used meanwhile.
func TestSaveInSave(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		for name, change := range savers {
			for inner, other := range savers {
				term := b.terminal(t)
				if err := term.Reserve(1, discard); err != nil {
					t.Fatal(err)
				}
				calls := 0
				err := change(t, b, term, func(secret.Bytes) error {
					calls++
					if err := other(t, b, term, func(secret.Bytes) error { calls++; return nil }); !errors.Is(err, errSaving) {
						t.Errorf("%s, %s inside %s: %v", b.name, inner, name, err)
					}
					if name == "Reserve" {
						mustNext(t, b, term, mustAt(t, b.id, 1))
					}
					return nil
				})
				if err != nil || calls != 1 {
					t.Fatalf("%s, %s: %v, saved %d times", b.name, name, err, calls)
				}
				if name == "Reserve" {
					mustNext(t, b, term, mustAt(t, b.id, 2))
					mustNext(t, b, term, mustAt(t, b.id, 3))
					continue
				}
				if err := term.Reserve(1, discard); err != nil {
					t.Fatal(err)
				}
				mustNext(t, b, term, mustAt(t, b.id, 5000))
			}
		}
	}
}

// TestPanicInSave has save panic: nothing that was computed for it is left, and the terminal goes on as if it had failed.
func TestPanicInSave(t *testing.T) {
	t.Parallel()
	for _, b := range testBases(t) {
		for name, change := range savers {
			term := b.terminal(t)
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s, %s: the panic is gone", b.name, name)
					}
				}()
				_ = change(t, b, term, func(secret.Bytes) error { panic("the medium is gone") })
			}()
			for what, cell := range map[string]secret.Bytes{"spare": term.spare, "reserved keys": term.reserved, "state": term.room} {
				if x := cell.Expose(); !bytes.Equal(x, make([]byte, len(x))) {
					t.Errorf("%s, %s: keys are left in the %s", b.name, name, what)
				}
			}
			if err := term.Reserve(1, discard); err != nil {
				t.Fatal(err)
			}
			mustNext(t, b, term, mustAt(t, b.id, 1))
		}
	}
}
