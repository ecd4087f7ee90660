package decrypt

import (
	"sync"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/feed"
)

// markKey names a key of a terminal. It is comparable.
type markKey struct {
	terminal keyset.TerminalID
	set      keyset.ID
	id       dukpt.KeyID
}

// mark says how far a key has been used.
type mark struct {
	high uint32    // highest ordinal that a MAC has verified for; 0 for none
	seen time.Time // when it was noted first
}

// marks are what this node has noted of keys and what of that the authority knows. They are safe for concurrent use.
type marks struct {
	mu    sync.Mutex
	told  map[markKey]uint32 // the high that the authority knows, of every key that it knows to be in use
	ahead map[markKey]mark   // what it does not know yet
}

func newMarks() *marks {
	return &marks{told: make(map[markKey]uint32), ahead: make(map[markKey]mark)}
}

// add notes the use of a key.
func (m *marks) add(key markKey, high uint32, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	told, known := m.told[key]
	noted, waiting := m.ahead[key]
	if known && high <= told || waiting && high <= noted.high {
		return
	}
	if !waiting {
		noted.seen = at
	}
	noted.high = max(noted.high, high)
	m.ahead[key] = noted
}

// forget has everything told again that will be added: the authority may have lost what it knew.
func (m *marks) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.told)
}

// waiting is how many keys the authority does not know all about.
func (m *marks) waiting() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.ahead)
}

// take returns what is to be told about some keys, at most so many, and those keys.
func (m *marks) take(limit int) (feed.Observations, map[markKey]mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var o feed.Observations
	taken := make(map[markKey]mark)
	for key, noted := range m.ahead {
		if len(taken) == limit {
			break
		}
		taken[key] = noted
		if _, known := m.told[key]; !known {
			o.FirstSeen = append(o.FirstSeen, feed.Sighting{
				Terminal: key.terminal, KeySet: key.set, KeyID: key.id, Time: noted.seen.UTC().Truncate(time.Second),
			})
		}
		if noted.high > m.told[key] {
			o.High = append(o.High, feed.HighMark{Terminal: key.terminal, KeySet: key.set, KeyID: key.id, Ordinal: noted.high})
		}
	}
	return o, taken
}

// done notes that the authority knows what was taken. What has been noted since still waits.
func (m *marks) done(taken map[markKey]mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, noted := range taken {
		m.told[key] = max(m.told[key], noted.high)
		if m.ahead[key].high <= noted.high {
			delete(m.ahead, key)
		}
	}
}
