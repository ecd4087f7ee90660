package hsm

import (
	"context"
	"errors"
	"time"
)

// pool lends a fixed number of sessions, opened when they are first needed. It is safe for concurrent use.
type pool struct {
	device cryptoki
	free   chan *lease
	gone   chan struct{} // closed when the pool is
	wait   time.Duration
	counts *counts
}

// lease is a session that one operation has.
type lease struct {
	session session
	open    bool
	spoilt  bool // something is left in it that its end must take away

	ctx context.Context // of the operation that has it, for what that waits for
}

func newPool(d cryptoki, sessions int, wait time.Duration, n *counts) *pool {
	p := &pool{device: d, free: make(chan *lease, sessions), gone: make(chan struct{}), wait: wait, counts: n}
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
	p.counts.waits.Add(1)
	began := time.Now()
	l, err := p.await(ctx)
	p.counts.waited.Add(uint64(time.Since(began)))
	if err != nil && !errors.Is(err, errShut) {
		p.counts.busy.Add(1)
	}
	return l, err
}

func (p *pool) await(ctx context.Context) (*lease, error) {
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
		return nil, overdue(ctx, errBusy)
	}
}

// inUse returns how many sessions are lent.
func (p *pool) inUse() int { return cap(p.free) - len(p.free) }

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
func (p *pool) put(l *lease) {
	l.ctx = nil
	p.free <- l
}

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
