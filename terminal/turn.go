package terminal

import (
	"context"
	"errors"
	"sync"
)

// errYield ends an exchange in the background when somebody waits for the terminal: what it delivered comes again.
var errYield = errors.New("terminal: somebody waits")

// turn says whose turn it is: work in the background lets go of the terminal when a customer comes, and everything does when it is
// closed. It is safe for concurrent use.
type turn struct {
	mu      sync.Mutex
	idle    sync.Cond // of mu: waiting has become zero
	waiting int       // calls that want the terminal now
	closing bool      // somebody wants it for good
	cancel  context.CancelCauseFunc
	yields  bool // the exchange under way gives way to others
}

func newTurn() *turn {
	t := new(turn)
	t.idle.L = &t.mu
	return t
}

// lock takes the terminal for a call that somebody waits for.
func (t *Terminal) lock() {
	t.turn.ask(false)
	t.mu.Lock()
	t.turn.got()
}

// lockForGood takes it from whoever has it.
func (t *Terminal) lockForGood() {
	t.turn.ask(true)
	t.mu.Lock()
	t.turn.got()
}

// lockBehind takes the terminal for work in the background, when nobody waits for it.
func (t *Terminal) lockBehind() {
	t.turn.queue()
	t.mu.Lock()
}

func (t *turn) ask(forGood bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting++
	t.closing = t.closing || forGood
	if t.cancel == nil {
		return
	}
	switch {
	case forGood:
		t.cancel(ErrClosed)
	case t.yields:
		t.cancel(errYield)
	}
}

func (t *turn) got() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting--; t.waiting == 0 {
		t.idle.Broadcast()
	}
}

func (t *turn) queue() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.waiting > 0 {
		t.idle.Wait()
	}
}

// exchange bounds one exchange of whoever has the terminal: it ends when it has to. done is called after it.
func (t *turn) exchange(ctx context.Context, yields bool) (bounded context.Context, done func()) {
	bounded, cancel := context.WithCancelCause(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cancel, t.yields = cancel, yields
	switch {
	case t.closing:
		cancel(ErrClosed)
	case yields && t.waiting > 0:
		cancel(errYield)
	}
	return bounded, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.cancel = nil
		cancel(nil)
	}
}
