package dukpt

import (
	"fmt"
	"math/bits"

	"github.com/latchkey-pos/latchkey/internal/des"
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
		if err := checkDES(); err != nil {
			return family{}, err
		}
		return family{scheme: TDES, size: a.KeyBytes()}, nil
	}
	if w := workingKeyOf(a); w != 0 {
		return family{scheme: AES, size: a.KeyBytes(), key: w}, nil
	}
	return family{}, fmt.Errorf("%w: DUKPT under a key of %v", ErrUnsupported, a)
}

// checkDES refuses TDES where Go's FIPS mode forbids it.
func checkDES() error {
	if err := des.Available(); err != nil {
		return fmt.Errorf("%w: %v", ErrUnsupported, err)
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

// initial computes the root of the tree of id from the base key.
func (f family) initial(dst, base []byte, id KeyID) {
	if f.scheme == TDES {
		tdesInitial((*tdesKey)(dst), (*tdesKey)(base), id)
		return
	}
	aesDerive(dst, base, usageInitialKey, f.key, id, 0)
}

// step computes the key of counter from that of its parent. dst may be key.
func (f family) step(dst, key []byte, id KeyID, counter uint32) {
	if f.scheme == TDES {
		tdesStep((*tdesKey)(dst), (*tdesKey)(key), id, counter)
		return
	}
	aesStep(dst, key, f.key, id, counter)
}

// descend computes the key of counter to from the key of its ancestor from: one step for each one bit that to has more,
// the highest first. dst may be key.
func (f family) descend(dst, key []byte, id KeyID, from, to uint32) {
	copy(dst, key)
	for left := to &^ from; left != 0; {
		bit := uint32(1) << (31 - bits.LeadingZeros32(left))
		left &^= bit
		from |= bit
		f.step(dst, dst, id, from)
	}
}
