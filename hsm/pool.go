package hsm

import (
	"context"
	"time"
)

// pool lends a fixed number of sessions, opened when they are first needed. It is safe for concurrent use.
type pool struct {
	device cryptoki
	free   chan *lease
	gone   chan struct{} // closed when the pool is
	wait   time.Duration
}

// lease is a session that one operation has.
type lease struct {
	session session
	open    bool
	spoilt  bool // something is left in it that its end must take away
}

func newPool(d cryptoki, sessions int, wait time.Duration) *pool {
	p := &pool{device: d, free: make(chan *lease, sessions), gone: make(chan struct{}), wait: wait}
	for range sessions {
		p.free <- &lease{}
	}
	return p
}

// take waits for a free session, at most as long as the pool waits.
func (p *pool) take(ctx context.Context) (*lease, error) {
	select {
	case l := <-p.free: // without a timer
		return l, nil
	default:
	}
	wait := time.NewTimer(p.wait)
	defer wait.Stop()
	select {
	case l := <-p.free:
		return l, nil
	case <-p.gone:
		return nil, errShut
	case <-wait.C:
		return nil, errBusy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ready opens the session of a lease, if it is not open.
func (p *pool) ready(l *lease) error {
	if l.open {
		return nil
	}
	s, err := p.device.openSession()
	if err != nil {
		return err
	}
	l.session, l.open, l.spoilt = s, true, false
	return nil
}

// put takes a session back.
func (p *pool) put(l *lease) { p.free <- l }

// drop closes a session that is not to be used any more. Its session objects go with it.
func (p *pool) drop(l *lease) {
	if l.open {
		l.open = false
		_ = p.device.closeSession(l.session) // of one that the module has closed already there is nothing left
	}
}

// close sends waiting operations away, waits for those that have a session, and closes the sessions if the module is still
// the one that they are of.
func (p *pool) close(there bool) {
	close(p.gone)
	for range cap(p.free) {
		l := <-p.free
		if there {
			p.drop(l)
		}
	}
}
