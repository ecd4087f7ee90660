package decrypt

import (
	"context"
	"log/slog"
	"time"
)

// staleAlarm is how long nothing may be heard of the registration authority before somebody should look. Messages are still let
// through until stale-after has passed: an alarm that comes with the outage comes too late.
const staleAlarm = 30 * time.Second

// stale reports whether it is too long ago that something was heard; zero is never.
func stale(heard, now time.Time) bool { return heard.IsZero() || now.Sub(heard) > staleAlarm }

// staleness says in the log when the registry feed falls silent, and when it is heard again.
type staleness struct {
	heard func() time.Time
	log   *slog.Logger

	since time.Time // it began to be looked after
	alarm bool
}

// run looks after the feed until ctx ends. It returns nil.
func (s *staleness) run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	s.since = time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			s.look(now)
		}
	}
}

// look tells what has changed. Who has just begun may not have heard anything yet.
func (s *staleness) look(now time.Time) {
	heard := s.heard()
	silent := heard
	if silent.IsZero() {
		silent = s.since
	}
	switch alarm := stale(silent, now); {
	case alarm && !s.alarm:
		s.alarm = true
		s.log.Error("registry feed is stale: what was decided about terminals since is not known here",
			slog.Duration("silent", now.Sub(silent).Round(time.Second)))
	case !alarm && s.alarm:
		s.alarm = false
		s.log.Info("registry feed is heard again")
	}
}
