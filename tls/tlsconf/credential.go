package tlsconf

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/latchkey-pos/latchkey/tls/identity"
)

// Credential is the certificate and private key that one end shows, replaceable while connections are made. It is safe
// for concurrent use. It prints the public identity only.
type Credential struct {
	current atomic.Pointer[held]
}

type held struct {
	cert tls.Certificate
	id   identity.Identity
}

// NewCredential checks that the key belongs to the first certificate and that this one carries an identity.
func NewCredential(cert tls.Certificate) (*Credential, error) {
	h, err := hold(cert)
	if err != nil {
		return nil, err
	}
	c := new(Credential)
	c.current.Store(h)
	return c, nil
}

// Set replaces the certificate; handshakes that begin afterwards show the new one. The identity may not change: a
// connection keeps being judged by it. On error the old certificate stays.
func (c *Credential) Set(cert tls.Certificate) error {
	h, err := hold(cert)
	if err != nil {
		return err
	}
	if old := c.Identity(); h.id != old {
		return fmt.Errorf("tlsconf: the new certificate is for %v, not %v", h.id, old)
	}
	c.current.Store(h)
	return nil
}

// Identity returns the identity that the certificate carries.
func (c *Credential) Identity() identity.Identity { return c.current.Load().id }

// Serial returns the serial number of the current certificate, spelled as by identity.Serial.
func (c *Credential) Serial() string { return identity.Serial(c.current.Load().cert.Leaf) }

// Leaf returns the current certificate; it is shared and not to be changed.
func (c *Credential) Leaf() *x509.Certificate { return c.current.Load().cert.Leaf }

// Format prints the identity, whatever the verb.
func (c *Credential) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, c.text()) }

// LogValue logs the identity.
func (c *Credential) LogValue() slog.Value { return slog.StringValue(c.text()) }

// MarshalText gives the identity, for encoders that would otherwise look inside.
func (c *Credential) MarshalText() ([]byte, error) { return []byte(c.text()), nil }

func (c *Credential) text() string {
	if c == nil || c.current.Load() == nil {
		return "tlsconf.Credential(none)"
	}
	return "tlsconf.Credential(" + c.Identity().String() + ")"
}

func (c *Credential) forServer(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return &c.current.Load().cert, nil
}

func (c *Credential) forClient(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return &c.current.Load().cert, nil
}

func (c *Credential) valid() bool { return c != nil && c.current.Load() != nil }

func hold(cert tls.Certificate) (*held, error) {
	if len(cert.Certificate) == 0 {
		return nil, errors.New("tlsconf: a credential without a certificate")
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("tlsconf: %w", err)
	}
	id, err := identity.FromCertificate(leaf)
	if err != nil {
		return nil, err
	}
	if err := matches(leaf, cert.PrivateKey); err != nil {
		return nil, err
	}
	cert.Leaf = leaf
	return &held{cert: cert, id: id}, nil
}

// matches reports whether the private key is that of the certificate.
func matches(leaf *x509.Certificate, key crypto.PrivateKey) error {
	signer, ok := key.(crypto.Signer)
	if !ok {
		return errors.New("tlsconf: a credential without a private key that signs")
	}
	pub, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(leaf.PublicKey) {
		return errors.New("tlsconf: the private key is not that of the certificate")
	}
	return nil
}
