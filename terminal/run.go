package terminal

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/latchkey-pos/latchkey/tls/enroll"
)

// How Run goes about it.
const (
	drainPatience = DefaultDialTimeout + DefaultResponseTimeout // one attempt at a silent host
	drainPause    = time.Second                                 // the pause after the first message that nobody answers is random below it
	maxDrainPause = 5 * time.Minute                             // and never longer than this
	drainSpread   = 10 * time.Second                            // the terminals of a host that is back come within it

	renewPatience = 2 * time.Minute
)

// Upkeep says who hears of what Run does. Its functions are called one at a time for each of the two things that Run does, and may
// call the Terminal.
type Upkeep struct {
	Settled func(*SaleResult) // a message that waited has been answered; nil: nobody hears of it
	Failed  func(error)       // something did not work and is tried again; nil: nobody hears of it
}

// Run does in the background what a terminal has to do, until ctx ends or the terminal is closed: it drains the queue, and renews the
// certificate inside the window of the authority. Start it once, after Open, in a goroutine of its own. A sale that nobody answered
// is settled by its intent, soon: Settled hears of it, and firmware that would take it back instead calls Reverse at once.
//
// The terminals of a host that was away do not come all at once. After a message that nobody answers Run waits for a random time
// below a limit that doubles, up to five minutes, and delivers the rest one after the other; an answer to anybody else's message
// lets it come sooner. Renewals begin at a random time inside the window, and after a failure wait likewise, up to an hour, beside
// what the authority asks for.
func (t *Terminal) Run(ctx context.Context, u Upkeep) error {
	if u.Settled == nil {
		u.Settled = func(*SaleResult) {}
	}
	if u.Failed == nil {
		u.Failed = func(error) {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-t.gone:
			cancel(ErrClosed)
		case <-ctx.Done():
		}
	}()
	var both sync.WaitGroup
	for _, part := range []func(context.Context, Upkeep) error{t.drainForEver, t.renewForEver} {
		both.Go(func() {
			if err := part(ctx, u); err != nil {
				cancel(err)
			}
		})
	}
	both.Wait()
	return context.Cause(ctx) // one of the two has ended because of it
}

// network returns the options of the link as they are in force, for their clocks and chances.
func (t *Terminal) network() LinkOptions {
	o := t.o.Network
	o.setDefaults()
	return o
}

func (t *Terminal) drainForEver(ctx context.Context, u Upkeep) error {
	o := t.network()
	for round := 0; ; {
		if t.Queue().Count == 0 {
			round = 0
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-t.filled:
			}
			continue
		}
		err := t.Drain(ctx, drainPatience, u.Settled)
		if errors.Is(err, ErrClosed) || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		most := maxDrainPause // held back by the host, who does not say for how long
		if err != nil {
			u.Failed(err)
			most = doubled(drainPause, maxDrainPause, round)
			round++
		}
		if err == nil && t.Queue().Count == 0 {
			continue
		}
		sooner, err := t.nap(ctx, o, o.Jitter(most))
		if err == nil && sooner {
			round = 0
			err = o.Sleep(ctx, o.Jitter(drainSpread))
		}
		if err != nil {
			return err
		}
	}
}

// nap sleeps until somebody has reached the host.
func (t *Terminal) nap(ctx context.Context, o LinkOptions, d time.Duration) (sooner bool, err error) {
	select {
	case <-t.reached: // an old word: somebody reached it before Drain did not
	default:
	}
	asleep, wake := context.WithCancel(ctx)
	defer wake()
	woken := make(chan bool, 1)
	go func() {
		select {
		case <-t.reached:
			woken <- true
			wake()
		case <-asleep.Done():
			woken <- false
		}
	}()
	err = o.Sleep(asleep, d)
	wake()
	if sooner = <-woken; ctx.Err() != nil {
		return false, ctx.Err()
	}
	if sooner {
		err = nil
	}
	return sooner, err
}

// doubled is a limit that doubles with each round, up to the most.
func doubled(first, most time.Duration, round int) time.Duration {
	if round >= 20 {
		return most
	}
	return min(most, first<<round)
}

func (t *Terminal) renewForEver(ctx context.Context, u Upkeep) error {
	o := t.network()
	return enroll.Schedule{
		Window: t.window, Renew: t.renewOnce, Failed: u.Failed, Ended: func(err error) bool { return errors.Is(err, ErrClosed) },
		Clock: t.clock, Sleep: o.Sleep, Jitter: o.Jitter,
	}.Run(ctx)
}

func (t *Terminal) renewOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, renewPatience)
	defer cancel()
	return t.Renew(ctx)
}

// window returns when the certificate is to be renewed. A renewal that was interrupted is to go on now. There is none for a terminal
// that came from a bundle.
func (t *Terminal) window() (after, before time.Time, ok bool) {
	t.lockBehind()
	defer t.mu.Unlock()
	m := t.holder.member
	if m == nil || t.closed {
		return time.Time{}, time.Time{}, false
	}
	if t.renewing {
		return time.Time{}, time.Time{}, true
	}
	return m.renewAfter, m.renewBefore, true
}
