package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/planted"
)

const (
	queueLength = 1024 // calls that may wait; further ones wait to get in
	maxBatch    = 256  // calls of one commit
)

// job is one call that writes.
type job struct {
	ctx  context.Context
	do   func(*tx) error
	done chan error // of capacity 1
}

// writer owns the connection that writes. Its goroutine ends when the queue is closed and empty.
type writer struct {
	mu     sync.RWMutex // held for reading while a call gets into the queue
	closed bool
	queue  chan job
	ended  chan struct{}

	batch   func(calls int)
	conn    *sql.Conn
	tx      tx
	unsure  bool // a commit failed, so the end of the log is to be read again
	commits atomic.Uint64
	calls   atomic.Uint64
}

func newWriter(conn *sql.Conn, tree audit.Tree, batch func(int)) *writer {
	w := &writer{conn: conn, batch: batch, queue: make(chan job, queueLength), ended: make(chan struct{})}
	w.tx = tx{conn: conn, statements: make(map[string]*sql.Stmt), tree: tree}
	go w.run()
	return w
}

// submit hands a call over and waits until it is durable or has failed. The context counts while the call waits: once its
// turn has come it is carried out, and its outcome returned.
func (w *writer) submit(ctx context.Context, do func(*tx) error) error {
	j := job{ctx: ctx, do: do, done: make(chan error, 1)}
	if err := w.enqueue(j); err != nil {
		return err
	}
	return <-j.done
}

func (w *writer) enqueue(j job) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return fault(errors.New("the store is closed"))
	}
	select {
	case w.queue <- j:
		return nil
	case <-j.ctx.Done():
		return j.ctx.Err()
	}
}

// close lets in no further call and waits for those that are in.
func (w *writer) close() {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.queue)
	}
	w.mu.Unlock()
	<-w.ended
}

func (w *writer) run() {
	defer close(w.ended)
	for first := range w.queue {
		w.commit(w.waiting(first))
	}
	w.tx.close()
}

// waiting takes what is in the queue by now, without waiting for more.
func (w *writer) waiting(first job) []job {
	batch := []job{first}
	for len(batch) < maxBatch {
		select {
		case j, ok := <-w.queue:
			if !ok {
				return batch
			}
			batch = append(batch, j)
		default:
			return batch
		}
	}
	return batch
}

// commit carries out a batch as one transaction and tells each caller. When the transaction fails, every call of it is
// tried by itself, so that none fails for the sake of another.
func (w *writer) commit(batch []job) {
	outcomes, err := w.attempt(batch)
	if err != nil && len(batch) > 1 {
		for _, j := range batch {
			w.commit([]job{j})
		}
		return
	}
	for i, j := range batch {
		if err != nil {
			j.done <- fault(err)
			continue
		}
		j.done <- outcomes[i]
	}
}

// attempt returns what became of each call, or why the transaction failed and nothing was changed.
func (w *writer) attempt(batch []job) (outcomes []error, err error) {
	ctx := context.WithoutCancel(batch[0].ctx) // no single caller may break off what belongs to many
	if _, err := w.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return nil, err
	}
	if w.unsure {
		if w.tx.tree, err = readTree(ctx, w.conn); err != nil {
			return nil, errors.Join(err, w.rollback(ctx))
		}
		w.unsure = false
	}
	before := w.tx.tree
	defer func() {
		if err != nil {
			w.tx.tree = before
			_ = w.rollback(ctx) // fails when SQLite has rolled back by itself
		}
	}()
	w.tx.ctx = ctx
	for _, j := range batch {
		outcome, err := w.one(j)
		if err != nil {
			return nil, err
		}
		outcomes = append(outcomes, outcome)
	}
	if planted.On(planted.ClaimAfterAnswer) {
		w.answerEarly(batch, outcomes)
	}
	if _, err := w.conn.ExecContext(ctx, "COMMIT"); err != nil {
		w.unsure = true
		return nil, err
	}
	w.commits.Add(1)
	if w.batch != nil {
		w.batch(len(batch))
	}
	return outcomes, nil
}

func (w *writer) rollback(ctx context.Context) error {
	_, err := w.conn.ExecContext(ctx, "ROLLBACK")
	return err
}

// one carries out a call. What it decides against the caller is its outcome and is committed with the rest; any other
// error breaks the transaction.
func (w *writer) one(j job) (outcome, broken error) {
	if err := j.ctx.Err(); err != nil {
		return err, nil
	}
	w.calls.Add(1)
	err := j.do(&w.tx)
	if _, ok := err.(*decrypt.Refusal); ok { // not one that a fault wraps
		return err, nil
	}
	if e, ok := errors.AsType[*callError](err); ok {
		return e.err, nil
	}
	return nil, err
}

// callError is an error of a call that has changed nothing.
type callError struct{ err error }

func (e *callError) Error() string { return e.err.Error() }

// answerEarly is the planted fault of a service that answers before its claims are durable. It leaves a process that is
// killed the time to be caught.
func (w *writer) answerEarly(batch []job, outcomes []error) {
	for i, j := range batch {
		j.done <- outcomes[i]
	}
	for i := range batch {
		batch[i].done = make(chan error, 1)
	}
	time.Sleep(20 * time.Millisecond)
}

// tx is the transaction that is under way. Only the writer's goroutine uses it.
type tx struct {
	ctx        context.Context
	conn       *sql.Conn
	statements map[string]*sql.Stmt
	tree       audit.Tree // with the leaves of this transaction
}

// statement returns the prepared form of a query.
func (t *tx) statement(query string) (*sql.Stmt, error) {
	if s, ok := t.statements[query]; ok {
		return s, nil
	}
	s, err := t.conn.PrepareContext(t.ctx, query)
	if err != nil {
		return nil, err
	}
	t.statements[query] = s
	return s, nil
}

func (t *tx) exec(query string, args ...any) error {
	s, err := t.statement(query)
	if err != nil {
		return err
	}
	_, err = s.ExecContext(t.ctx, args...)
	return err
}

// one scans the only row of a query into dest, and reports whether there is one.
func (t *tx) one(query string, args []any, dest ...any) (bool, error) {
	s, err := t.statement(query)
	if err != nil {
		return false, err
	}
	err = s.QueryRowContext(t.ctx, args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

func (t *tx) close() {
	for _, s := range t.statements {
		_ = s.Close() // the connection closes next
	}
}
