package dukpt

import (
	"errors"
	"fmt"
	"sync"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
)

// ErrWiped says that a key was wiped before the call, or during it.
var ErrWiped = errors.New("dukpt: the key is wiped")

// BaseKey is a base derivation key (BDK): the host's one key for all terminals of a family, made ready once for all of them.
// It is safe for concurrent use, Wipe included. Terminals never hold it.
type BaseKey struct {
	family family
	mu     sync.RWMutex // guards against a Wipe while the key is read
	ready  **prepared   // nil after Wipe; behind two pointers against fmt
}

// NewBaseKey takes a key of usage B0, double-length TDES or AES. It copies the key; the caller still wipes its own. It fails
// with [ErrUnsupported] for another usage or algorithm, and for TDES where Go's FIPS mode forbids it, and with [keys.ErrWeak]
// for a key that [keys.ImportKey] would not take: every terminal of a family hangs on this one.
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
	if err := k.CheckWeak(); err != nil {
		return nil, fmt.Errorf("dukpt: base key: %w", err)
	}
	var ready *prepared
	secret.Do(func() { ready = f.prepare(k.Material().Expose()) })
	return &BaseKey{family: f, ready: &ready}, nil
}

// Scheme returns the scheme of the terminals under this key.
func (b *BaseKey) Scheme() Scheme { return b.family.scheme }

// Derive computes the initial key of one terminal. It fails with [ErrKSN] when id belongs to the other scheme. The caller
// wipes the result, or gives it to [NewTerminal], which does.
func (b *BaseKey) Derive(id KeyID) (*InitialKey, error) {
	room := secret.New(b.family.size + aesScratch)
	defer room.Wipe()
	root, scratch := room.Expose()[:b.family.size], room.Expose()[b.family.size:]
	if err := b.descend(root, scratch, &id, 0); err != nil {
		return nil, err
	}
	k, err := keys.NewKey(keys.Attributes{
		Algorithm:     b.family.algorithm(),
		Usage:         keys.UsageInitialKey,
		Mode:          keys.ModeDerive,
		Exportability: keys.Exportable,
	}, root)
	if err != nil {
		return nil, err
	}
	return &InitialKey{id: id, family: b.family, key: k}, nil
}

// Begin derives the key of one transaction. It fails with [ErrKSN] when ksn is the zero value or belongs to the other
// scheme. End the result.
func (b *BaseKey) Begin(ksn KSN) (*HostTransaction, error) {
	tx := NewHostTransaction()
	if err := b.Bind(tx, ksn); err != nil {
		return nil, err
	}
	return tx, nil
}

// Bind is [BaseKey.Begin] for a transaction that has ended, or is new, and is bound to another key: so one transaction does
// for many, and nothing is allocated under TDES, and under AES one cipher for each step. It fails as Begin does, and panics
// when tx has not ended.
func (b *BaseKey) Bind(tx *HostTransaction, ksn KSN) error {
	tx.s.free("Bind")
	if err := b.descend(tx.s.cell.Expose()[:b.family.size], tx.s.scratch(), &ksn.id, ksn.counter); err != nil {
		return err
	}
	tx.s.bind(b.family, ksn)
	return nil
}

// Wipe zeroes the key. Later calls fail. It is idempotent.
func (b *BaseKey) Wipe() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ready != nil {
		(*b.ready).wipe()
		b.ready = nil
	}
}

// descend computes the key of a counter under id; that of counter 0 is the initial key.
func (b *BaseKey) descend(dst, scratch []byte, id *KeyID, counter uint32) error {
	return b.use(id, func(base *prepared) {
		b.family.initial(dst, base, scratch, id)
		b.family.descend(dst, dst, scratch, id, 0, counter)
	})
}

// use calls f with the base key, for a terminal of its scheme. It fails as family.check does.
func (b *BaseKey) use(id *KeyID, f func(*prepared)) error {
	if id.scheme != b.family.scheme {
		return fmt.Errorf("%w: %v is not of the scheme %v", ErrKSN, *id, b.family.scheme)
	}
	if err := b.family.check(); err != nil {
		return err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.ready == nil {
		return ErrWiped
	}
	secret.Do(func() { f(*b.ready) })
	return nil
}

// checkPurpose refuses a key that was made for something else. The usage fixes the mode: keys has no other for these.
func checkPurpose(a keys.Attributes, want keys.Usage) error {
	if a.Usage != want {
		return fmt.Errorf("%w: a key of usage %v where %v belongs", ErrUnsupported, a.Usage, want)
	}
	return nil
}
