package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestTheLastGoodStateStays reads what changes, then something damaged, then what is good again.
func TestTheLastGoodStateStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		var there, inForce atomic.Value // texts
		there.Store("one")
		f := &Follower{Logger: slog.New(slog.NewTextHandler(&log, nil)), Count: counter(), Reload: func() error {
			if there.Load() == "damaged" {
				return errors.New("it is damaged")
			}
			inForce.Store(there.Load())
			return nil
		}}
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- f.Run(ctx) }()
		for _, c := range []struct {
			there, inForce string
			ready          bool
		}{{"one", "one", true}, {"two", "two", true}, {"damaged", "two", false}, {"damaged", "two", false}, {"three", "three", true}} {
			there.Store(c.there)
			time.Sleep(1500 * time.Millisecond) // of a clock that does not wait
			synctest.Wait()
			if err := f.Check(ctx); inForce.Load() != c.inForce || (err == nil) != c.ready {
				t.Errorf("%s: %s is in force, ready: %v", c.there, inForce.Load(), err)
			}
		}
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if n := strings.Count(log.String(), "it is damaged"); n != 1 || !strings.Contains(log.String(), "reload works again") {
			t.Errorf("log: %s", log.String())
		}
		if got := results(t, f.Count); got["ok"]+got["failed"] != 7 || got["failed"] != 3 {
			t.Errorf("counted %v", got)
		}
	})
}

// TestToldItReadsAtOnce does not wait for the second to end.
func TestToldItReadsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var readings atomic.Int64
		told := make(chan os.Signal)
		f := &Follower{Told: told, Logger: slog.New(slog.DiscardHandler), Reload: func() error { readings.Add(1); return nil }}
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- f.Run(ctx) }()
		begun := time.Now()
		told <- os.Interrupt
		told <- os.Interrupt
		synctest.Wait()
		if readings.Load() != 2 || time.Since(begun) != 0 {
			t.Errorf("%d readings after %v", readings.Load(), time.Since(begun))
		}
		end()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
