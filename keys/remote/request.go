package remote

import "github.com/latchkey-pos/latchkey/internal/canon"

// Request is what a terminal asks for: an initial key for one of its slots.
type Request struct {
	Slot        uint8
	Nonce       [NonceSize]byte // random, new for each request
	Attestation [][]byte        // the maker's chain for the agreement key, DER, leaf first; nil where the key set needs none
}

type wireRequest struct {
	Version     uint     `cbor:"v"`
	Slot        uint8    `cbor:"slot"`
	Nonce       []byte   `cbor:"nonce"`
	Attestation [][]byte `cbor:"attestation,omitempty"`
}

// Marshal returns the one encoding of a valid request. The error wraps ErrFormat.
func (r *Request) Marshal() ([]byte, error) {
	if err := r.validate(); err != nil {
		return nil, err
	}
	return form.Marshal(&wireRequest{FormatVersion, r.Slot, r.Nonce[:], r.Attestation})
}

// ParseRequest reads what Marshal gives, and nothing else. It verifies no certificate. The error wraps ErrFormat.
func ParseRequest(b []byte) (*Request, error) {
	var w wireRequest
	if err := form.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	q := &Request{Slot: w.Slot, Attestation: w.Attestation}
	r := reader{form.Reader()}
	r.Version(w.Version, FormatVersion)
	r.fixed("nonce", &q.Nonce, w.Nonce)
	if r.Err != nil {
		return nil, r.Err
	}
	return canon.Spelled(form, q, b)
}

func (r *Request) validate() error {
	if err := checkSlotNumber(r.Slot); err != nil {
		return err
	}
	if err := checkDrawn("nonce", r.Nonce); err != nil {
		return err
	}
	return checkChain("attestation", r.Attestation, 0)
}
