package keydist

import (
	"crypto/x509"
	"errors"

	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/keys/remote"
)

const (
	maxAnswer       = 64 << 10 // bytes of a body
	maxCertificates = 8
)

// ErrAnswer is wrapped by every error about an answer that is not one of a key-distribution host.
var ErrAnswer = errors.New("keydist: malformed answer")

// certificates is the answer to a CertifyOrder.
type certificates struct {
	Version      uint     `cbor:"v"`
	Certificates [][]byte `cbor:"certificates"` // DER, leaf first, no root
}

var form = canon.NewForm(ErrAnswer, maxAnswer, 16, 4)

func encodeCertificates(chain []*x509.Certificate) ([]byte, error) {
	w := certificates{Version: remote.FormatVersion}
	for _, c := range chain {
		w.Certificates = append(w.Certificates, c.Raw)
	}
	return form.Marshal(w)
}

// parseCertificates reads what encodeCertificates gives, and nothing else.
func parseCertificates(b []byte) ([]*x509.Certificate, error) {
	var w certificates
	if err := form.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	if w.Version != remote.FormatVersion {
		return nil, form.Errorf("version %d, want %d", w.Version, remote.FormatVersion)
	}
	if len(w.Certificates) > maxCertificates {
		return nil, form.Errorf("%d certificates, want at most %d", len(w.Certificates), maxCertificates)
	}
	chain, err := parseChain(w.Certificates)
	if err != nil {
		return nil, form.Errorf("%v", err)
	}
	return chain, nil
}
