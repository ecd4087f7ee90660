package provision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

var _ tlsconf.Gate = (*Engine)(nil)

// errNotAdmitted is what the gate says; handshakes do not show it.
var errNotAdmitted = errors.New("provision: terminal is not admitted")

// position is a place in the feed. It is comparable.
type position struct{ epoch, sequence uint64 }

func (p position) before(q position) bool {
	return p.epoch < q.epoch || p.epoch == q.epoch && p.sequence < q.sequence
}

// head is the end of the feed.
type head struct {
	position
	hash    [32]byte // of the newest record
	objects uint64   // terminals in the feed
}

// standing is what is kept in memory of a terminal.
type standing struct {
	at            position // of the record that says so
	status        keyset.Status
	serial        string
	previous      string
	previousUntil time.Time
	drains        time.Time // when its first draining key is to be retired; zero for none
}

// memory is what the gate and the followers of the feed are answered from: the newest record of each terminal, as far as
// it matters, and the end of the feed. It is safe for concurrent use.
type memory struct {
	mu        sync.RWMutex
	terminals map[keyset.TerminalID]standing
	end       head
	// followed is up to where what others have written is known here. What this engine commits by itself is behind what others have
	// written before it, so only who reads the feed moves this on.
	followed position
	changed  chan struct{} // closed at the next change
	// doubts are terminals that a transaction changed of which nobody knows whether it was kept. They are not admitted.
	// The numbers tell a doubt from a later one.
	doubts  map[keyset.TerminalID]uint64
	doubted uint64
}

func newMemory() *memory {
	return &memory{
		terminals: make(map[keyset.TerminalID]standing), changed: make(chan struct{}), doubts: make(map[keyset.TerminalID]uint64),
	}
}

// doubt notes that nobody knows whether what a transaction changed is so.
func (m *memory) doubt(standings map[keyset.TerminalID]standing) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.doubted++
	for id := range standings {
		m.doubts[id] = m.doubted
	}
}

// doubtful returns the terminals that somebody has to look at again.
func (m *memory) doubtful() map[keyset.TerminalID]uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return maps.Clone(m.doubts)
}

// settled ends doubts, but for those that are newer.
func (m *memory) settled(doubts map[keyset.TerminalID]uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.doubts, func(id keyset.TerminalID, n uint64) bool { return doubts[id] == n })
}

// put notes what a transaction has committed, and reports whether a certificate that was admitted no longer is.
// Transactions may come in another order than they were committed in: what is older than what is known is dropped.
func (m *memory) put(end head, standings map[keyset.TerminalID]standing) (lost bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, s := range standings {
		known, ok := m.terminals[id]
		if ok && !known.at.before(s.at) {
			continue
		}
		m.terminals[id] = s
		lost = lost || ok && s.drops(known)
	}
	if m.end.before(end.position) {
		m.end = end
		close(m.changed)
		m.changed = make(chan struct{})
	}
	return lost
}

// follows returns up to where what others have written is known.
func (m *memory) follows() position {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.followed
}

// follow notes that what others have written is known up to a position.
func (m *memory) follow(p position) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.followed.before(p) {
		m.followed = p
	}
}

// drops reports whether a serial number that was good before is not any more.
func (s standing) drops(before standing) bool {
	if !connects(before.status) {
		return false
	}
	if !connects(s.status) {
		return true
	}
	for _, serial := range []string{before.serial, before.previous} {
		if serial != "" && serial != s.serial && serial != s.previous {
			return true
		}
	}
	return false
}

// newest returns the end of the feed, and a channel that is closed when it has moved.
func (m *memory) newest() (head, <-chan struct{}) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.end, m.changed
}

// standing returns what is known of a terminal, and whether that is beyond doubt.
func (m *memory) standing(id keyset.TerminalID) (s standing, ok, sure bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	s, ok = m.terminals[id]
	_, doubt := m.doubts[id]
	return s, ok, !doubt
}

// due returns the terminals that have a key to retire at now, and whether the certificate before a renewal has ended for
// any since a time.
func (m *memory) due(since, now time.Time) (drained []keyset.TerminalID, ended bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for id, s := range m.terminals {
		if !s.drains.IsZero() && !now.Before(s.drains) {
			drained = append(drained, id)
		}
		if s.previous != "" && since.Before(s.previousUntil) && !now.Before(s.previousUntil) {
			ended = true
		}
	}
	return drained, ended
}

// resolve looks again at terminals of which nobody knew whether a change was kept.
func (e *Engine) resolve(ctx context.Context) error {
	doubts := e.memory.doubtful()
	if len(doubts) == 0 {
		return nil
	}
	var end head
	standings := make(map[keyset.TerminalID]standing)
	err := e.view(ctx, func(tx Tx) error {
		clear(standings)
		var err error
		if _, end, err = readHead(tx); err != nil {
			return err
		}
		for id := range doubts {
			row, ok, err := tx.Terminal(id)
			if err != nil {
				return err
			}
			if ok {
				standings[id] = standingOf(row, end.position)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	lost := e.memory.put(end, standings)
	e.memory.settled(doubts)
	if lost && e.config.OnChange != nil {
		e.config.OnChange()
	}
	return nil
}

func standingOf(t *Terminal, at position) standing {
	return standing{at, t.Status, t.Serial, t.PreviousSerial, t.PreviousUntil, t.drainsNext()}
}

// Admit is the gate of the terminals' listener, by the rule of the gate in tls/feed: a terminal is admitted if it is
// known, its status lets it connect, and the serial number is that of its current certificate or, until its end, of the
// one before. Peers of other roles pass. It answers from memory, which knows of a change before whoever made it is
// answered.
func (e *Engine) Admit(id identity.Identity, serial string) error {
	if id.Role != identity.Terminal {
		return nil
	}
	if id.Tenant != string(e.config.Tenant) {
		return fmt.Errorf("%w: %v is of another tenant", errNotAdmitted, id)
	}
	s, ok, sure := e.memory.standing(keyset.TerminalID(id.Name))
	switch {
	case e.blind():
		return fmt.Errorf("%w: %w", errNotAdmitted, errBlind)
	case !sure:
		return fmt.Errorf("%w: %v has changed, and the store does not say how", errNotAdmitted, id)
	case !ok:
		return fmt.Errorf("%w: %v is not known", errNotAdmitted, id)
	case !connects(s.status):
		return fmt.Errorf("%w: %v is %v", errNotAdmitted, id, s.status)
	case serial == "":
		return fmt.Errorf("%w: %v has no serial number", errNotAdmitted, id)
	case serial == s.serial, serial == s.previous && e.now().Before(s.previousUntil):
		return nil
	}
	return fmt.Errorf("%w: %v shows serial number %s, which is not current", errNotAdmitted, id, serial)
}
