package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing/fstest"
	"time"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// tables stand for the embedded migrations of a room.
var tables = fstest.MapFS{"migrations/00001_first.sql": {Data: []byte(`-- +goose Up
CREATE TABLE serials (serial TEXT NOT NULL PRIMARY KEY) STRICT;`)}}

func issue(tx *sqlite.Tx, serial string) error {
	err := tx.Audit(audit.Record{Time: time.UnixMilli(1767225601123), Instance: "ra-1", Action: "issue", Object: serial, Result: "DONE"})
	if err != nil {
		return err
	}
	return tx.Exec(`INSERT INTO serials (serial) VALUES (?)`, serial)
}

// A serial is issued once, ever: what fails leaves no record in the audit log either.
func ExampleDB_Update() {
	dir, err := os.MkdirTemp("", "latchkey")
	check(err)
	defer func() { _ = os.RemoveAll(dir) }()
	db, err := sqlite.Open(filepath.Join(dir, "registry.db"), sqlite.Options{Kind: sqlite.Registry, Migrations: tables, Create: true})
	check(err)
	defer func() { _ = db.Close() }()
	for range 2 {
		err := db.Update(context.Background(), func(tx *sqlite.Tx) error { return issue(tx, "01:02") })
		fmt.Println("issued:", err == nil, "exists:", errors.Is(err, sqlite.ErrExists))
	}
	check(db.View(context.Background(), func(tx *sqlite.Tx) error {
		var records int
		_, err := tx.One(`SELECT count(*) FROM audit_leaves`, nil, &records)
		fmt.Println(records, "record")
		return err
	}))
	// Output:
	// issued: true exists: false
	// issued: false exists: true
	// 1 record
}

// The audit log is verified beside a running daemon.
func ExampleOpenAudit() {
	dir, err := os.MkdirTemp("", "latchkey")
	check(err)
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "registry.db")
	db, err := sqlite.Open(path, sqlite.Options{Kind: sqlite.Registry, Migrations: tables, Create: true})
	check(err)
	defer func() { _ = db.Close() }()
	secret, public, err := audit.GenerateKey("latchkey/SHOP/provisiond")
	check(err)
	signer, err := audit.NewSigner(secret)
	check(err)
	verifier, err := audit.NewVerifier(public)
	check(err)
	check(db.Update(context.Background(), func(tx *sqlite.Tx) error { return issue(tx, "01:02") }))
	kept, err := db.Checkpoint(context.Background(), signer)
	check(err)

	log, err := sqlite.OpenAudit(path)
	check(err)
	defer func() { _ = log.Close() }()
	report, err := audit.Verify(context.Background(), log, verifier, kept)
	fmt.Println(report.Size, "record,", report.Signed, "signed:", err)
	// Output:
	// 1 record, 1 signed: <nil>
}
