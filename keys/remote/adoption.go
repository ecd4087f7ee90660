package remote

import (
	"slices"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// MaxAdopted is how many keys one adoption has, at most.
const MaxAdopted = 250

// Adoption tells the key-distribution host of keys of a set that terminals have from elsewhere: a key injection facility has
// loaded them. Their ids are never given out.
type Adoption struct {
	Tenant keyset.TenantID
	KeySet keyset.ID
	Keys   []AdoptedKey // ascending by key id, each once
}

// AdoptedKey is a key that a terminal has from elsewhere.
type AdoptedKey struct {
	Terminal keyset.TerminalID
	Slot     uint8
	KeyID    dukpt.KeyID
}

type wireAdoption struct {
	Version uint          `cbor:"v"`
	Tenant  string        `cbor:"tenant"`
	KeySet  string        `cbor:"key-set"`
	Keys    []wireAdopted `cbor:"keys"`
}

type wireAdopted struct {
	Terminal string `cbor:"terminal"`
	Slot     uint8  `cbor:"slot"`
	KeyID    []byte `cbor:"key-id"`
}

// adoptions have longer lists than other messages.
var adoptions = canon.NewForm(ErrFormat, maxMessage, MaxAdopted, 4)

// Marshal returns the one encoding of a valid adoption. The error wraps ErrFormat.
func (a *Adoption) Marshal() ([]byte, error) {
	if err := a.validate(); err != nil {
		return nil, err
	}
	w := &wireAdoption{Version: FormatVersion, Tenant: string(a.Tenant), KeySet: string(a.KeySet)}
	for _, k := range a.Keys {
		w.Keys = append(w.Keys, wireAdopted{string(k.Terminal), k.Slot, bytesOf(k.KeyID)})
	}
	return adoptions.Marshal(w)
}

// ParseAdoption reads what Marshal gives, and nothing else. The error wraps ErrFormat.
func ParseAdoption(b []byte) (*Adoption, error) {
	var w wireAdoption
	if err := adoptions.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	a := &Adoption{Tenant: keyset.TenantID(w.Tenant), KeySet: keyset.ID(w.KeySet)}
	r := reader{adoptions.Reader()}
	r.Version(w.Version, FormatVersion)
	for _, wk := range w.Keys {
		k := AdoptedKey{Terminal: keyset.TerminalID(wk.Terminal), Slot: wk.Slot}
		r.Binary(&k.KeyID, wk.KeyID)
		a.Keys = append(a.Keys, k)
	}
	if r.Err != nil {
		return nil, r.Err
	}
	return canon.Spelled(adoptions, a, b)
}

func (a *Adoption) validate() error {
	if len(a.Keys) == 0 || len(a.Keys) > MaxAdopted {
		return malformed("%d keys, want 1 to %d", len(a.Keys), MaxAdopted)
	}
	for _, k := range a.Keys {
		if err := checkNames(a.Tenant, k.Terminal); err != nil {
			return err
		}
		if err := checkSlot(k.Slot, a.KeySet); err != nil {
			return err
		}
		if k.KeyID.IsZero() {
			return malformed("no key id")
		}
	}
	if !slices.IsSortedFunc(a.Keys, func(a, b AdoptedKey) int { return a.KeyID.Compare(b.KeyID) }) || len(a.Keys) != len(a.ids()) {
		return malformed("keys are not ascending by id, each once")
	}
	return nil
}

// ids are those of the keys, once each.
func (a *Adoption) ids() map[dukpt.KeyID]bool {
	out := make(map[dukpt.KeyID]bool, len(a.Keys))
	for _, k := range a.Keys {
		out[k.KeyID] = true
	}
	return out
}
