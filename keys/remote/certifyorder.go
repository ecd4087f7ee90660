package remote

import (
	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// CertifyOrder is how the registration authority asks the key-distribution host to certify the agreement key of a terminal.
type CertifyOrder struct {
	Tenant   keyset.TenantID
	Terminal keyset.TerminalID
	TLSChain [][]byte // what the terminal showed in the handshake, DER, leaf first, no root
	CSR      []byte   // PKCS #10 in DER, signed by the agreement key; at most 8 KiB
}

type wireCertifyOrder struct {
	Version  uint     `cbor:"v"`
	Tenant   string   `cbor:"tenant"`
	Terminal string   `cbor:"terminal"`
	TLSChain [][]byte `cbor:"tls-chain"`
	CSR      []byte   `cbor:"csr"`
}

// Marshal returns the one encoding of a valid order. The error wraps ErrFormat.
func (o *CertifyOrder) Marshal() ([]byte, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	return form.Marshal(&wireCertifyOrder{FormatVersion, string(o.Tenant), string(o.Terminal), o.TLSChain, o.CSR})
}

// ParseCertifyOrder reads what Marshal gives, and nothing else. It verifies neither the certificates nor the signing
// request, which it does not look into. The error wraps ErrFormat.
func ParseCertifyOrder(b []byte) (*CertifyOrder, error) {
	var w wireCertifyOrder
	if err := form.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	o := &CertifyOrder{
		Tenant: keyset.TenantID(w.Tenant), Terminal: keyset.TerminalID(w.Terminal), TLSChain: w.TLSChain, CSR: w.CSR,
	}
	r := reader{form.Reader()}
	r.Version(w.Version, FormatVersion)
	if r.Err != nil {
		return nil, r.Err
	}
	return canon.Spelled(form, o, b)
}

func (o *CertifyOrder) validate() error {
	if err := checkNames(o.Tenant, o.Terminal); err != nil {
		return err
	}
	if len(o.CSR) < 1 || len(o.CSR) > maxCSR {
		return malformed("signing request of %d bytes, want 1 to %d", len(o.CSR), maxCSR)
	}
	return checkChain("TLS chain", o.TLSChain, 1)
}
