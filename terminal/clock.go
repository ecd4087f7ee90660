package terminal

import (
	"crypto/x509"
	"errors"
	"sync"
	"time"
)

// ErrClock says that the certificate of a host is not valid yet by the clock of the terminal, which is therefore wrong: it runs
// behind, as after a start in 1970.
var ErrClock = errors.New("terminal: the clock is behind the certificate of the host")

// floor is a time that is certainly over: somebody who can be believed has said so. A clock that is behind it is wrong, and the
// floor goes on in its place. It is safe for concurrent use.
type floor struct {
	mu    sync.Mutex
	at    time.Time // the latest that was said
	since time.Time // when, by the monotonic clock of the process
}

// raise notes that it is this time at least.
func (f *floor) raise(to time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if to.After(f.now()) {
		f.at, f.since = to, time.Now()
	}
}

// time returns what the floor has come to.
func (f *floor) time() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now()
}

func (f *floor) now() time.Time {
	if f.at.IsZero() {
		return f.at
	}
	return f.at.Add(time.Since(f.since))
}

// under returns a clock over a floor.
func (f *floor) under(clock func() time.Time) func() time.Time {
	return func() time.Time {
		now, least := clock(), f.time()
		if now.Before(least) {
			return least
		}
		return now
	}
}

// floorOf returns the floor that the saved state stands for: what the host has said last, and what is certified to be over.
func (t *Terminal) floorOf() *floor {
	f := new(floor)
	f.raise(time.Unix(t.counters.Clock, 0).UTC())
	if leaf, err := x509.ParseCertificate(t.holder.chain[0]); err == nil { // a damaged one is not opened
		f.raise(leaf.NotBefore)
	}
	if m := t.holder.member; m != nil {
		f.raise(m.list.NotBefore)
	}
	return f
}

// clockKept is how much later the floor must be than the saved one to be saved for its own sake.
const clockKept = time.Hour

// hear takes the time of a host that has answered under its MAC. A host that is beyond the end of the certificate that it has just
// let in is wrong.
func (t *Terminal) hear(hostTime time.Time) {
	if hostTime.After(t.credential.Leaf().NotAfter) {
		return
	}
	t.floor.raise(hostTime)
	if t.floor.time().Sub(time.Unix(t.counters.Clock, 0)) > clockKept {
		_ = t.count(func(*counters) {}) // the medium has its own ways to say that it is broken
	}
}
