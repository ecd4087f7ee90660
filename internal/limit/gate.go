package limit

import (
	"context"
	"errors"
	"time"
)

// ErrFull says that there is more work than is waited for.
var ErrFull = errors.New("limit: too much work waits")

// Gate lets so many work at once and so many wait, each for so long. It is safe for concurrent use.
type Gate struct {
	working  chan struct{}
	waiting  chan struct{}
	patience time.Duration
}

// NewGate returns a gate for so many at work, 1 or more, and so many that wait.
func NewGate(working, waiting int, patience time.Duration) *Gate {
	return &Gate{working: make(chan struct{}, max(working, 1)), waiting: make(chan struct{}, max(waiting, 0)), patience: patience}
}

// Enter takes a place to work, which the caller gives back with Leave. It fails with ErrFull when as many wait as may, or when none came
// free in time, and with the error of the context.
func (g *Gate) Enter(ctx context.Context) error {
	select {
	case g.working <- struct{}{}:
		return nil
	default:
	}
	select {
	case g.waiting <- struct{}{}:
		defer func() { <-g.waiting }()
	default:
		return ErrFull
	}
	timer := time.NewTimer(g.patience)
	defer timer.Stop()
	select {
	case g.working <- struct{}{}:
		return nil
	case <-timer.C:
		return ErrFull
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Leave gives a place back.
func (g *Gate) Leave() { <-g.working }

// Depth returns how many work and how many wait.
func (g *Gate) Depth() (working, waiting int) { return len(g.working), len(g.waiting) }
