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

// SourceOf returns what counts as one source.
var SourceOf = sourceOf

// FeedKept is how many records stay.
const FeedKept = feedKept

// ServedCount returns how many terminals are in a lane.
func (e *Engine) ServedCount() int {
	e.lanes.mu.Lock()
	defer e.lanes.mu.Unlock()
	return len(e.lanes.open)
}
