package decrypt

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"
)

// follower keeps what was read from the deployment folder up to date. What cannot be read changes nothing and makes the
// daemon not ready: the last good state stays in force.
type follower struct {
	reload  func() error
	log     *slog.Logger
	metrics *metrics

	mu     sync.Mutex
	failed error // why the last reading failed
}

// check reports whether the last reading went well.
func (f *follower) check(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// run reads each second, and at once when told, until ctx ends.
func (f *follower) run(ctx context.Context, told <-chan os.Signal) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-told:
			f.log.InfoContext(ctx, "reload asked for")
		}
		f.read(ctx)
	}
}

// read reads once and logs when the outcome is another one than before.
func (f *follower) read(ctx context.Context) {
	err := f.reload()
	f.mu.Lock()
	defer f.mu.Unlock()
	result := "ok"
	switch {
	case err != nil:
		result = "failed"
		if f.failed == nil || f.failed.Error() != err.Error() {
			f.log.ErrorContext(ctx, "reload failed; the last good state stays in force", slog.String("error", err.Error()))
		}
	case f.failed != nil:
		f.log.InfoContext(ctx, "reload works again")
	}
	f.metrics.reloads.WithLabelValues(result).Inc()
	f.failed = err
}

// both joins two readings into one.
func both(first, second func() error) func() error {
	return func() error { return errors.Join(first(), second()) }
}
