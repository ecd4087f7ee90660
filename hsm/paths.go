package hsm

import (
	"container/list"
	"context"
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

	turn     turn     // of one caller at a time
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
// a time; the others wait, no longer than ctx says.
func (p *paths) walk(ctx context.Context, s shape, e *entry, ksn dukpt.KSN, f func(key object) error) error {
	way, err := p.take(ctx, pathID{e.info.ID, ksn.KeyID()})
	if err != nil {
		return err
	}
	before := len(way.keys)
	err = way.seek(ctx, p, s, e, ksn)
	if err == nil {
		err = f(way.keys[len(way.keys)-1])
	}
	grown := len(way.keys) - before
	way.turn.give()
	if again := p.settle(ctx, grown); err == nil {
		err = again
	}
	return err
}

// take returns the path of a terminal, for the caller alone.
func (p *paths) take(ctx context.Context, id pathID) (*path, error) {
	for {
		p.mu.Lock()
		way := p.byKey[id]
		if way == nil {
			owners := p.connection.owners
			way = &path{id: id, owner: owners[maphash.Comparable(p.seed, id)%uint64(len(owners))], turn: newTurn()}
			way.element = p.recent.PushFront(way)
			p.byKey[id] = way
		} else {
			p.recent.MoveToFront(way.element)
		}
		p.mu.Unlock()
		if err := way.turn.take(ctx); err != nil {
			return nil, err
		}
		if !way.gone {
			return way, nil
		}
		way.turn.give()
	}
}

// settle counts how a path has grown, and drops paths that were not used for long until there is room. Those that are in use
// now, whoever has them settles afterwards. It fails when the token keeps a key that it should drop.
func (p *paths) settle(ctx context.Context, grown int) error {
	p.mu.Lock()
	p.objects += grown
	p.mu.Unlock()
	for {
		old := p.over()
		if old == nil {
			return nil
		}
		err := p.drop(ctx, old)
		old.turn.give()
		if err != nil {
			return err
		}
	}
}

// over returns the path that was not used for longest, for the caller alone, when there are too many keys; nil if not.
func (p *paths) over() *path {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.objects <= p.most {
		return nil
	}
	for e := p.recent.Back(); e != nil; e = e.Prev() {
		if old := e.Value.(*path); old.turn.try() { // nothing else is in the list
			return old
		}
	}
	return nil
}

// drop takes a path out of the cache and its keys out of the token. The caller has it.
func (p *paths) drop(ctx context.Context, old *path) error {
	if err := old.owner.turn.take(ctx); err != nil {
		return err // it stays what it is
	}
	defer old.owner.turn.give()
	p.mu.Lock()
	p.recent.Remove(old.element)
	delete(p.byKey, old.id)
	p.objects -= len(old.keys)
	p.mu.Unlock()
	old.gone = true
	p.counts.evictions.Add(1)
	return old.cut(p, 0)
}

// seek leaves the path at a transaction. The caller has it.
func (w *path) seek(ctx context.Context, p *paths, s shape, e *entry, ksn dukpt.KSN) error {
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
	if shared == len(w.counters) && shared == len(steps) {
		return nil // it is there already
	}
	if err := w.owner.turn.take(ctx); err != nil {
		return err
	}
	defer w.owner.turn.give()
	if err := w.cut(p, shared); err != nil {
		return err
	}
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

// cut drops the keys from a place on. The caller has the path and its owner.
func (w *path) cut(p *paths, from int) error {
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
