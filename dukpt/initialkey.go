package dukpt

import (
	"fmt"

	"github.com/latchkey-pos/latchkey/keys"
)

// InitialKey is the key a terminal is loaded with: the root of all its transaction keys. It is not safe for concurrent use.
type InitialKey struct {
	id     KeyID
	family family
	key    keys.Key
}

// NewInitialKey takes a key of usage B1 and its name. It copies the key; the caller still wipes its own. It fails with
// [ErrKSN] when id belongs to another scheme than the key, and with [ErrUnsupported] for another usage or algorithm, and for
// TDES where Go's FIPS mode forbids it.
func NewInitialKey(id KeyID, k keys.Key) (*InitialKey, error) {
	if k.IsZero() {
		return nil, fmt.Errorf("%w: no initial key given", ErrUnsupported)
	}
	a := k.Attributes()
	if err := checkPurpose(a, keys.UsageInitialKey); err != nil {
		return nil, err
	}
	f, err := familyOf(a.Algorithm)
	if err != nil {
		return nil, err
	}
	if id.Scheme() != f.scheme {
		return nil, fmt.Errorf("%w: %v does not name a key of %v", ErrKSN, id, a.Algorithm)
	}
	return &InitialKey{id: id, family: f, key: k.Clone()}, nil
}

// KeyID returns the name of the key.
func (ik *InitialKey) KeyID() KeyID { return ik.id }

// Key returns a copy of the key, of usage B1, for wrapping in a key block; the caller wipes it. It is the zero
// key once ik is wiped.
func (ik *InitialKey) Key() keys.Key {
	if ik.key.IsZero() {
		return keys.Key{}
	}
	return ik.key.Clone()
}

// Wipe zeroes the key. It is idempotent.
func (ik *InitialKey) Wipe() { ik.key.Wipe() }
