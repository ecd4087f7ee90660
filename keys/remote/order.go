package remote

import (
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// Order is what the registration authority asks of the key-distribution host for a terminal that has sent a Request.
type Order struct {
	Tenant         keyset.TenantID
	Terminal       keyset.TerminalID
	Slot           uint8
	KeySet         keyset.ID
	Replaces       dukpt.KeyID     // the active key of the slot; zero for none
	Beyond         dukpt.KeyID     // the highest id of the set that the registry has seen; zero for none
	TLSChain       [][]byte        // what the terminal showed in the handshake, DER, leaf first, no root
	AgreementChain [][]byte        // of the terminal's agreement key, in the same way
	Nonce          [NonceSize]byte // of the request
	Exporter       [NonceSize]byte // of the terminal's connection, see ExporterLabel
	Attestation    [][]byte        // of the request
}

type wireOrder struct {
	Version        uint     `cbor:"v"`
	Tenant         string   `cbor:"tenant"`
	Terminal       string   `cbor:"terminal"`
	Slot           uint8    `cbor:"slot"`
	KeySet         string   `cbor:"key-set"`
	Replaces       []byte   `cbor:"replaces,omitempty"`
	Beyond         []byte   `cbor:"beyond,omitempty"`
	TLSChain       [][]byte `cbor:"tls-chain"`
	AgreementChain [][]byte `cbor:"agreement-chain"`
	Nonce          []byte   `cbor:"nonce"`
	Exporter       []byte   `cbor:"exporter"`
	Attestation    [][]byte `cbor:"attestation,omitempty"`
}

// Marshal returns the one encoding of a valid order. The error wraps ErrFormat.
func (o *Order) Marshal() ([]byte, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	return form.Marshal(&wireOrder{
		FormatVersion, string(o.Tenant), string(o.Terminal), o.Slot, string(o.KeySet), bytesOf(o.Replaces), bytesOf(o.Beyond),
		o.TLSChain, o.AgreementChain, o.Nonce[:], o.Exporter[:], o.Attestation,
	})
}

// ParseOrder reads what Marshal gives, and nothing else. It verifies no certificate. The error wraps ErrFormat.
func ParseOrder(b []byte) (*Order, error) {
	var w wireOrder
	if err := form.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	o := &Order{
		Tenant: keyset.TenantID(w.Tenant), Terminal: keyset.TerminalID(w.Terminal), Slot: w.Slot, KeySet: keyset.ID(w.KeySet),
		TLSChain: w.TLSChain, AgreementChain: w.AgreementChain, Attestation: w.Attestation,
	}
	r := reader{form.Reader()}
	r.Version(w.Version, FormatVersion)
	r.Binary(&o.Replaces, w.Replaces)
	r.Binary(&o.Beyond, w.Beyond)
	r.fixed("nonce", &o.Nonce, w.Nonce)
	r.fixed("exporter", &o.Exporter, w.Exporter)
	if r.Err != nil {
		return nil, r.Err
	}
	return canon.Spelled(form, o, b)
}

func (o *Order) validate() error {
	if err := checkNames(o.Tenant, o.Terminal); err != nil {
		return err
	}
	if err := checkSlot(o.Slot, o.KeySet); err != nil {
		return err
	}
	if err := checkDrawn("nonce", o.Nonce); err != nil {
		return err
	}
	if err := checkDrawn("exporter", o.Exporter); err != nil {
		return err
	}
	if err := checkChain("TLS chain", o.TLSChain, 1); err != nil {
		return err
	}
	if err := checkChain("agreement chain", o.AgreementChain, 1); err != nil {
		return err
	}
	return checkChain("attestation", o.Attestation, 0)
}
