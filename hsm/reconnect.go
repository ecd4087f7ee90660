package hsm

import (
	"context"
	"errors"
	"fmt"
)

// current returns the connection, and waits for one where there is none. It begins an attempt to get it back, unless one is
// under way or the last failed a moment ago.
func (t *Token) current(ctx context.Context) (*connection, error) {
	for {
		t.mu.Lock()
		a, c, err := t.next()
		t.mu.Unlock()
		if c != nil || err != nil {
			return c, err
		}
		select {
		case <-a.done:
			if a.err != nil {
				return nil, unavailable(a.err)
			}
		case <-ctx.Done():
			return nil, unavailable(ctx.Err())
		}
	}
}

// next returns the connection, or the attempt to wait for, or why there is neither. The token is locked.
func (t *Token) next() (*attempt, *connection, error) {
	switch {
	case t.final != nil:
		return nil, nil, unavailable(t.final)
	case t.connection != nil:
		return nil, t.connection, nil
	case t.attempt == nil && t.options.Clock().Before(t.notBefore):
		return nil, nil, unavailable(fmt.Errorf("hsm: the token was lost: %w", t.last))
	case t.attempt == nil:
		t.begin()
	}
	return t.attempt, nil, nil
}

// lost says that a connection is of no use any more.
func (t *Token) lost(c *connection, cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.connection != c || c == nil {
		return // somebody has said so already
	}
	t.connection, t.old, t.cause, t.last = nil, c, cause, cause
	if now := t.options.Clock(); now.Sub(t.since) < maxPause { // it did not last: no request shall make the module restart all the time
		t.notBefore = now.Add(pause(t.failures))
		t.failures++
	} else {
		t.failures = 0
	}
	t.options.Log.Warn("token lost", "token", t, "cause", cause)
}

// begin starts an attempt to connect. It ends by itself: it waits no longer than Patience, and calls the module. The token is
// locked.
func (t *Token) begin() {
	a := &attempt{done: make(chan struct{})}
	t.attempt = a
	old, cause := t.old, t.cause
	t.again.Go(func() {
		var c *connection
		err := t.gate.replace(t.options.Patience, func() (err error) {
			c, err = t.connect(context.Background(), old, cause)
			return err
		})
		t.finish(a, c, err)
	})
}

// finish notes how an attempt ended.
func (t *Token) finish(a *attempt, c *connection, err error) {
	t.note(a, c, err)
	if errors.Is(err, ErrStuck) {
		t.abandon(err, true)
	}
	close(a.done)
}

func (t *Token) note(a *attempt, c *connection, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a.err, t.attempt = err, nil
	if !errors.Is(err, ErrStuck) {
		t.old = nil
	}
	if err == nil {
		t.connection, t.since = c, t.options.Clock()
		t.counts.reconnects.Add(1)
		t.options.Log.Info("token is back", "token", t)
		return
	}
	t.last, t.cause = err, err
	t.notBefore = t.options.Clock().Add(pause(t.failures))
	t.failures++
	if t.final == nil && (errors.Is(err, ErrStuck) || classify(err) == classPIN) {
		t.final = err
	}
	t.options.Log.Error("token stays away", "token", t, "cause", err)
}

// connect closes the old connection and makes a new one, after a restart of the module where the cause asks for it and nobody
// else has restarted it, or where keys are missing. It tries the PIN once at most, and once more where it was taken before a
// restart for missing keys. Nobody is inside the gate. When ctx ends it begins no further call, as soon as it notices.
func (t *Token) connect(ctx context.Context, old *connection, cause error) (*connection, error) {
	old.close()
	restarted := false
	if known := t.device.generation(); cause != nil && classify(cause) == classLost && (old == nil || old.generation == known) {
		if err := t.device.restart(known, func(string) {}); err != nil {
			return nil, err
		}
		restarted = true
	}
	c, tried, err := t.build(ctx)
	if !restarted && err == nil && old.hasMore(c) { // a module may forget what a device had when it was away
		c.close()
		tried, err = false, rvDeviceRemoved
	}
	if err == nil || tried || restarted || old == nil || classify(err) != classLost {
		return c, err
	}
	if err := t.device.restart(t.device.generation(), func(string) {}); err != nil {
		return nil, err
	}
	c, _, err = t.build(ctx)
	return c, err
}

// unwanted says why nobody waits for a connection any more, nil while somebody does.
func (t *Token) unwanted(ctx context.Context) error {
	select {
	case <-t.stuck:
		return t.stuckBy
	default:
		return ctx.Err()
	}
}

// hasMore reports whether a connection knew a key that the next one does not.
func (c *connection) hasMore(next *connection) bool {
	if c == nil || c.keys.Load() == nil {
		return false
	}
	there := next.keys.Load().byID
	for id := range c.keys.Load().byID {
		if there[id] == nil {
			return true
		}
	}
	return false
}

// build opens the sessions of a connection, logs in and finds the keys. It reports whether it got as far as to log in.
func (t *Token) build(ctx context.Context) (c *connection, tried bool, err error) {
	c = &connection{device: t.device, generation: t.device.generation(), count: t.gate.count() + 1}
	if err := c.device.enter(c.generation); err != nil {
		return nil, false, err
	}
	defer c.device.leave()
	c.pool = newPool(c.device, t.options.Sessions, t.options.Wait, &t.counts)
	defer func() {
		if err != nil && c.count > 1 { // what it does not answer now it has answered before
			err = silent(err)
		}
		if err != nil {
			c.close()
			c = nil
		}
	}()
	for range t.options.Owners {
		s, err := c.device.openSession()
		if err != nil {
			return c, false, err
		}
		c.owners = append(c.owners, &owner{turn: newTurn(), session: s})
	}
	if err := t.unwanted(ctx); err != nil { // a session came too late: no PIN is tried for nobody
		return c, false, err
	}
	t.counts.logins.Add(1)
	if err := c.device.login(c.owners[0].session); err != nil {
		return c, true, err
	}
	c.paths = newPaths(c, t.options.CacheObjects, &t.counts)
	if t.report.Checks == nil {
		if t.report, t.shape, err = probe(ctx, c.device, c.owners[0].session, t.options.OneCall); err != nil {
			return c, true, err
		}
	}
	v, err := t.readKeys(c)
	c.keys.Store(v)
	return c, true, err
}
