package hsm

import (
	"fmt"
	"sync"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
)

// errShut is why a call does not enter: others are making everything anew. It is no error of the token.
var errShut = fmt.Errorf("%w: the token is being reconnected", engine.ErrUnavailable)

// gate lets calls in and keeps them out while what they use is replaced. A call never waits at it, whatever others do
// inside: what finds it shut fails. The zero value is open.
type gate struct {
	mu       sync.Mutex
	inside   int
	shut     bool
	replaced uint64        // how often what is behind the gate was replaced
	empty    chan struct{} // closed when the last call leaves a shut gate
}

// count returns how often what is behind the gate was replaced.
func (g *gate) count() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.replaced
}

// enter lets a call in that knows what is behind the gate by its count. It fails with errShut while the gate is shut, and when
// what was known is no more there: a handle of then could be another thing now.
func (g *gate) enter(known uint64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut || g.replaced != known {
		return errShut
	}
	g.inside++
	return nil
}

// leave ends a call that entered.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.inside == 0 && g.shut && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// replace shuts the gate, waits until nobody is inside, calls f, counts it, whatever f returns, and opens the gate again. When
// somebody stays inside for longer than patience it fails with ErrStuck, f is not called, and the gate stays shut for good:
// nothing can be replaced under a call that uses it. There is one replace at a time, which is up to the caller.
func (g *gate) replace(patience time.Duration, f func() error) error {
	empty := g.close()
	if empty != nil {
		wait := time.NewTimer(patience)
		defer wait.Stop()
		select {
		case <-empty:
		case <-wait.C:
			return ErrStuck
		}
	}
	err := f()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = false
	g.replaced++
	return err
}

// close shuts the gate and returns what tells that nobody is inside, nil when nobody is already.
func (g *gate) close() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
	if g.inside == 0 {
		return nil
	}
	if g.empty == nil {
		g.empty = make(chan struct{})
	}
	return g.empty
}
