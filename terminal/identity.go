package terminal

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// parsePrivateKey reads a PKCS #8 key and checks that it is that of the certificate.
func parsePrivateKey(der secret.Bytes, leaf *x509.Certificate) (crypto.Signer, error) {
	k, err := x509.ParsePKCS8PrivateKey(der.Expose())
	if err != nil {
		return nil, errors.New("private key is not PKCS #8") // the error of x509 says nothing a reader could act on
	}
	signer, ok := k.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a private key of type %T does not sign", k)
	}
	pub, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(leaf.PublicKey) {
		return nil, errors.New("the private key is not that of the certificate")
	}
	return signer, nil
}

// certificate makes what TLS shows of a chain and its private key.
func (s store) certificate(chain [][]byte, key secret.Bytes) (tls.Certificate, error) {
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return tls.Certificate{}, err
	}
	signer, err := s.keyOf(key, leaf)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: chain, PrivateKey: signer, Leaf: leaf}, nil
}

// credential makes what the terminal shows in TLS of what a file holds, and the certificate that is in it.
func (s store) credential(file string, chain [][]byte, key secret.Bytes) (*tlsconf.Credential, tls.Certificate, error) {
	cert, err := s.certificate(chain, key)
	if err != nil {
		return nil, tls.Certificate{}, fmt.Errorf("%w: %s: %v", ErrState, file, err)
	}
	c, err := tlsconf.NewCredential(cert)
	if err != nil {
		return nil, tls.Certificate{}, fmt.Errorf("%w: %s: %v", ErrState, file, err)
	}
	return c, cert, nil
}

// newRequest asks for a certificate of a key that a file holds.
func (s store) newRequest(file string, key secret.Bytes, id identity.Identity) ([]byte, error) {
	k, err := s.openKey(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %v", ErrState, file, err)
	}
	return est.NewRequest(k, id)
}

func pool(roots [][]byte) (*x509.CertPool, error) {
	p := x509.NewCertPool()
	for _, der := range roots {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		p.AddCert(root)
	}
	return p, nil
}
