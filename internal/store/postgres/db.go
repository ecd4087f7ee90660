package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/store/queue"
	"github.com/latchkey-pos/latchkey/internal/store/rows"
)

// DB is a database of rows that several services write to, each under the name of its instance. Their transactions run one after
// the other: each takes a lock of all of them first. It is safe for concurrent use.
//
// What a service does is settled in batches, as claims are: the calls that wait share one commit. The outcome of a commit that
// could not be seen is looked up.
type DB struct {
	options Options
	writer  *rowWriter
	readers []*pgxpool.Pool // one for each server
	shut    atomic.Bool
}

var _ rows.DB = (*DB)(nil)

// OpenDB connects to a database that MigrateTables has made the tables of. It fails as Open does.
func OpenDB(ctx context.Context, o Options, t Tables) (_ *DB, err error) {
	o.tables = &t
	if err := o.check(); err != nil {
		return nil, err
	}
	db := &DB{options: o, writer: newRowWriter(o)}
	defer func() {
		if err != nil {
			db.closeReaders()
		}
	}()
	for _, server := range o.Servers {
		pool, err := o.readers(server)
		if err != nil {
			return nil, err
		}
		db.readers = append(db.readers, pool)
	}
	if err := db.writer.begin(ctx); err != nil {
		return nil, err
	}
	go db.writer.run()
	return db, nil
}

// Update implements rows.DB. The context counts until the turn of f has come.
func (db *DB) Update(ctx context.Context, f func(rows.Tx) error) error {
	return db.writer.submit(ctx, f)
}

// View implements rows.DB. Where a standby is waited for, what can be seen is not what survives: then it waits for a commit that
// comes after what it has seen.
func (db *DB) View(ctx context.Context, f func(rows.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if db.shut.Load() {
		return fmt.Errorf("%w: it is closed", ErrUnavailable)
	}
	conn, err := db.acquire(ctx)
	if err != nil {
		return ended(ctx, fault(err))
	}
	defer conn.Release()
	t := &rowTx{ctx: ctx, conn: conn.Conn(), view: true}
	if _, err := conn.Exec(ctx, `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`); err != nil {
		return ended(ctx, fault(err))
	}
	err = t.outcome(f(t))
	if _, failed := conn.Exec(context.WithoutCancel(ctx), `ROLLBACK`); failed != nil {
		_ = conn.Conn().Close(context.WithoutCancel(ctx)) // the pool makes another one
	}
	if t.failed != nil {
		return ended(ctx, err)
	}
	if err == nil && db.Promise() == SynchronousStandby {
		return db.Check(ctx)
	}
	return err
}

// acquire returns a connection to the server that the writer uses. Where that one is gone, the writer looks for its successor.
func (db *DB) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	take := func() (*pgxpool.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, db.options.patience())
		defer cancel()
		return db.readers[db.writer.reading.Load()].Acquire(ctx)
	}
	conn, err := take()
	if err != nil && db.Check(ctx) == nil {
		conn, err = take()
	}
	return conn, err
}

// Check implements rows.DB: a commit that only counts itself.
func (db *DB) Check(ctx context.Context) error {
	return db.Update(ctx, func(rows.Tx) error { return nil })
}

// Checkpoint implements rows.DB. Nobody waits for the key: it may be in a token that never answers. ctx bounds all of it.
func (db *DB) Checkpoint(ctx context.Context, signer *audit.Signer) ([]byte, error) {
	var tree audit.Tree
	err := db.Update(ctx, func(t rows.Tx) error {
		tree = t.(*rowTx).tree
		return nil
	})
	if err != nil {
		return nil, err
	}
	note, err := signer.SignWithin(ctx, tree) // Ed25519 signs the same alike
	if err != nil {
		return nil, err
	}
	err = db.Update(ctx, func(t rows.Tx) error {
		_, err := t.Exec(`INSERT INTO audit_checkpoints (instance, size, note) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`,
			db.options.Instance, int64(tree.Size()), note)
		return err
	})
	if err != nil {
		return nil, err
	}
	return note, nil
}

// Promise returns what the server in use promises.
func (db *DB) Promise() Promise { return Promise(db.writer.promise.Load()) }

// Stats returns the counts of the work since the database was opened.
func (db *DB) Stats() Stats {
	w := db.writer
	return Stats{w.commits.Load(), w.calls.Load(), w.statements.Load(), w.connections.Load(), w.resolved.Load()}
}

// Close implements rows.DB. It is called once.
func (db *DB) Close() error {
	db.shut.Store(true)
	db.writer.queue.Close()
	db.closeReaders()
	return nil
}

func (db *DB) closeReaders() {
	for _, pool := range db.readers {
		pool.Close()
	}
}

// rowJob is one call of Update.
type rowJob struct {
	ctx  context.Context
	do   func(rows.Tx) error
	done chan error // of capacity 1
}

func (j rowJob) tell(err error) { j.done <- err }

