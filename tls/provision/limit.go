package provision

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// maxLimited bounds how many sources or names a limiter remembers.
const maxLimited = 1 << 14

// limiter counts attempts by source or by name. It is safe for concurrent use.
type limiter struct {
	rate Rate

	mu   sync.Mutex
	seen map[string]*rate.Limiter
}

func newLimiter(r Rate) *limiter { return &limiter{rate: r, seen: make(map[string]*rate.Limiter)} }

// take counts an attempt, and returns how long to wait when there are too many.
func (l *limiter) take(name string, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	one, ok := l.seen[name]
	if !ok {
		if len(l.seen) >= maxLimited && !l.forget(now) {
			return l.rate.Every
		}
		one = rate.NewLimiter(rate.Every(l.rate.Every), l.rate.Burst)
		l.seen[name] = one
	}
	reserved := one.ReserveN(now, 1)
	if !reserved.OK() {
		return l.rate.Every
	}
	if wait = reserved.DelayFrom(now); wait > 0 {
		reserved.CancelAt(now)
	}
	return wait
}

// forget drops who has not come for so long that it makes no difference, and reports whether there is room.
func (l *limiter) forget(now time.Time) bool {
	for name, one := range l.seen {
		if one.TokensAt(now) >= float64(l.rate.Burst) {
			delete(l.seen, name)
		}
	}
	return len(l.seen) < maxLimited
}

// lanes let one call at a time through for each terminal. They are safe for concurrent use.
type lanes struct {
	mu   sync.Mutex
	open map[keyset.TerminalID]*lane
}

type lane struct {
	turn  chan struct{} // holds one token
	users int
}

func newLanes() *lanes { return &lanes{open: make(map[keyset.TerminalID]*lane)} }

// enter waits for the turn of a call, which ends with leave.
func (l *lanes) enter(ctx context.Context, id keyset.TerminalID) (leave func(), err error) {
	l.mu.Lock()
	one, ok := l.open[id]
	if !ok {
		one = &lane{turn: make(chan struct{}, 1)}
		one.turn <- struct{}{}
		l.open[id] = one
	}
	one.users++
	l.mu.Unlock()
	forget := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if one.users--; one.users == 0 {
			delete(l.open, id)
		}
	}
	select {
	case <-one.turn:
		return func() { one.turn <- struct{}{}; forget() }, nil
	case <-ctx.Done():
		forget()
		return nil, ctx.Err()
	}
}

// serve waits for the turn of a terminal and for a seat, and refuses when there is none: terminals that try again after a
// while are better than terminals that time out.
func (e *Engine) serve(ctx context.Context, id keyset.TerminalID) (done func(), err error) {
	leave, err := e.lanes.enter(ctx, id)
	if err != nil {
		return nil, &Refusal{Code: CodeOverloaded, RetryAfter: retryAfter(), Cause: err}
	}
	select {
	case e.seats <- struct{}{}:
		return func() { <-e.seats; leave() }, nil
	default:
		leave()
		return nil, &Refusal{Code: CodeOverloaded, RetryAfter: retryAfter()}
	}
}

// pace bounds how often somebody is asked to certify for an enrolled terminal, also when nothing comes of it.
func (e *Engine) pace(id keyset.TerminalID) error {
	if wait := e.members.take(string(id), e.now()); wait > 0 {
		return &Refusal{Code: CodeTooManyAttempts, RetryAfter: max(wait, time.Second)}
	}
	return nil
}

// retryAfter spreads those that were sent away.
func retryAfter() time.Duration { return 2*time.Second + rand.N(8*time.Second) }
