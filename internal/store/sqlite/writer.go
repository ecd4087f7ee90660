package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"
	"time"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/store/queue"
)

// job is one call of Update.
type job struct {
	ctx  context.Context
	do   func(*Tx) error
	done chan error // of capacity 1
}

// writer owns the connection that writes. Its goroutine ends when the queue is closed and empty.
type writer struct {
	queue *queue.Queue[job]

	batch   func(calls int)
	conn    *sql.Conn
	tx      Tx
	unsure  bool // a commit failed, so the end of the log is to be read again
	commits atomic.Uint64
	calls   atomic.Uint64
}

func newWriter(conn *sql.Conn, tree audit.Tree, batch func(int)) *writer {
	w := &writer{conn: conn, batch: batch, queue: queue.New[job]()}
	w.tx = Tx{conn: conn, statements: make(map[string]*sql.Stmt), tree: tree}
	go w.run()
	return w
}

// submit hands a call over and waits until it is durable or has failed. The context counts while the call waits: once its
// turn has come it is carried out, and its outcome returned.
func (w *writer) submit(ctx context.Context, do func(*Tx) error) error {
	j := job{ctx: ctx, do: do, done: make(chan error, 1)}
	err := w.queue.Put(ctx, j)
	if errors.Is(err, queue.ErrClosed) {
		return fault(err)
	}
	if err != nil {
		return err
	}
	return queue.Rethrow(w.wait(j))
}

// wait returns the outcome of a call. There is none when a function has ended the writer's goroutine, as tests do that
// fail inside.
func (w *writer) wait(j job) error {
	select {
	case err := <-j.done:
		return err
	case <-w.queue.Ended():
	}
	select {
	case err := <-j.done:
		return err
	default:
		return fault(errors.New("its writer has ended"))
	}
}

func (w *writer) run() {
	defer w.queue.End()
	defer w.tx.close()
	for batch := w.queue.Next(); batch != nil; batch = w.queue.Next() {
		w.commit(batch)
	}
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
			j.done <- err
			continue
		}
		j.done <- outcomes[i]
	}
}

// attempt returns what became of each call, or why the transaction failed and nothing was changed.
func (w *writer) attempt(batch []job) (outcomes []error, err error) {
	ctx := context.WithoutCancel(batch[0].ctx) // no single caller may break off what belongs to many
	if _, err := w.conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return nil, fault(err)
	}
	if w.unsure {
		if w.tx.tree, err = readTree(ctx, w.conn); err != nil {
			return nil, fault(errors.Join(err, w.rollback(ctx)))
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
		return nil, fault(err)
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

// one carries out a call. An error of a function that has changed nothing is its outcome; any other one breaks the
// transaction.
func (w *writer) one(j job) (outcome, broken error) {
	if err := j.ctx.Err(); err != nil {
		return err, nil
	}
	w.calls.Add(1)
	w.tx.dirty, w.tx.failed = false, nil
	err := w.tx.outcome(queue.Guard(func() error { return j.do(&w.tx) }))
	if err != nil && w.tx.dirty {
		return nil, err
	}
	return err, nil
}

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
