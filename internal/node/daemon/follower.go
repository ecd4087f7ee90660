package daemon

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Follower keeps what was read from a folder up to date. What cannot be read changes nothing and makes the daemon not
// ready: the last good state stays in force.
type Follower struct {
	Reload func() error
	Told   <-chan os.Signal // whatever is received has it read at once; nil: nothing is
	Logger *slog.Logger
	Count  *prometheus.CounterVec // by result, ok or failed; nil: not counted

	mu     sync.Mutex
	failed error // why the last reading failed
}

// Check reports whether the last reading went well.
func (f *Follower) Check(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// Run reads each second, and at once when told, until ctx ends. It returns nil.
func (f *Follower) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-f.Told:
			f.Logger.InfoContext(ctx, "reload asked for")
		}
		f.read(ctx)
	}
}

// read reads once and logs when the outcome is another one than before.
func (f *Follower) read(ctx context.Context) {
	err := f.Reload()
	f.mu.Lock()
	defer f.mu.Unlock()
	result := "ok"
	switch {
	case err != nil:
		result = "failed"
		if f.failed == nil || f.failed.Error() != err.Error() {
			f.Logger.ErrorContext(ctx, "reload failed; the last good state stays in force", slog.String("error", err.Error()))
		}
	case f.failed != nil:
		f.Logger.InfoContext(ctx, "reload works again")
	}
	if f.Count != nil {
		f.Count.WithLabelValues(result).Inc()
	}
	f.failed = err
}
