package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/store/queue"
)

// caller is told what became of a call.
type caller interface{ tell(error) }

// line holds the calls that wait for the goroutine of a link.
type line[J caller] struct{ *queue.Queue[J] }

func newLine[J caller]() line[J] { return line[J]{queue.New[J]()} }

// put hands a call over, once a context and the queue let it.
func (q line[J]) put(ctx context.Context, j J) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := q.Put(ctx, j)
	if errors.Is(err, queue.ErrClosed) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// turnAway tells the calls that are waiting that the database cannot be used.
func (q line[J]) turnAway(cause error) {
	for j, ok := q.Waiting(); ok; j, ok = q.Waiting() {
		j.tell(fmt.Errorf("%w: %v", ErrUnavailable, cause))
	}
}

// work carries out what waits, until the queue is closed and empty. attempt carries out a batch as one transaction: it returns what
// became of each call, or why the transaction failed. After a failure nothing of it stays, or nobody can know: then it is ErrUnavailable.
func (q line[J]) work(attempt func(batch []J) ([]error, error)) {
	for batch := q.Next(); batch != nil; batch = q.Next() {
		carryOut(batch, attempts, attempt)
	}
}

// carryOut carries out a batch and tells each caller. When the transaction fails and nothing of it stays, it is tried again where it
// only met another service or lost the connection; where it may have failed for the sake of one call, every call of it is tried by
// itself. What says nothing of the calls, such as that another service keeps a lock, would keep each of them waiting anew.
func carryOut[J caller](batch []J, tries int, attempt func(batch []J) ([]error, error)) {
	outcomes, err := attempt(batch)
	switch {
	case err == nil:
	case again(err) && tries > 1:
		carryOut(batch, tries-1, attempt)
		return
	case personal(err) && len(batch) > 1:
		for _, j := range batch {
			carryOut([]J{j}, tries, attempt)
		}
		return
	default:
		err = fault(err)
	}
	for i, j := range batch {
		if err != nil {
			j.tell(err)
			continue
		}
		j.tell(outcomes[i])
	}
}
