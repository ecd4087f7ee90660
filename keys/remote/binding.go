package remote

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// ExporterLabel is the label of the value that ties a delivery to a TLS connection (RFC 9266): both ends ask crypto/tls for
// NonceSize bytes under it, with an empty context. It stands for this very connection, not only for who is at its ends.
const ExporterLabel = "EXPORTER-Channel-Binding"

// Exporter returns that value of a connection. It exists when the handshake is over, and is unique to the connection in
// TLS 1.3: without either it is an error, as for a nil cs.
func Exporter(cs *tls.ConnectionState) (value [NonceSize]byte, err error) {
	if cs == nil || !cs.HandshakeComplete || cs.Version < tls.VersionTLS13 {
		return value, errors.New("remote: no finished TLS 1.3 connection")
	}
	b, err := cs.ExportKeyingMaterial(ExporterLabel, nil, NonceSize)
	if err != nil {
		return value, fmt.Errorf("remote: %w", err)
	}
	return [NonceSize]byte(b), nil
}

// Binding is what both ends know of the session without the other telling them.
type Binding struct {
	Tenant    keyset.TenantID
	Terminal  keyset.TerminalID
	Slot      uint8
	TLS       *x509.Certificate // the certificate of the terminal on this connection
	Agreement *x509.Certificate // of the terminal's agreement key
	Nonce     [NonceSize]byte   // of the request
	Exporter  [NonceSize]byte   // of the connection, see ExporterLabel
}

// validate reports what is missing, or belongs to somebody else. It verifies no chain.
func (b *Binding) validate() error {
	if err := checkNames(b.Tenant, b.Terminal); err != nil {
		return err
	}
	if err := checkSlotNumber(b.Slot); err != nil {
		return err
	}
	if err := checkDrawn("nonce", b.Nonce); err != nil {
		return err
	}
	if err := checkDrawn("exporter", b.Exporter); err != nil {
		return err
	}
	if err := b.checkHolder(b.TLS, identity.Terminal); err != nil {
		return fmt.Errorf("TLS certificate: %w", err)
	}
	if err := b.checkHolder(b.Agreement, identity.Agreement); err != nil {
		return fmt.Errorf("agreement certificate: %w", err)
	}
	if string(b.TLS.RawSubjectPublicKeyInfo) == string(b.Agreement.RawSubjectPublicKeyInfo) {
		return errors.New("one key for TLS and for key agreement")
	}
	return nil
}

func (b *Binding) checkHolder(c *x509.Certificate, role identity.Role) error {
	id, err := identity.FromCertificate(c)
	if err != nil {
		return err
	}
	if want := (identity.Identity{Tenant: string(b.Tenant), Role: role, Name: string(b.Terminal)}); id != want {
		return fmt.Errorf("of %v, want %v", id, want)
	}
	return nil
}

// agreementKey returns the terminal's public agreement key, which must be on the curve of the suite.
func (b *Binding) agreementKey(s Suite) (*ecdh.PublicKey, error) {
	if b.Agreement.KeyUsage != x509.KeyUsageKeyAgreement {
		return nil, errors.New("the agreement certificate is not for key agreement alone")
	}
	pub, ok := b.Agreement.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("the agreement key is no elliptic curve key")
	}
	key, err := pub.ECDH()
	if err != nil || key.Curve() != s.Curve() {
		return nil, fmt.Errorf("the agreement key is not on %v, the curve of the key set", s)
	}
	return key, nil
}
