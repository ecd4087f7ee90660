package enroll_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/tls/enroll"
)

// TestScheduleClockSetBack has a renewal fail by a clock that is ten years ahead. When it is set right the terminal renews in its
// window, and does not wait for the day that the wrong clock told.
func TestScheduleClockSetBack(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]bool{"in a window": true, "in the middle of one": false} {
		noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		now := noon.AddDate(10, 0, 0)
		after, before := noon.Add(10*24*time.Hour), noon.Add(20*24*time.Hour)
		if !open {
			after, before = time.Time{}, time.Time{}
		}
		tried, slept := 0, 0
		ended := errors.New("enough")
		err := enroll.Schedule{
			Window: func() (time.Time, time.Time, bool) { return after, before, true },
			Renew: func(context.Context) error {
				if tried++; tried == 1 {
					return errors.New("the certificate of the authority is not good yet")
				}
				return ended
			},
			Ended: func(err error) bool { return errors.Is(err, ended) },
			Clock: func() time.Time { return now },
			Sleep: func(_ context.Context, d time.Duration) error {
				if now = now.Add(d); tried > 0 {
					if slept++; slept == 1 { // somebody sets the clock
						now = noon
					}
				}
				if slept > 24*21 {
					return errors.New("it sleeps for weeks")
				}
				return nil
			},
			Jitter: func(most time.Duration) time.Duration { return most / 2 },
		}.Run(t.Context())
		if !errors.Is(err, ended) || tried != 2 || open && (now.Before(after) || now.After(before)) {
			t.Errorf("%s: %v after %d attempts, at %v, want the second between %v and %v", name, err, tried, now, after, before)
		}
	}
}
