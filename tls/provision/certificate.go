package provision

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"time"

	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

const maxChain = 8

// Certificate is one that was issued to a terminal, for its TLS key (role terminal) or its agreement key (role
// agreement). It is plain data; Marshal and UnmarshalCertificate give its stored form.
type Certificate struct {
	Role      identity.Role
	Serial    string
	Terminal  keyset.TerminalID
	Chain     [][]byte // DER, the leaf first, no root
	KeyHash   KeyHash
	Renewal   bool // asked for with the certificate before it, not with a code
	Issued    time.Time
	NotBefore time.Time
	NotAfter  time.Time
	Revoked   time.Time // when it was decided; zero for never
	Reason    int       // of the revocation, RFC 5280, 5.3.1
}

// Issuance is what a list says of a certificate that was issued to a terminal.
type Issuance struct {
	Role     identity.Role
	Serial   string
	Terminal keyset.TerminalID
	Issued   time.Time
	NotAfter time.Time
	Revoked  time.Time // when it was decided; zero for never
	State    CertificateState
}

// CertificateState says what a certificate is worth to its terminal.
type CertificateState string

// The states of a certificate.
const (
	CertificateCurrent  CertificateState = "current"  // the terminal connects with it, or gets keys under it
	CertificatePrevious CertificateState = "previous" // the one before the last renewal
	CertificateReplaced CertificateState = "replaced" // older than that
	CertificateRevoked  CertificateState = "revoked"
)

// Issuance returns what a list says of the certificate, but for its state.
func (c *Certificate) Issuance() Issuance {
	return Issuance{Role: c.Role, Serial: c.Serial, Terminal: c.Terminal, Issued: c.Issued, NotAfter: c.NotAfter, Revoked: c.Revoked}
}

// Reasons of RFC 5280, 5.3.1, that certificates are revoked for here.
const (
	reasonKeyCompromise = 1
	reasonSuperseded    = 4
	reasonCessation     = 5
	reasonWithdrawn     = 9
)

// parse returns the certificates of the chain.
func (c *Certificate) parse() ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, der := range c.Chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, malformed("certificate %s: %v", c.Serial, err)
		}
		out = append(out, cert)
	}
	return out, nil
}

// newCertificate makes the row of a chain that was issued at now.
func newCertificate(id keyset.TerminalID, role identity.Role, chain []*x509.Certificate, now time.Time) *Certificate {
	leaf := chain[0]
	c := &Certificate{
		Role: role, Serial: identity.Serial(leaf), Terminal: id, KeyHash: hashKey(leaf.PublicKey), Issued: now,
		NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(),
	}
	for _, cert := range chain {
		c.Chain = append(c.Chain, cert.Raw)
	}
	return c
}

// hashKey returns the hash of a public key, zero for what is none.
func hashKey(pub crypto.PublicKey) KeyHash {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return KeyHash{}
	}
	return sha256.Sum256(spki)
}

func (c *Certificate) check() error {
	if err := checkTerminalID(c.Terminal); err != nil {
		return err
	}
	if c.Role != identity.Terminal && c.Role != identity.Agreement {
		return malformed("certificate of role %q", string(c.Role))
	}
	if !isSerial(c.Serial) || len(c.Chain) < 1 || len(c.Chain) > maxChain || c.KeyHash == (KeyHash{}) {
		return malformed("certificate without serial number, chain or key")
	}
	return checkTimes(c.Issued, c.NotBefore, c.NotAfter, c.Revoked)
}

// wireCertificate is the stored form of a certificate.
type wireCertificate struct {
	Version   uint     `cbor:"v"`
	Role      string   `cbor:"role"`
	Serial    string   `cbor:"serial"`
	Terminal  string   `cbor:"terminal"`
	Chain     [][]byte `cbor:"chain"`
	KeyHash   []byte   `cbor:"key-hash"`
	Renewal   bool     `cbor:"renewal,omitempty"`
	Issued    int64    `cbor:"issued,omitempty"`
	NotBefore int64    `cbor:"not-before,omitempty"`
	NotAfter  int64    `cbor:"not-after,omitempty"`
	Revoked   int64    `cbor:"revoked,omitempty"`
	Reason    int      `cbor:"reason,omitempty"`
}

// Marshal returns the stored form of a certificate that breaks no rule. The error wraps ErrFormat.
func (c *Certificate) Marshal() ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	return form.Marshal(&wireCertificate{
		formatVersion, string(c.Role), c.Serial, string(c.Terminal), c.Chain, c.KeyHash[:], c.Renewal, seconds(c.Issued),
		seconds(c.NotBefore), seconds(c.NotAfter), seconds(c.Revoked), c.Reason,
	})
}

// UnmarshalCertificate reads what Marshal gives, and nothing else. It does not look into the chain. The error wraps
// ErrFormat.
func UnmarshalCertificate(b []byte) (*Certificate, error) {
	var w wireCertificate
	if err := form.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	c := &Certificate{
		Role: identity.Role(w.Role), Serial: w.Serial, Terminal: keyset.TerminalID(w.Terminal), Chain: w.Chain,
		Renewal: w.Renewal, Issued: fromSeconds(w.Issued), NotBefore: fromSeconds(w.NotBefore),
		NotAfter: fromSeconds(w.NotAfter), Revoked: fromSeconds(w.Revoked), Reason: w.Reason,
	}
	r := reader{form.Reader()}
	r.Version(w.Version, formatVersion)
	r.hash((*[32]byte)(&c.KeyHash), w.KeyHash)
	if r.Err != nil {
		return nil, r.Err
	}
	return canon.Spelled(form, c, b)
}
