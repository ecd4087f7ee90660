package sqlite

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/audit"
)

var errRefused = errors.New("refused")

// TestUpdateFails lets functions fail in every way: of none of them anything stays, and what comes after goes on.
func TestUpdateFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do   func(*Tx) error
		want error
	}{
		"before it writes": {func(*Tx) error { return errRefused }, errRefused},
		"after it wrote":   {func(tx *Tx) error { return errors.Join(take(tx, 2), errRefused) }, errRefused},
		"for a row that exists": {func(tx *Tx) error {
			return errors.Join(take(tx, 2), tx.Exec(`INSERT INTO notes (n, text) VALUES (1, 'again')`))
		}, ErrExists},
		"for a value that exists": {func(tx *Tx) error {
			return errors.Join(take(tx, 2), tx.Exec(`INSERT INTO notes (n, text) VALUES (3, 'note 1')`))
		}, ErrExists},
		"for a check of a column": {func(tx *Tx) error {
			return errors.Join(take(tx, 2), tx.Exec(`INSERT INTO notes (n, text) VALUES (0, 'zero')`))
		}, ErrUnavailable},
		"and says that it did not": {func(tx *Tx) error {
			_ = tx.Exec(`INSERT INTO notes (n, text) VALUES (0, 'zero')`)
			return take(tx, 2)
		}, ErrUnavailable},
		"for another reason in the end": {func(tx *Tx) error {
			_ = tx.Exec(`INSERT INTO notes (n, text) VALUES (0, 'zero')`)
			return errRefused
		}, errRefused},
		"for a statement that is none": {func(tx *Tx) error { return tx.Exec(`INSERT NOTHING`) }, ErrUnavailable},
		"for a query that is none": {func(tx *Tx) error {
			_, err := tx.One(`SELECT nothing FROM notes`, nil, new(int))
			return err
		}, ErrUnavailable},
		"for a value of another type": {func(tx *Tx) error {
			_, err := tx.One(`SELECT text FROM notes`, nil, new(int))
			return err
		}, ErrUnavailable},
		"at its end": {func(tx *Tx) error {
			return errors.Join(take(tx, 2), tx.Exec(`INSERT INTO tags (tag, n) VALUES ('none', 77)`))
		}, ErrUnavailable},
		"for a record without result": {func(tx *Tx) error {
			return errors.Join(take(tx, 2), tx.Audit(audit.Record{Instance: "ra-1", Action: "note/take"}))
		}, audit.ErrRecord},
		"for such a record and says that it did not": {func(tx *Tx) error {
			_ = tx.Audit(audit.Record{Instance: "ra-1", Action: "note/take"})
			return take(tx, 2)
		}, audit.ErrRecord},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, path := openNew(t)
			mustTake(t, db, 1)
			if err := db.Update(t.Context(), c.do); !errors.Is(err, c.want) {
				t.Errorf("update: %v, want %v", err, c.want)
			}
			if taken, records := notes(t, db); len(taken) != 1 || records != 1 {
				t.Errorf("%d notes and %d records stayed, want 1 and 1", len(taken), records)
			}
			mustTake(t, db, 2)
			verifyLog(t, db, path)
		})
	}
}

// TestExistsGoesOn meets a row that exists and goes on.
func TestExistsGoesOn(t *testing.T) {
	t.Parallel()
	db, path := openNew(t)
	mustTake(t, db, 1)
	err := db.Update(t.Context(), func(tx *Tx) error {
		if err := tx.Exec(`INSERT INTO notes (n, text) VALUES (1, 'again')`); !errors.Is(err, ErrExists) {
			t.Errorf("insert: %v, want %v", err, ErrExists)
		}
		return take(tx, 2)
	})
	if err != nil {
		t.Fatal(err)
	}
	if taken, records := notes(t, db); len(taken) != 2 || records != 2 {
		t.Errorf("%d notes and %d records, want 2 and 2", len(taken), records)
	}
	verifyLog(t, db, path)
}

