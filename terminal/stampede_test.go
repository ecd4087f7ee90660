package terminal_test

import (
	"context"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
)

// crowd is many terminals whose hosts are away at the same time, and how often these are asked.
type crowd struct {
	mu    sync.Mutex
	away  bool
	back  time.Time
	rates map[int64]int // messages in each second from when the hosts are back
}

// fault is asked at each message.
func (c *crowd) fault() terminaltest.Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return terminaltest.RequestLost
	}
	if !c.back.IsZero() {
		c.rates[int64(time.Since(c.back)/time.Second)]++
	}
	return terminaltest.None
}

const crowdQueue = 3 // messages that wait at each

// outage has n terminals sell without their hosts for an hour, and returns the most messages that came in one second when those
// are back, and after how long the last one had come.
func (c *crowd) outage(t *testing.T, n int, jitter func(time.Duration) time.Duration) (peak int, took time.Duration) {
	t.Helper()
	var terms []*terminal.Terminal
	var labs []*terminaltest.Lab
	for range n {
		lab := terminaltest.NewLab(t, dukpt.AES)
		lab.Host.Limits = limits(9, 1<<20, 1<<20, 100000)
		medium := imported(t, lab)
		sealer, err := terminal.OpenInsecureFile(medium)
		check(t, err)
		term, err := terminal.Open(terminal.Options{
			FS: medium, Sealer: sealer, Link: &terminaltest.Wire{Host: lab.Host, Attempts: 1, Fault: c.fault},
			Network: terminal.LinkOptions{Jitter: jitter},
		})
		check(t, err)
		_, err = term.SignIn(t.Context())
		check(t, err)
		terms, labs = append(terms, term), append(labs, lab)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c.away = true
	var running sync.WaitGroup
	for _, term := range terms {
		running.Go(func() { _ = term.Run(ctx, terminal.Upkeep{}) })
		for range crowdQueue {
			_, err := term.SaleOffline(saleOf(t, 100))
			check(t, err)
		}
	}
	time.Sleep(time.Hour)
	c.mu.Lock()
	c.away, c.back, c.rates = false, time.Now(), make(map[int64]int)
	c.mu.Unlock()
	time.Sleep(10 * time.Minute)
	cancel()
	running.Wait()
	for i, term := range terms {
		booked, _ := ledger(labs[i].Host)
		if term.Queue().Count != 0 || len(booked) != crowdQueue || labs[i].Host.Reused() != 0 {
			t.Errorf("terminal %d: %+v waits, %d are booked", i, term.Queue(), len(booked))
		}
		for sequence, times := range booked {
			if times != 1 {
				t.Errorf("terminal %d: sale %d is booked %d times", i, sequence, times)
			}
		}
		check(t, term.Close())
	}
	for second, messages := range c.rates {
		peak, took = max(peak, messages), max(took, time.Duration(second+1)*time.Second)
	}
	return peak, took
}

// TestNoStampede has the hosts of many terminals be away for an hour: all queues are drained within ten minutes, each message has its
// effect once, and they do not come at once.
func TestNoStampede(t *testing.T) {
	t.Parallel()
	n := 1000
	switch {
	case os.Getenv("LATCHKEY_SOAK") != "":
		n = 10_000
	case testing.Short():
		n = 50
	}
	synctest.Test(t, func(t *testing.T) {
		peak, took := new(crowd).outage(t, n, nil)
		t.Logf("%d terminals with %d messages each: all there after %v, at most %d in a second", n, crowdQueue, took, peak)
		if peak > max(15, n/10) || took > 6*time.Minute {
			t.Errorf("%d messages came in one second, and the last after %v", peak, took)
		}
	})
	synctest.Test(t, func(t *testing.T) { // terminals that leave nothing to chance all come at once: that must show
		most := func(d time.Duration) time.Duration { return d }
		if peak, _ := new(crowd).outage(t, 20, most); peak != 20*crowdQueue {
			t.Errorf("without chance at most %d messages came in a second, want all %d", peak, 20*crowdQueue)
		}
	})
}
