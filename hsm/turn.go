package hsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
)

// errTurn says that others were at it for too long.
var errTurn = fmt.Errorf("%w: another call is under way", engine.ErrUnavailable)

// turn is a lock around calls into the module. Whoever waits for it waits no longer than a context says: the call of who has it
// may never return.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

// take waits for the turn. It fails with errTurn when the time is over, and with the error of a context that was cancelled.
func (t turn) take(ctx context.Context) error {
	if t.try() {
		return nil
	}
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return overdue(ctx, errTurn)
	}
}

// try takes the turn if nobody has it.
func (t turn) try() bool {
	select {
	case t <- struct{}{}:
		return true
	default:
		return false
	}
}

func (t turn) give() { <-t }

// overdue says why a wait ended with its context: too long is the error for one whose time was over, which says nothing of the
// caller.
func overdue(ctx context.Context, tooLong error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return tooLong
	}
	return ctx.Err()
}