// TestUpdatePanics ends a function without a return: its caller has the panic, and the writer goes on.
func TestUpdatePanics(t *testing.T) {
	t.Parallel()
	db, path := openNew(t)
	release := hold(t, db)
	good, bad := make(chan error, 1), make(chan any, 1)
	go func() { good <- db.Update(context.Background(), func(tx *Tx) error { return take(tx, 1) }) }()
	queued(t, db, 1)
	go func() {
		defer func() { bad <- recover() }()
		_ = db.Update(context.Background(), func(tx *Tx) error {
			_ = take(tx, 2)
			panic("lost")
		})
	}()
	queued(t, db, 2)
	release()
	if p, ok := (<-bad).(error); !ok || !strings.HasPrefix(p.Error(), "lost") || !strings.Contains(p.Error(), "tx_test.go") {
		t.Errorf("the caller sees %v, want its panic and where it was", p)
	}
	if err := <-good; err != nil {
		t.Errorf("the call beside it: %v", err)
	}
	if taken, records := notes(t, db); len(taken) != 1 || records != 1 {
		t.Errorf("%d notes and %d records stayed, want 1 and 1", len(taken), records)
	}
	verifyLog(t, db, path)
}

// TestUpdateEndsTheWriter ends the goroutine of the writer: from then on everything fails, and nothing hangs.
func TestUpdateEndsTheWriter(t *testing.T) {
	t.Parallel()
	db, path := openNew(t)
	mustTake(t, db, 1)
	release := hold(t, db)
	failed := make(chan error, 2)
	go func() {
		failed <- db.Update(context.Background(), func(tx *Tx) error {
			_ = take(tx, 2)
			runtime.Goexit()
			return nil
		})
	}()
	queued(t, db, 1)
	go func() { failed <- db.Update(context.Background(), func(tx *Tx) error { return take(tx, 3) }) }()
	queued(t, db, 2)
	release()
	for range 2 {
		if err := <-failed; !errors.Is(err, ErrUnavailable) {
			t.Errorf("update: %v, want %v", err, ErrUnavailable)
		}
	}
	if err := db.Check(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("check: %v, want %v", err, ErrUnavailable)
	}
	if err := db.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if taken, records := notes(t, reopen(t, path)); len(taken) != 1 || records != 1 {
		t.Errorf("%d notes and %d records stayed, want 1 and 1", len(taken), records)
	}
}

// TestView sees what was acknowledged, one state throughout, and cannot write.
func TestView(t *testing.T) {
	t.Parallel()
	db, _ := openNew(t)
	mustTake(t, db, 1)
	err := db.View(t.Context(), func(tx *Tx) error {
		count := func() (n int) {
			if _, err := tx.One(`SELECT count(*) FROM notes`, nil, &n); err != nil {
				t.Error(err)
			}
			return n
		}
		before := count()
		mustTake(t, db, 2) // the writer does not wait for a view
		if after := count(); before != 1 || after != 1 {
			t.Errorf("a view sees %d notes and then %d, want 1", before, after)
		}
		if ok, err := tx.One(`SELECT n FROM notes WHERE n = 9`, nil, new(int)); ok || err != nil {
			t.Errorf("no row: %v %v", ok, err)
		}
		for name, err := range map[string]error{
			"Exec": tx.Exec(`DELETE FROM notes`), "Audit": tx.Audit(record(1)),
		} {
			if !errors.Is(err, ErrReadOnly) {
				t.Errorf("%s in a view: %v", name, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if taken, _ := notes(t, db); len(taken) != 2 {
		t.Errorf("%d notes, want 2", len(taken))
	}
	if err := db.View(t.Context(), func(*Tx) error { return errRefused }); err != errRefused {
		t.Errorf("view: %v, want %v", err, errRefused)
	}
	if err := db.View(t.Context(), func(tx *Tx) error {
		return tx.Each(`SELECT n FROM notes`, nil, func(func(...any) error) error { return errRefused })
	}); err != errRefused {
		t.Errorf("view: %v, want %v", err, errRefused)
	}
	if err := db.View(t.Context(), func(tx *Tx) error {
		_, _ = tx.One(`SELECT nothing`, nil, new(int))
		return nil
	}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("view that hides a failure: %v, want %v", err, ErrUnavailable)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := db.View(ctx, func(*Tx) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("view: %v, want %v", err, context.Canceled)
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	db, _ := openNew(t)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"Update": db.Update(t.Context(), func(*Tx) error { return nil }),
		"View":   db.View(t.Context(), func(*Tx) error { return nil }),
		"Check":  db.Check(t.Context()),
	} {
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v, want %v", name, err, ErrUnavailable)
		}
	}
}
