package provision

import (
	"context"
	"time"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// Sweep does what time makes due, and then what other services are to be told.
func (e *Engine) Sweep(ctx context.Context, last time.Time) error {
	if err := e.sweep(ctx, last); err != nil {
		return err
	}
	return e.outbox(ctx)
}

// ReadCode reads a typed code.
func ReadCode(typed secret.Bytes) (secret.Bytes, bool) { return readCode(typed) }

// NewCode draws a code.
func NewCode(short bool) secret.Bytes { return newCode(short) }

// FeedKept is how many records stay.
const FeedKept = feedKept

// ServedCount returns how many terminals are in a lane.
func (e *Engine) ServedCount() int {
	e.lanes.mu.Lock()
	defer e.lanes.mu.Unlock()
	return len(e.lanes.open)
}

// LookAt has the outbox look at so many tasks in one go.
func (e *Engine) LookAt(tasks int) { e.tasks = tasks }

// CatchUp learns what others have written.
func (e *Engine) CatchUp(ctx context.Context) error { return e.catchUp(ctx) }

// SeenBefore has the store seen for the last time so long ago.
func (e *Engine) SeenBefore(ago time.Duration) {
	at := time.Now().Add(-ago)
	e.seen.at.Store(&at)
}
