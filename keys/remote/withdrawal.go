package remote

import (
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// Withdrawal tells the key-distribution host that key ids of a set are never to be given out, because they are in other
// hands or were given out by other means: all of them up to one. With the last id of the set, delivery of the set ends.
type Withdrawal struct {
	Tenant  keyset.TenantID
	KeySet  keyset.ID
	Through dukpt.KeyID
}

type wireWithdrawal struct {
	Version uint   `cbor:"v"`
	Tenant  string `cbor:"tenant"`
	KeySet  string `cbor:"key-set"`
	Through []byte `cbor:"through"`
}

// Marshal returns the one encoding of a valid withdrawal. The error wraps ErrFormat.
func (w *Withdrawal) Marshal() ([]byte, error) {
	if err := w.validate(); err != nil {
		return nil, err
	}
	return form.Marshal(&wireWithdrawal{FormatVersion, string(w.Tenant), string(w.KeySet), bytesOf(w.Through)})
}

// ParseWithdrawal reads what Marshal gives, and nothing else. The error wraps ErrFormat.
func ParseWithdrawal(b []byte) (*Withdrawal, error) {
	var wire wireWithdrawal
	if err := form.Unmarshal(b, &wire); err != nil {
		return nil, err
	}
	w := &Withdrawal{Tenant: keyset.TenantID(wire.Tenant), KeySet: keyset.ID(wire.KeySet)}
	r := reader{form.Reader()}
	r.Version(wire.Version, FormatVersion)
	r.Binary(&w.Through, wire.Through)
	if r.Err != nil {
		return nil, r.Err
	}
	return canon.Spelled(form, w, b)
}

func (w *Withdrawal) validate() error {
	if err := checkNames(w.Tenant, "T"); err != nil {
		return err
	}
	if err := checkSlot(1, w.KeySet); err != nil {
		return err
	}
	if w.Through.IsZero() {
		return malformed("no key id")
	}
	return nil
}