// rowWriter carries out the transactions of a DB. Its goroutine ends when the queue is closed and empty.
type rowWriter struct {
	link
	queue line[rowJob]
}

func newRowWriter(o Options) *rowWriter {
	w := &rowWriter{link: link{options: o}, queue: newLine[rowJob]()}
	w.waiting = w.queue
	return w
}

// submit hands a call over and waits until it is durable or has failed.
func (w *rowWriter) submit(ctx context.Context, do func(rows.Tx) error) error {
	j := rowJob{ctx: ctx, do: do, done: make(chan error, 1)}
	if err := w.queue.put(ctx, j); err != nil {
		return err
	}
	select {
	case err := <-j.done:
		return queue.Rethrow(err)
	case <-w.queue.Ended():
	}
	select {
	case err := <-j.done:
		return queue.Rethrow(err)
	default:
		return fmt.Errorf("%w: its writer has ended", ErrUnavailable)
	}
}

func (w *rowWriter) run() {
	defer w.queue.End()
	w.queue.work(w.attempt)
	w.leave()
}

// attempt carries out a batch as one transaction.
func (w *rowWriter) attempt(batch []rowJob) ([]error, error) {
	if err := w.ready(); err != nil {
		return nil, err
	}
	t := &rowTx{ctx: context.Background(), conn: w.session.conn, tree: w.tree, statements: &w.statements, patience: w.options.patience() + 2*time.Second}
	if err := w.enter(); err != nil {
		return nil, w.give(err)
	}
	outcomes, worked := make([]error, len(batch)), 0
	for i, j := range batch {
		if outcomes[i] = j.ctx.Err(); outcomes[i] != nil {
			continue
		}
		outcome, err := w.one(t, j)
		if err != nil {
			return nil, w.give(err)
		}
		if outcomes[i] = outcome; outcome == nil {
			worked++
		}
	}
	if worked == 0 {
		return outcomes, w.undo(nil)
	}
	number := w.batch + 1
	if err := w.finish(t, number); err != nil {
		return nil, err
	}
	w.committed(number, t.tree, worked)
	return outcomes, nil
}

// give ends a transaction that was not committed. When the connection was lost it may be tried again.
func (w *rowWriter) give(err error) error {
	if err = w.undo(err); w.session == nil && !errors.Is(err, ErrUnsafe) {
		return fmt.Errorf("%w: %v", errNotMade, err)
	}
	return err
}

// enter begins a transaction, and waits until nobody else has one that writes. What others have committed by then is seen.
func (w *rowWriter) enter() error {
	o := newOpening()
	o.Queue(`SELECT pg_advisory_xact_lock($1)`, number(w.options.schema(), "rows", nil))
	return w.enterWith(o, false)
}

// one carries out one call of a batch. Of a call that has failed nothing stays; the second error is that of the transaction.
func (w *rowWriter) one(t *rowTx, j rowJob) (outcome, _ error) {
	before, leaves := t.tree, len(t.leaves)
	ctx, cancel := w.bounded()
	defer cancel()
	w.statements.Add(1)
	if _, err := t.conn.Exec(ctx, `SAVEPOINT call`); err != nil {
		return nil, err
	}
	t.failed = nil
	err := queue.Guard(func() error { return t.outcome(j.do(t)) })
	if err == nil {
		return nil, nil
	}
	t.tree, t.leaves = before, t.leaves[:leaves]
	if t.conn.IsClosed() {
		return nil, err
	}
	w.statements.Add(1)
	if _, err := t.conn.Exec(ctx, `ROLLBACK TO SAVEPOINT call`); err != nil {
		return nil, err
	}
	return err, nil
}

// countBatch writes the records of a transaction, and counts it.
const countBatch = `WITH leaves_new AS (
	INSERT INTO audit_leaves (instance, n, record, hashes)
	SELECT $1::text, n, record, hashes FROM unnest($3::bigint[], $4::bytea[], $5::bytea[]) AS u (n, record, hashes))
UPDATE instances SET batch = CASE batch WHEN $2::bigint - 1 THEN $2::bigint ELSE -1 END WHERE name = $1::text` // -1 breaks a rule of the table

// finish writes the audit log and commits. An error of the server about what was written says that nothing stays. After anything
// else that went wrong the outcome is looked up.
func (w *rowWriter) finish(t *rowTx, number uint64) error {
	b := &pgx.Batch{}
	written, done := false, false
	ns, records, hashes := make([]int64, 0, len(t.leaves)), make([][]byte, 0, len(t.leaves)), make([][]byte, 0, len(t.leaves))
	for _, l := range t.leaves {
		ns, records, hashes = append(ns, int64(l.n)), append(records, l.record), append(hashes, l.hashes)
	}
	b.Queue(countBatch, w.options.Instance, int64(number), ns, records, hashes).Exec(func(pgconn.CommandTag) error {
		written = true
		return nil
	})
	b.Queue(commit).Exec(func(tag pgconn.CommandTag) error {
		done = tag.String() == commit
		return nil
	})
	return w.conclude(b, false, &written, &done)
}
