package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/store/sqlite/sqlitetest"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// childVariable makes the test binary a process that registers terminals in the database that it names.
const childVariable = "LATCHKEY_TEST_REGISTRY"

// child registers terminals for ever, where the test wants that, and prints the number of each that was acknowledged.
func child() {
	path := os.Getenv(childVariable)
	if path == "" {
		return
	}
	s, err := Open(path, Options{Create: true})
	for n := 1; err == nil; n++ {
		err = s.Update(context.Background(), func(tx provision.Tx) error { return register(tx, n) })
		if err == nil {
			fmt.Println(n)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestKill kills a process while it registers terminals. Until then no other process can open its database; afterwards
// everything that it acknowledged is there.
func TestKill(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "provisiond.db")
	acknowledged := sqlitetest.Kill(t, childVariable, path, func() error { _, err := Open(path, Options{Create: true}); return err })
	s := openAt(t, path)
	defer func() { _ = s.Close() }()
	stored := len(sqlitetest.Leaves(t, s.db))
	if stored < acknowledged || stored > acknowledged+1 { // it may have been killed before it could say so
		t.Errorf("%d audit records of %d acknowledged terminals", stored, acknowledged)
	}
	err := s.View(t.Context(), func(tx provision.Tx) error {
		for n := 1; n <= stored; n++ {
			_, known, err := tx.Terminal(terminal(n).ID)
			_, certified, err2 := tx.Certificate(identity.Terminal, serial(n))
			if err := errors.Join(err, err2); err != nil || !known || !certified {
				t.Errorf("terminal %d: known %v, certified %v, %v", n, known, certified, err)
			}
		}
		records, err := tx.FeedAfter(7, 0, stored+10)
		if len(records) != stored || records[stored-1].Sequence != uint64(stored) {
			t.Errorf("%d records in the feed, want %d", len(records), stored)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	sqlitetest.Verify(t, s, path, stored)
}
