package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/message"
)

// Options says how to open a database.
type Options struct {
	Create bool            // make a new database when there is none; false: ErrMissing
	Batch  func(calls int) // called after each commit with the calls that shared it, by one goroutine; nil: not called
}

// DB is a decrypt.Store in a file. It is safe for concurrent use. Close it.
type DB struct {
	lock   *os.File
	write  *sql.DB
	conn   *sql.Conn
	read   *sql.DB
	writer *writer
}

var _ decrypt.Store = (*DB)(nil)

// Open opens the database at path and keeps every other process out of it. It fails with ErrMissing, ErrLocked, ErrDamaged
// or ErrNewer. It reads the whole file once to see that it is sound.
func Open(path string, o Options) (*DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil && !o.Create { // before a lock file appears beside nothing
		_, err := prepare(path, false)
		return nil, err
	}
	db := &DB{}
	if err := db.open(path, o); err != nil {
		return nil, errors.Join(err, db.release())
	}
	return db, nil
}

func (db *DB) open(path string, o Options) (err error) {
	ctx := context.Background() // opening is not cut short
	db.lock, err = os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := lock(db.lock); err != nil {
		return fmt.Errorf("%w: %s", err, path)
	}
	db.write, err = openWriter(ctx, path, o.Create)
	if err != nil {
		return err
	}
	db.conn, err = db.write.Conn(ctx)
	if err != nil {
		return opening(err)
	}
	db.read, err = sql.Open("sqlite", dsn(path, "ro", "query_only(1)"))
	if err != nil {
		return err
	}
	tree, err := readTree(ctx, db.conn)
	if err != nil {
		return opening(err)
	}
	db.writer = newWriter(db.conn, tree, o.Batch)
	return nil
}

// release closes what is open, in the order that leaves the lock to the end.
func (db *DB) release() error {
	var errs []error
	if db.writer != nil {
		db.writer.close()
	}
	if db.read != nil {
		errs = append(errs, db.read.Close())
	}
	if db.conn != nil {
		errs = append(errs, db.conn.Close())
	}
	if db.write != nil {
		errs = append(errs, db.write.Close())
	}
	if db.lock != nil {
		errs = append(errs, db.lock.Close())
	}
	return errors.Join(errs...)
}

// Close waits for what was accepted, and closes the files. It is called once.
func (db *DB) Close() error { return db.release() }

// Check writes a row that is no claim.
func (db *DB) Check(ctx context.Context) error {
	return db.writer.submit(ctx, func(t *tx) error {
		return t.exec("UPDATE heartbeat SET beat = beat + 1 WHERE id = 1")
	})
}

// Claim implements decrypt.Store.
func (db *DB) Claim(ctx context.Context, set decrypt.ClaimSet) (decrypt.ClaimOutcome, error) {
	var out decrypt.ClaimOutcome
	err := db.writer.submit(ctx, func(t *tx) (err error) {
		out, err = t.claim(&set)
		return err
	})
	if err != nil {
		return decrypt.ClaimOutcome{}, err
	}
	return out, nil
}

// RecordAnswer implements decrypt.Store.
func (db *DB) RecordAnswer(ctx context.Context, a decrypt.Answer) (decrypt.Answer, error) {
	var out decrypt.Answer
	err := db.writer.submit(ctx, func(t *tx) (err error) {
		out, err = t.recordAnswer(a)
		return err
	})
	if err != nil {
		return decrypt.Answer{}, err
	}
	return out, nil
}

// Audit implements decrypt.Store.
func (db *DB) Audit(ctx context.Context, r audit.Record) error {
	return db.writer.submit(ctx, func(t *tx) error { return t.appendRecord(r) })
}

// LookupAnswer implements decrypt.Store.
func (db *DB) LookupAnswer(ctx context.Context, digest message.Digest) (decrypt.Answer, bool, error) {
	a, ok, err := lookupAnswer(pool{ctx, db.read}, digest)
	return a, ok, fault(err)
}

// LookupRequest implements decrypt.Store.
func (db *DB) LookupRequest(ctx context.Context, digest message.Digest) (decrypt.Request, bool, error) {
	r, ok, err := lookupRequest(pool{ctx, db.read}, digest)
	return r, ok, fault(err)
}

// Counters implements decrypt.Store.
func (db *DB) Counters(ctx context.Context, base keys.Fingerprint, id dukpt.KeyID) (decrypt.KeyIDState, error) {
	s, _, err := lookupState(pool{ctx, db.read}, decrypt.CounterKey{BaseKey: base, KeyID: id})
	return s, fault(err)
}

// Stats counts the work since the database was opened.
type Stats struct {
	Commits uint64 // transactions on the disk
	Calls   uint64 // calls that wrote in them
}

// Stats returns the counts.
func (db *DB) Stats() Stats { return Stats{db.writer.commits.Load(), db.writer.calls.Load()} }

// querier reads one row.
type querier interface {
	one(query string, args []any, dest ...any) (bool, error)
}

// pool reads outside of transactions.
type pool struct {
	ctx context.Context
	db  *sql.DB
}

func (p pool) one(query string, args []any, dest ...any) (bool, error) {
	err := p.db.QueryRowContext(p.ctx, query, args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}
