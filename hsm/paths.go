package hsm

import (
	"container/list"
	"fmt"
	"hash/maphash"
	"sync"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// paths keeps, for the terminals that were here last, the keys from the initial key down to the last transaction, as objects in
// the token. The next transaction of a terminal is one derivation from there. They belong to sessions of the connection, and
// end with it. It is safe for concurrent use.
type paths struct {
	connection *connection
	most       int // keys kept at once, about: a path that grows is counted when it has grown
	counts     *counts
	seed       maphash.Seed

	mu      sync.Mutex
	byKey   map[pathID]*path
	recent  *list.List // of *path, the one used last in front
	objects int
}

type pathID struct {
	base keyset.KeyRef // an id
	key  dukpt.KeyID
}

// path is the way to one transaction of a terminal.
type path struct {
	id      pathID
	owner   *owner
	element *list.Element

	mu       sync.Mutex
	gone     bool     // dropped from the cache: take it again
	counters []uint32 // of the keys; the first is 0, the initial key
	keys     []object
}

func newPaths(c *connection, most int, n *counts) *paths {
	return &paths{connection: c, most: most, counts: n, seed: maphash.MakeSeed(), byKey: map[pathID]*path{}, recent: list.New()}
}

// size returns the number of keys in the cache.
func (p *paths) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.objects
}

// walk calls f with the key of a transaction, which stays what it is until f returns. One terminal is walked by one caller at
// a time.
func (p *paths) walk(s shape, e *entry, ksn dukpt.KSN, f func(key object) error) error {
	way := p.take(pathID{e.info.ID, ksn.KeyID()})
	before := len(way.keys)
	err := way.seek(p, s, e, ksn)
	if err == nil {
		err = f(way.keys[len(way.keys)-1])
	}
	grown := len(way.keys) - before
	way.mu.Unlock()
	if again := p.settle(way, grown); err == nil {
		err = again
	}
	return err
}

// take returns the path of a terminal, locked.
func (p *paths) take(id pathID) *path {
	for {
		p.mu.Lock()
		way := p.byKey[id]
		if way == nil {
			owners := p.connection.owners
			way = &path{id: id, owner: owners[maphash.Comparable(p.seed, id)%uint64(len(owners))]}
			way.element = p.recent.PushFront(way)
			p.byKey[id] = way
		} else {
			p.recent.MoveToFront(way.element)
		}
		p.mu.Unlock()
		way.mu.Lock()
		if !way.gone {
			return way
		}
		way.mu.Unlock()
	}
}

// settle counts how a path has grown, and drops paths that were not used for long until there is room. It fails when the
// token keeps a key that it should drop.
func (p *paths) settle(way *path, grown int) error {
	var over []*path
	p.mu.Lock()
	p.objects += grown
	for p.objects > p.most && p.recent.Len() > 0 {
		last := p.recent.Back().Value.(*path)
		p.recent.Remove(last.element)
		delete(p.byKey, last.id)
		over = append(over, last)
		p.mu.Unlock()
		last.mu.Lock() // its user may still be adding to it, and settles afterwards
		last.gone = true
		held := len(last.keys)
		last.mu.Unlock()
		p.mu.Lock()
		p.objects -= held
	}
	p.mu.Unlock()
	for _, old := range over {
		p.counts.evictions.Add(1)
		old.mu.Lock()
		err := old.cut(p, 0)
		old.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// seek leaves the path at a transaction. It is locked.
func (w *path) seek(p *paths, s shape, e *entry, ksn dukpt.KSN) error {
	first, err := ksn.KeyID().InitialDerivation(e.parent)
	if err != nil {
		return err
	}
	counters, steps, err := ksn.Derivations(e.parent)
	if err != nil {
		return err
	}
	counters, steps = append([]uint32{0}, counters...), append([]dukpt.Derivation{first}, steps...)
	shared := 0
	for shared < len(w.counters) && shared < len(counters) && w.counters[shared] == counters[shared] {
		shared++
	}
	if err := w.cut(p, shared); err != nil {
		return err
	}
	w.owner.mu.Lock()
	defer w.owner.mu.Unlock()
	for i := shared; i < len(steps); i++ {
		parent := e.base
		if i > 0 {
			parent = w.keys[i-1]
		}
		p.counts.derivations.Add(1)
		key, err := s.derive(p.connection.device, w.owner.session, parent, steps[i], useDerive)
		if err != nil {
			return ofOwner(err)
		}
		w.counters, w.keys = append(w.counters, counters[i]), append(w.keys, key)
	}
	return nil
}

// cut drops the keys from a place on. It is locked.
func (w *path) cut(p *paths, from int) error {
	if from >= len(w.keys) {
		return nil
	}
	w.owner.mu.Lock()
	defer w.owner.mu.Unlock()
	for i := len(w.keys) - 1; i >= from; i-- {
		key := w.keys[i]
		w.counters, w.keys = w.counters[:i], w.keys[:i]
		if err := p.connection.device.destroyObject(w.owner.session, key); err != nil {
			return fmt.Errorf("%w: a derived key stays in the token: %w", rvUserNotIn, err) // its session has to end
		}
	}
	return nil
}

// ofOwner says what an error in a session that owns keys means: when the session is spoilt, all its keys are gone.
func ofOwner(err error) error {
	if classify(err) == classSession {
		return rvUserNotIn
	}
	return err
}
