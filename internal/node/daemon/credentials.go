package daemon

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// PrivateKey is where a member of a configuration says that a private key is.
type PrivateKey struct {
	File       string        // sealed under the passphrase
	Passphrase secret.Bytes  // the caller's
	Held       crypto.Signer // not nil: the key itself, which is in a token and in no file
}

// credential opens a certificate with its private key, which is held to it.
func (k PrivateKey) credential(certificate string) (tls.Certificate, error) {
	if k.Held != nil {
		return deploy.CredentialOf(certificate, k.Held)
	}
	return deploy.Credential(certificate, k.File, k.Passphrase)
}

// OpenCredential opens what a listener or a client shows, which has to be for a role of a tenant. Errors name the member
// certificate.
func OpenCredential(certificate string, key PrivateKey, tenant string, role identity.Role) (*tlsconf.Credential, error) {
	cert, err := key.credential(certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	credential, err := tlsconf.NewCredential(cert)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if id := credential.Identity(); id.Role != role || id.Tenant != tenant {
		return nil, fmt.Errorf("certificate: it is for %v, want role %s of tenant %s", id, role, tenant)
	}
	return credential, nil
}

// OpenSigner opens what signs documents, with its certificates, leaf first. Errors name the member signer-certificate.
func OpenSigner(certificate string, key PrivateKey) (crypto.Signer, []*x509.Certificate, error) {
	cert, err := key.credential(certificate)
	if err != nil {
		return nil, nil, fmt.Errorf("signer-certificate: %w", err)
	}
	var chain []*x509.Certificate
	for _, der := range cert.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, fmt.Errorf("signer-certificate: %w", err)
		}
		chain = append(chain, c)
	}
	return cert.PrivateKey.(crypto.Signer), chain, nil // both ways to open one give it
}
