package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/store/queue"
)

// attempts is how often a call is tried that meets those of other services.
const attempts = 3

// job is one call.
type job struct {
	ctx   context.Context
	needs *needs
	do    func(*ledger) error
	done  chan error // of capacity 1
}

func (j job) tell(err error) { j.done <- err }

// writer writes claims. Its goroutine ends when the queue is closed and empty.
type writer struct {
	link
	queue line[job]
}

func newWriter(o Options) *writer {
	w := &writer{link: link{options: o}, queue: newLine[job]()}
	w.waiting = w.queue
	return w
}

// open connects for the first time.
func (w *writer) open(ctx context.Context) error {
	if err := w.begin(ctx); err != nil {
		return err
	}
	go w.run()
	return nil
}

// submit hands a call over and waits until it is durable or has failed. When the context ends first, the call may still be
// carried out.
func (w *writer) submit(ctx context.Context, n *needs, do func(*ledger) error) error {
	j := job{ctx: ctx, needs: n, do: do, done: make(chan error, 1)}
	if err := w.queue.put(ctx, j); err != nil {
		return err
	}
	select {
	case err := <-j.done:
		return queue.Rethrow(err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *writer) run() {
	defer w.queue.End()
	w.queue.work(w.attempt)
	w.leave()
}

// attempt carries out a batch as one transaction.
func (w *writer) attempt(batch []job) ([]error, error) {
	if err := w.ready(); err != nil {
		return nil, err
	}
	l, err := w.read(batch)
	if err != nil {
		return nil, w.undo(err)
	}
	outcomes, worked := make([]error, len(batch)), 0
	for i := range batch {
		if outcomes[i] = batch[i].ctx.Err(); outcomes[i] != nil {
			continue
		}
		worked++
		outcomes[i] = queue.Guard(func() error { return batch[i].do(l) })
	}
	if worked == 0 {
		return outcomes, w.undo(nil)
	}
	if planted.On(planted.ClaimAfterAnswer) {
		answerEarly(batch, outcomes)
	}
	number := w.batch + 1
	if err := w.write(l, number); err != nil {
		return nil, err
	}
	w.committed(number, l.tree, worked)
	return outcomes, nil
}

// answerEarly is the planted fault of a service that answers before its claims are durable. It leaves a process that is killed the
// time to be caught.
func answerEarly(batch []job, outcomes []error) {
	for i, j := range batch {
		j.done <- outcomes[i]
		batch[i].done = make(chan error, 1)
	}
	time.Sleep(20 * time.Millisecond)
}

// read begins a transaction, waits for what its calls work on, and reads it. It is one exchange with the server.
func (w *writer) read(batch []job) (*ledger, error) {
	n := newNeeds()
	for _, j := range batch {
		n.add(j.needs)
	}
	l := newLedger(w.tree)
	o := newOpening()
	if !planted.On(planted.ClaimUnchecked) {
		o.Queue(`SELECT lock_for_claims($1::bigint[], $2::bytea[], $3::bytea[], $4::bigint[])`, n.locks(w.options.schema())...)
	}
	n.read(&o.Batch, l) // what others have committed by now: each statement sees it anew
	if err := w.enterWith(o, n.all); err != nil {
		return nil, err
	}
	return l, nil
}

// write writes what a batch has changed and commits it. It is one exchange with the server. An error of the server about what was
// written says that nothing stays. After anything else that went wrong the outcome is looked up.
func (w *writer) write(l *ledger, number uint64) error {
	b := &pgx.Batch{}
	written, committed := false, false
	if l.fenced {
		b.Queue(`UPDATE fence SET ordinals = $1`, int64(l.fence))
		w.session.settled(b)
	}
	b.Queue(writeBatch(), l.arguments(w.options.Instance, number)...).Exec(func(pgconn.CommandTag) error {
		written = true
		return nil
	})
	b.Queue(commit).Exec(func(tag pgconn.CommandTag) error {
		committed = tag.String() == commit
		return nil
	})
	return w.conclude(b, l.fenced, &written, &committed)
}
