package deploy

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// ErrRequest says that a certificate signing request is none, is not signed by its own key, or has a key that is not certified.
var ErrRequest = errors.New("deploy: certificate signing request refused")

// maxRequest bounds a certificate signing request in bytes.
const maxRequest = 64 << 10

// CertifyHost has the key of a certificate signing request in PEM certified for an acquirer host of the tenant. Nothing but the key
// is taken from the request. The chain is written to a new file at path. It returns the certificate. Errors wrap ErrRequest,
// fs.ErrExist or embedded.ErrNoKey.
func (d *Deployment) CertifyHost(ctx context.Context, name string, request []byte, path string) (*x509.Certificate, error) {
	id, err := identity.New(string(d.config.Tenant), identity.AcquirerHost, name)
	if err != nil {
		return nil, err
	}
	csr, err := parseRequest(request)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrRequest, err)
	}
	req := ca.Request{PublicKey: csr.PublicKey, Identity: id}
	if err := req.Validate(identity.ServicesCA); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrRequest, err)
	}
	issuer, err := d.Issuer(identity.ServicesCA)
	if err != nil {
		return nil, err
	}
	var chain []*x509.Certificate
	err = underLock(d.dir, func() error {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("deploy: %s is there already: %w", path, fs.ErrExist)
		}
		if chain, err = issuer.Issue(ctx, req); err != nil {
			return err
		}
		return seal.WriteFile(path, encodeCertificates(chain...), 0o644)
	})
	if err != nil {
		return nil, err
	}
	return chain[0], nil
}

// parseRequest reads one request that its own key has signed.
func parseRequest(text []byte) (*x509.CertificateRequest, error) {
	if len(text) > maxRequest {
		return nil, fmt.Errorf("%d bytes, want at most %d", len(text), maxRequest)
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" {
		return nil, errors.New("no PEM of a certificate request")
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, errors.New("more than one PEM block")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	return csr, csr.CheckSignature()
}
