package vault

import (
	"sync"
	"time"
)

const (
	tolerated = 3 // failures in a row before nobody asks any more
	firstRest = time.Second
	lastRest  = 30 * time.Second
)

// breaker keeps callers away from a Vault that has failed several times in a row. After a rest one of them may try; each
// try that fails doubles the rest. It is safe for concurrent use.
type breaker struct {
	clock func() time.Time

	mu      sync.Mutex
	failed  int       // in a row
	until   time.Time // of the rest
	rest    time.Duration
	probing bool
}

// enter lets a call through, which ends with left; or it says how long to wait.
func (b *breaker) enter() (wait time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed < tolerated {
		return 0, true
	}
	if left := b.until.Sub(b.clock()); left > 0 {
		return left, false
	}
	if b.probing {
		return b.rest, false
	}
	b.probing = true
	return 0, true
}

// left says what became of a call.
func (b *breaker) left(failed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
	if !failed {
		b.failed, b.rest = 0, 0
		return
	}
	if b.failed++; b.failed < tolerated || b.until.After(b.clock()) {
		return // of calls that began together, the first one counts
	}
	b.rest = min(max(2*b.rest, firstRest), lastRest)
	b.until = b.clock().Add(b.rest)
}

// abandoned ends a call of which nothing is known: whoever asked has gone.
func (b *breaker) abandoned() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
}

// open reports whether callers are kept away.
func (b *breaker) open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed >= tolerated
}
