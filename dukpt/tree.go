package dukpt

import (
	"crypto/cipher"
	"fmt"
	"math/bits"
	"sync"

	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
)

// family is one kind of derivation tree. Each counter is a node; its parent is the counter without its lowest one bit; the
// root, counter 0, is the initial key. Keys go down the tree only.
type family struct {
	scheme Scheme
	size   int        // bytes of a key
	key    WorkingKey // AES: the type of the keys in the tree
}

// familyOf returns the tree under a base or initial key of this algorithm, if this process may compute it.
func familyOf(a keys.Algorithm) (family, error) {
	if a == keys.TDES2 {
		f := family{scheme: TDES, size: a.KeyBytes()}
		return f, f.check()
	}
	if w := WorkingKeyOf(a); w != 0 {
		return family{scheme: AES, size: a.KeyBytes(), key: w}, nil
	}
	return family{}, fmt.Errorf("%w: DUKPT under a key of %v", ErrUnsupported, a)
}

// check refuses a tree of TDES where Go's FIPS mode forbids it, which may change from call to call: see fips140.WithoutEnforcement.
func (f family) check() error {
	if f.scheme == TDES {
		return checkDES()
	}
	return nil
}

// checkDES refuses TDES where Go's FIPS mode forbids it, with ErrUnsupported that is [keys.ErrForbidden] too.
func checkDES() error {
	if err := des.Available(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return nil
}

// algorithm returns the algorithm of the keys in the tree.
func (f family) algorithm() keys.Algorithm {
	switch f.key {
	case KeyAES128:
		return keys.AES128
	case KeyAES192:
		return keys.AES192
	case KeyAES256:
		return keys.AES256
	}
	return keys.TDES2
}

// prepared is a base key made ready for many terminals: one of the two.
type prepared struct {
	tdes *tdesBase
	aes  cipher.Block
}

func (f family) prepare(base []byte) *prepared {
	if f.scheme == TDES {
		return &prepared{tdes: newTDESBase((*tdesKey)(base))}
	}
	return &prepared{aes: newAES(base)}
}

func (p *prepared) wipe() {
	if p.tdes != nil {
		p.tdes.wipe()
	}
	secret.WipeCipher(p.aes)
}

// initial computes the root of the tree of id from the base key. scratch is as for aesDerive, here and below.
func (f family) initial(dst []byte, base *prepared, scratch []byte, id *KeyID) {
	if f.scheme == AES {
		derivationData(scratch[:16], usageInitialKey, f.key, id, 0)
		aesExpand(dst, base.aes, scratch)
		return
	}
	var g generator
	g.initial((*tdesKey)(dst), base.tdes, id)
	g.wipe()
}

// descend computes the key of counter to from the key of its ancestor from: one step for each one bit that to has more,
// the highest first. dst may be key.
func (f family) descend(dst, key, scratch []byte, id *KeyID, from, to uint32) {
	copy(dst, key)
	if f.scheme == AES {
		aesDescend(dst, scratch, f.key, id, from, to)
		return
	}
	if from == to {
		return
	}
	var g generator
	for from != to {
		from = below(from, to)
		g.step((*tdesKey)(dst), (*tdesKey)(dst), id, from)
	}
	g.wipe()
}

// below returns the child of the node from on the way to its descendant to: with the highest one bit that it lacks.
func below(from, to uint32) uint32 {
	return from | 1<<(31-bits.LeadingZeros32(to&^from))
}

// leadsTo reports whether a node, which is not the root, is counter or one of its ancestors.
func leadsTo(node, counter uint32) bool {
	low := bits.TrailingZeros32(node)
	return node>>low == counter>>low
}

// fewChildren is up to how many keys one after the other take less time than all lanes.
const fewChildren = 3

// multipliers are wiped, and not on a stack: one that grows or shrinks leaves the old one behind as it was, and here is a key in
// every lane.
var multipliers = sync.Pool{New: func() any { return new(multiplier) }}

// children computes the keys of all nodes that have one of the lowest bits more than counter, for as many bits as there are
// places in dst, the lowest first. key may not be in dst.
func (f family) children(dst, key, scratch []byte, id *KeyID, counter uint32) {
	switch {
	case f.scheme == AES:
		for i := range len(dst) / f.size {
			aesDerive(dst[i*f.size:][:f.size], key, scratch, usageDerivation, f.key, id, counter|1<<i)
		}
	case len(dst) == 0:
	case len(dst) <= fewChildren*f.size:
		var g generator
		g.children(dst, (*tdesKey)(key), id, counter)
		g.wipe()
	default:
		m := multipliers.Get().(*multiplier)
		m.children(dst, (*tdesKey)(key), id, counter)
		m.wipe()
		multipliers.Put(m)
	}
}
