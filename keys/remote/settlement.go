package remote

import (
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// Settlement tells the key-distribution host what became of a key that it delivered.
type Settlement struct {
	Tenant   keyset.TenantID
	Terminal keyset.TerminalID
	Slot     uint8
	KeySet   keyset.ID
	KeyID    dukpt.KeyID
	State    keyset.SlotState // SlotActive: the terminal has proved that it has the key. SlotRetired: it is not used any more
}

type wireSettlement struct {
	Version  uint   `cbor:"v"`
	Tenant   string `cbor:"tenant"`
	Terminal string `cbor:"terminal"`
	Slot     uint8  `cbor:"slot"`
	KeySet   string `cbor:"key-set"`
	KeyID    []byte `cbor:"key-id"`
	State    string `cbor:"state"`
}

// Marshal returns the one encoding of a valid settlement. The error wraps ErrFormat.
func (s *Settlement) Marshal() ([]byte, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	return form.Marshal(&wireSettlement{
		FormatVersion, string(s.Tenant), string(s.Terminal), s.Slot, string(s.KeySet), bytesOf(s.KeyID), s.State.String(),
	})
}

// ParseSettlement reads what Marshal gives, and nothing else. The error wraps ErrFormat.
func ParseSettlement(b []byte) (*Settlement, error) {
	var w wireSettlement
	if err := form.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	s := &Settlement{
		Tenant: keyset.TenantID(w.Tenant), Terminal: keyset.TerminalID(w.Terminal), Slot: w.Slot, KeySet: keyset.ID(w.KeySet),
	}
	r := reader{form.Reader()}
	r.Version(w.Version, FormatVersion)
	r.Binary(&s.KeyID, w.KeyID)
	r.Text(&s.State, w.State)
	if r.Err != nil {
		return nil, r.Err
	}
	return canon.Spelled(form, s, b)
}

func (s *Settlement) validate() error {
	if err := checkNames(s.Tenant, s.Terminal); err != nil {
		return err
	}
	if err := checkSlot(s.Slot, s.KeySet); err != nil {
		return err
	}
	if s.KeyID.IsZero() {
		return malformed("no key id")
	}
	if s.State != keyset.SlotActive && s.State != keyset.SlotRetired {
		return malformed("state %v, want active or retired", s.State)
	}
	return nil
}
