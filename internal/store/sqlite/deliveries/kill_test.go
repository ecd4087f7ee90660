package deliveries

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/store/sqlite/sqlitetest"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

// childVariable makes the test binary a process that gives out key ids of the database that it names.
const childVariable = "LATCHKEY_TEST_DELIVERIES"

// child gives out key ids for ever, where the test wants that, and prints the number of each that was acknowledged.
func child() {
	path := os.Getenv(childVariable)
	if path == "" {
		return
	}
	s, err := Open(path, Options{Create: true})
	for n := 1; err == nil; n++ {
		err = s.Update(context.Background(), func(tx keydist.Tx) error {
			return errors.Join(tx.SetLast("PINS", keyID(n)), tx.Issue(issued(n)), tx.Audit(record(n)))
		})
		if err == nil {
			fmt.Println(n)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestKill kills a process while it gives out key ids. Until then no other process can open its database; afterwards every
// id that it acknowledged is there, and is not given out again.
func TestKill(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keyd.db")
	acknowledged := sqlitetest.Kill(t, childVariable, path, func() error { _, err := Open(path, Options{Create: true}); return err })
	s := openAt(t, path)
	defer func() { _ = s.Close() }()
	stored := sqlitetest.Leaves(t, s.db)
	if len(stored) < acknowledged || len(stored) > acknowledged+1 { // it may have been killed before it could say so
		t.Errorf("%d audit records of %d acknowledged key ids", len(stored), acknowledged)
	}
	for n := 1; n <= acknowledged; n++ {
		err := s.Update(t.Context(), func(tx keydist.Tx) error { return tx.Issue(issued(n)) })
		if !errors.Is(err, keydist.ErrConflict) {
			t.Fatalf("key id %d again: %v, want %v", n, err, keydist.ErrConflict)
		}
	}
	if err := s.View(t.Context(), func(tx keydist.Tx) error {
		last, err := tx.Last("PINS")
		if err == nil && last != keyID(len(stored)) {
			t.Errorf("the last one is %v, want %v", last, keyID(len(stored)))
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	sqlitetest.Verify(t, s, path, len(stored))
}
