package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Options says how to open a database.
type Options struct {
	Kind       Kind            // required
	Migrations fs.FS           // required: the tables of the kind, as goose files in the folder migrations
	Create     bool            // make a new database when there is none; false: ErrMissing
	Kept       []byte          // a checkpoint of the audit log, kept elsewhere: what does not contain it is ErrBehind; nil: none
	Batch      func(calls int) // called after each commit with the calls that shared it, by one goroutine; nil: not called
}

// DB is a database that this process alone writes to. It is safe for concurrent use. Close it.
type DB struct {
	lock   *os.File
	write  *sql.DB
	conn   *sql.Conn
	read   *sql.DB
	writer *writer
}

// Open opens the database at path and keeps every other process out of it. It fails with ErrMissing, ErrLocked, ErrDamaged,
// ErrNewer or ErrBehind. It reads the whole file once to see that it is sound.
func Open(path string, o Options) (*DB, error) {
	if !o.Kind.known() || o.Migrations == nil {
		return nil, errors.New("sqlite: a database needs a kind and its tables")
	}
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
	if db.lock, err = keepOut(path); err != nil {
		return err
	}
	db.write, err = openWriter(ctx, path, o)
	if err != nil {
		return err
	}
	db.conn, err = db.write.Conn(ctx)
	if err != nil {
		return fault(err)
	}
	db.read, err = sql.Open("sqlite", dsn(path, "ro", "query_only(1)"))
	if err != nil {
		return err
	}
	tree, err := readTree(ctx, db.conn)
	if err != nil {
		return fault(err)
	}
	if o.Kept != nil {
		if err := contains(ctx, db.conn, tree, o.Kept); err != nil {
			return err
		}
	}
	db.writer = newWriter(db.conn, tree, o.Batch)
	return nil
}

// release closes what is open, in the order that leaves the lock to the end.
func (db *DB) release() error {
	var errs []error
	if db.writer != nil {
		db.writer.queue.Close()
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

// Update runs f in a transaction, which is on the disk before Update returns nil; after any error nothing of it was kept.
// Transactions run one at a time and see what those before them have written. f may run more than once, in
// another goroutine, keeps everybody else waiting, and must not call Update. The context counts until its turn has come.
func (db *DB) Update(ctx context.Context, f func(*Tx) error) error { return db.writer.submit(ctx, f) }

// View runs f over the database as it stands, with every commit that was acknowledged before. It does not wait for
// transactions, and f cannot write.
func (db *DB) View(ctx context.Context, f func(*Tx) error) error {
	tx, err := db.read.BeginTx(ctx, nil)
	if err != nil {
		return viewed(ctx, fault(err))
	}
	defer func() { _ = tx.Rollback() }() // there is nothing to lose
	t := &Tx{ctx: ctx, conn: tx, statements: make(map[string]*sql.Stmt), view: true}
	defer t.close()
	err = t.outcome(f(t))
	if t.failed != nil { // by the database: a view writes no records
		return viewed(ctx, err)
	}
	return err
}

// viewed tells the end of the context from failures of the database.
func viewed(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil {
		return ended
	}
	return err
}

// Check reports whether the database can be written to: it writes a row that means nothing.
func (db *DB) Check(ctx context.Context) error {
	return db.Update(ctx, func(t *Tx) error { return t.Exec("UPDATE heartbeat SET beat = beat + 1 WHERE id = 1") })
}

// Stats counts the work since the database was opened.
type Stats struct {
	Commits uint64 // transactions on the disk
	Calls   uint64 // calls that wrote in them
}

// Stats returns the counts.
func (db *DB) Stats() Stats { return Stats{db.writer.commits.Load(), db.writer.calls.Load()} }
