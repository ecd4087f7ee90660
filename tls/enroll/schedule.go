package enroll

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

const (
	firstPause = 30 * time.Second // the pause after a renewal that failed is random below it, twice as much the next time
	lastPause  = time.Hour
	lookAgain  = time.Hour // how long a wait for the window is trusted: the clock may be set
)

// Schedule says when a terminal renews its certificate, so that the terminals of an authority that was away do not come all at once:
// at a random time of the window, and after a failure when the authority says and a random time besides, below half a minute at first
// and an hour in the end. Window and Renew are required.
type Schedule struct {
	// Window returns from when and until when the certificate is to be renewed; two zero times: a renewal that was begun is to go
	// on. false ends Run.
	Window func() (after, before time.Time, ok bool)
	// Renew renews it. An error that is a *Refusal says when to come again. It returns what Ended knows when there is no more to
	// be done.
	Renew  func(ctx context.Context) error
	Failed func(error)      // hears of what is tried again; nil: nobody does
	Ended  func(error) bool // whether an error of Renew ends Run, which returns it; nil: none does
	Clock  func() time.Time // nil: time.Now
	// Sleep waits or returns the error of ctx; nil: real time.
	Sleep func(ctx context.Context, d time.Duration) error
	// Jitter draws from [0, most); nil: uniformly.
	Jitter func(most time.Duration) time.Duration

	told time.Duration // how long the latest pause was
}

// Run renews for ever. It returns nil when Window says that there is nothing to renew, what Ended knew, or the error of ctx.
func (s Schedule) Run(ctx context.Context) error {
	s.complete()
	var at, window time.Time // when to renew, and which window that is in
	for failed := 0; ; {
		after, before, ok := s.Window()
		if !ok {
			return nil
		}
		now := s.Clock().Round(0) // by the wall: a device that sleeps stops the other clock
		if !after.IsZero() && !after.Equal(window) {
			at, window = s.within(now, after, before), after
		}
		if at.After(before) && at.Sub(now) > max(s.told, lookAgain) {
			at = s.within(now, after, before) // it was drawn by a clock that has been set back since
		}
		if wait := at.Sub(now); wait > 0 {
			if err := s.Sleep(ctx, min(wait, lookAgain)); err != nil {
				return err
			}
			continue
		}
		err := s.Renew(ctx)
		if err == nil {
			failed = 0
			at = s.Clock().Round(0).Add(lookAgain) // an authority that does not move its window is not asked without end
			continue
		}
		if s.Ended(err) || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		s.Failed(err)
		at = s.Clock().Round(0).Add(s.pause(err, failed))
		failed++
	}
}

// complete fills in what was not given.
func (s *Schedule) complete() {
	if s.Failed == nil {
		s.Failed = func(error) {}
	}
	if s.Ended == nil {
		s.Ended = func(error) bool { return false }
	}
	if s.Clock == nil {
		s.Clock = time.Now
	}
	if s.Sleep == nil {
		s.Sleep = sleep
	}
	if s.Jitter == nil {
		s.Jitter = func(most time.Duration) time.Duration { return rand.N(most) }
	}
	if planted.On(planted.RenewTogether) {
		s.Jitter = func(most time.Duration) time.Duration { return most }
	}
}

// pause returns how long to wait after so many failures and one more.
func (s *Schedule) pause(err error, failed int) time.Duration {
	most := lastPause
	if failed < 20 {
		most = min(lastPause, firstPause<<failed)
	}
	d := s.Jitter(most)
	if r, ok := errors.AsType[*Refusal](err); ok && !planted.On(planted.RetryAfterIgnored) {
		d += r.RetryAfter
	}
	s.told = d
	return d
}

// within draws a time from what is left of a window; soon, if nothing is.
func (s *Schedule) within(now, after, before time.Time) time.Time {
	if after.Before(now) {
		after = now
	}
	left := before.Sub(after)
	if left <= 0 {
		left = firstPause
	}
	return after.Add(s.Jitter(left))
}

// sleep waits in real time.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
