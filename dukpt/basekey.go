package dukpt

import (
	"errors"
	"fmt"
	"sync"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
)

var errWiped = errors.New("dukpt: the key is wiped")

// BaseKey is a base derivation key (BDK): the host's one key for all terminals of a family. It is safe for concurrent use,
// Wipe included. Terminals never hold it.
type BaseKey struct {
	family family
	mu     sync.RWMutex // guards against a Wipe while the key is read
	key    secret.Bytes
}

// NewBaseKey takes a key of usage B0, double-length TDES or AES. It copies the key; the caller still wipes its own. It fails
// with [ErrUnsupported] for another usage or algorithm, and for TDES where Go's FIPS mode forbids it.
func NewBaseKey(k keys.Key) (*BaseKey, error) {
	if k.IsZero() {
		return nil, fmt.Errorf("%w: no base key given", ErrUnsupported)
	}
	a := k.Attributes()
	if err := checkPurpose(a, keys.UsageBDK); err != nil {
		return nil, err
	}
	f, err := familyOf(a.Algorithm)
	if err != nil {
		return nil, err
	}
	return &BaseKey{family: f, key: k.Material().Clone()}, nil
}

// Scheme returns the scheme of the terminals under this key.
func (b *BaseKey) Scheme() Scheme { return b.family.scheme }

// Derive computes the initial key of one terminal. It fails with [ErrKSN] when id belongs to the other scheme. The caller
// wipes the result, or gives it to [NewTerminal], which does.
func (b *BaseKey) Derive(id KeyID) (*InitialKey, error) {
	root := secret.New(b.family.size)
	defer root.Wipe()
	if err := b.descend(root.Expose(), id, 0); err != nil {
		return nil, err
	}
	k, err := keys.NewKey(keys.Attributes{
		Algorithm:     b.family.algorithm(),
		Usage:         keys.UsageInitialKey,
		Mode:          keys.ModeDerive,
		Exportability: keys.Exportable,
	}, root.Expose())
	if err != nil {
		return nil, err
	}
	return &InitialKey{id: id, family: b.family, key: k}, nil
}

// Begin derives the key of one transaction. It fails with [ErrKSN] when ksn is the zero value or belongs to the other
// scheme. End the result.
func (b *BaseKey) Begin(ksn KSN) (*HostTransaction, error) {
	tx := &HostTransaction{s: session{cell: secret.New(sessionSize)}}
	if err := b.descend(tx.s.cell.Expose()[:b.family.size], ksn.KeyID(), ksn.Counter()); err != nil {
		return nil, err
	}
	tx.s.bind(b.family, ksn)
	return tx, nil
}

// Wipe zeroes the key. Later calls fail. It is idempotent.
func (b *BaseKey) Wipe() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.key.Wipe()
}

// descend computes the key of a counter under id; that of counter 0 is the initial key.
func (b *BaseKey) descend(dst []byte, id KeyID, counter uint32) error {
	if id.Scheme() != b.family.scheme {
		return fmt.Errorf("%w: %v is not of the scheme %v", ErrKSN, id, b.family.scheme)
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.key.IsZero() {
		return errWiped
	}
	secret.Do(func() {
		b.family.initial(dst, b.key.Expose(), id)
		b.family.descend(dst, dst, id, 0, counter)
	})
	return nil
}

// checkPurpose refuses a key that was made for something else. The usage fixes the mode: keys has no other for these.
func checkPurpose(a keys.Attributes, want keys.Usage) error {
	if a.Usage != want {
		return fmt.Errorf("%w: a key of usage %v where %v belongs", ErrUnsupported, a.Usage, want)
	}
	return nil
}
