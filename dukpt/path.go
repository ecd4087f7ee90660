package dukpt

import (
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// Path is where a host stands in the tree of one terminal: the keys from the initial key down to the last that was asked
// for. From there the next transactions of the same terminal are near: exactly one step for the counter after it, and for a
// gap only what differs. It makes sense where many transactions of a terminal are opened one after the other.
//
// A Path holds the initial key, from which all keys of the terminal come: keep it for one piece of work, and wipe it. It is
// not safe for concurrent use.
type Path struct {
	base  *BaseKey
	id    KeyID
	depth int          // of the last key; -1 when there is none
	nodes nodes        // on the way, the first being the root
	keys  secret.Bytes // their keys, and scratch behind them
}

// maxDepth is the greatest number of one bits of a counter.
const maxDepth = 16

// nodes are the counters on a way down the tree, by depth.
type nodes [maxDepth + 1]uint32

// shared returns the depth of the last node, depth at most, from which counter comes down, or which is counter.
func (n *nodes) shared(depth int, counter uint32) int {
	for depth > 0 && !leadsTo(n[depth], counter) {
		depth--
	}
	return depth
}

// NewPath returns a path that starts at the base key.
func (b *BaseKey) NewPath() *Path {
	return &Path{base: b, depth: -1, keys: secret.New((b.family.scheme.maxOnes()+1)*b.family.size + aesScratch)}
}

// Seek is [BaseKey.Bind] from where the path stands, and leaves it at ksn. It fails and panics as Bind does.
func (p *Path) Seek(tx *HostTransaction, ksn KSN) error {
	if p.base == nil {
		panic("dukpt: Seek of a path that was not made by NewPath")
	}
	tx.s.free("Seek")
	if _, err := p.walk(ksn); err != nil {
		return err
	}
	copy(tx.s.cell.Expose(), p.key(p.depth))
	tx.s.bind(p.base.family, ksn)
	return nil
}

// walk leaves the path at ksn, and returns how many steps that took. A path that fails starts anew.
func (p *Path) walk(ksn KSN) (steps int, err error) {
	f := p.base.family
	err = p.base.use(&ksn.id, func(base *prepared) {
		if p.depth < 0 || p.id != ksn.id {
			p.forget(0)
			f.initial(p.key(0), base, p.scratch(), &ksn.id)
			p.id, p.depth = ksn.id, 0
		}
		p.forget(p.nodes.shared(p.depth, ksn.counter) + 1)
		for p.nodes[p.depth] != ksn.counter {
			from := p.nodes[p.depth]
			p.nodes[p.depth+1] = below(from, ksn.counter)
			f.descend(p.key(p.depth+1), p.key(p.depth), p.scratch(), &p.id, from, p.nodes[p.depth+1])
			p.depth++
			steps++
		}
	})
	if err != nil {
		p.Wipe()
	}
	return steps, err
}

// forget wipes the keys from a depth on.
func (p *Path) forget(from int) {
	for d := from; d <= p.depth; d++ {
		secret.Wipe(p.key(d))
	}
	p.depth = min(p.depth, from-1)
}

// Wipe zeroes all keys. The path may be used again: it starts at the base key.
func (p *Path) Wipe() {
	secret.Wipe(p.keys.Expose())
	p.depth = -1
}

func (p *Path) key(depth int) []byte {
	return p.keys.Expose()[depth*p.base.family.size:][:p.base.family.size]
}

func (p *Path) scratch() []byte {
	return p.keys.Expose()[p.keys.Len()-aesScratch:]
}
