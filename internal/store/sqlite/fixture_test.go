package sqlite

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"

	"github.com/latchkey-pos/latchkey/internal/audit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// options are those of a database of numbered notes, a stand-in for the tables of a room.
func options() Options {
	return Options{Kind: Registry, Create: true, Migrations: fstest.MapFS{"migrations/00001_notes.sql": {Data: []byte(`-- +goose Up
CREATE TABLE notes (
    n    INTEGER NOT NULL PRIMARY KEY CHECK (n > 0),
    text TEXT    NOT NULL UNIQUE
) STRICT;
CREATE TABLE tags (
    tag TEXT    NOT NULL,
    n   INTEGER NOT NULL REFERENCES notes (n) DEFERRABLE INITIALLY DEFERRED,
    PRIMARY KEY (tag, n)
) STRICT;
`)}}}
}

func openAt(t testing.TB, path string) *DB {
	t.Helper()
	db, err := Open(path, options())
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return db
}

// openNew opens an empty database that is closed at the end of the test.
func openNew(t testing.TB) (*DB, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "latchkey.db")
	db := openAt(t, path)
	t.Cleanup(func() { _ = db.Close() })
	return db, path
}

func record(n int) audit.Record {
	return audit.Record{
		Time: time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC), Instance: "ra-1", Action: "note/take", Object: fmt.Sprint(n), Result: "DONE",
	}
}

// take writes a note and audits it.
func take(tx *Tx, n int) error {
	if err := tx.Audit(record(n)); err != nil {
		return err
	}
	return tx.Exec(`INSERT INTO notes (n, text) VALUES (?, ?)`, n, fmt.Sprint("note ", n))
}

func mustTake(t testing.TB, db *DB, n int) {
	t.Helper()
	if err := db.Update(t.Context(), func(tx *Tx) error { return take(tx, n) }); err != nil {
		t.Fatalf("note %d: %v", n, err)
	}
}

// notes returns the notes and the number of audit records.
func notes(t testing.TB, db *DB) (taken []int, records int) {
	t.Helper()
	err := db.View(t.Context(), func(tx *Tx) error {
		taken = nil
		if _, err := tx.One(`SELECT count(*) FROM audit_leaves`, nil, &records); err != nil {
			return err
		}
		return tx.Each(`SELECT n FROM notes ORDER BY n`, nil, func(scan func(...any) error) error {
			var n int
			err := scan(&n)
			taken = append(taken, n)
			return err
		})
	})
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return taken, records
}

// reopen opens a database that is closed at the end of the test.
func reopen(t testing.TB, path string) *DB {
	t.Helper()
	db := openAt(t, path)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// raw runs statements over a file without asking this package.
func raw(t testing.TB, path, statements string) {
	t.Helper()
	db := must(sql.Open("sqlite", dsn(path, "rwc")))
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), statements); err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
}
