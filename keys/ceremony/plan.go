package ceremony

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/internal/crockford"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// MaxLife is the longest that a ceremony may last, from its plan to the loading.
const MaxLife = 31 * 24 * time.Hour

// MinApprovers is how many custodians approve, in every environment.
const MinApprovers = 2

const (
	idBytes  = 16
	idDigits = 26
	maxText  = 64 // of what a token says of itself: labels have 32 bytes, serials 16
)

// Plan says what a ceremony is about. The zero value is none.
type Plan struct {
	Ceremony   string // 26 characters, which New draws
	Tenant     keyset.TenantID
	Name       keyset.KeyRef // an alias
	Attributes keys.Attributes
	// Distribution says that a base key is for a key-distribution host, for good: initial keys come out of it for terminals, and no
	// transaction is worked on. One key in the tokens of both hosts has a ceremony for each.
	Distribution bool
	Environment  keyset.Environment
	Parity       keys.Parity     // of TDES, as for keys.Combine
	KeyKCV       keys.CheckValue // that the key must have; zero when nobody knows it yet
	Token        Token
	Shares       []Share // in the order of the components
	Created      time.Time
	Expires      time.Time // nothing is sealed, approved or loaded from then on
}

// Token says which token the key comes into. Both are set.
type Token struct{ Label, Serial string }

// Share is the component of one custodian.
type Share struct {
	Custodian   string // TENANT/NAME, as a keyset.Verifier says
	Certificate []byte // DER, of role custodian, ECDSA over P-256
}

// Fingerprint returns the SHA-256 of the certificate.
func (s Share) Fingerprint() [sha256.Size]byte { return sha256.Sum256(s.Certificate) }

// Validate reports what is wrong with a plan, wrapping ErrPlan or ErrCustodian. It verifies no certificate.
func (p Plan) Validate() error {
	if err := p.check(); err != nil {
		return err
	}
	names, keysOf := []string{}, []string{}
	for i, s := range p.Shares {
		id, pub, err := readCertificate(s.Certificate)
		if err != nil {
			return fmt.Errorf("%w: component %d: %w", ErrPlan, i+1, err)
		}
		if nameOf(id) != s.Custodian || id.Tenant != string(p.Tenant) {
			return fmt.Errorf("%w: component %d: the certificate is of %v", ErrCustodian, i+1, id)
		}
		names, keysOf = append(names, s.Custodian), append(keysOf, string(pub.Bytes()))
	}
	return distinct(names, keysOf)
}

func (p Plan) check() error {
	if !isID(p.Ceremony) {
		return fmt.Errorf("%w: its id has not %d digits of Crockford's", ErrPlan, idDigits)
	}
	if !p.Name.IsAlias() {
		return fmt.Errorf("%w: key name %q is not an alias", ErrPlan, p.Name)
	}
	if err := p.Attributes.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrPlan, err)
	}
	if p.Attributes.Exportability != keys.NonExportable {
		return fmt.Errorf("%w: a key in a token cannot be exported", ErrPlan)
	}
	if p.Distribution && p.Attributes.Usage != keys.UsageBDK {
		return fmt.Errorf("%w: a key-distribution host has base keys, not usage %s", ErrPlan, p.Attributes.Usage)
	}
	if _, err := p.Environment.MarshalText(); err != nil {
		return fmt.Errorf("%w: %w", ErrPlan, err)
	}
	if _, err := keys.ParseParity(p.Parity.String()); err != nil {
		return fmt.Errorf("%w: %w", ErrPlan, err)
	}
	if !p.KeyKCV.IsZero() && !p.KeyKCV.Kind.Fits(p.Attributes.Algorithm) {
		return fmt.Errorf("%w: %v keys have no check value of kind %v", ErrPlan, p.Attributes.Algorithm, p.KeyKCV.Kind)
	}
	if !isText(p.Token.Label) || !isText(p.Token.Serial) {
		return fmt.Errorf("%w: a token has a label and a serial, of printable characters", ErrPlan)
	}
	if n := len(p.Shares); n < keys.MinComponents || n > keys.MaxComponents {
		return fmt.Errorf("%w: %d components, want %d to %d", ErrPlan, n, keys.MinComponents, keys.MaxComponents)
	}
	if !isMoment(p.Created) || !isMoment(p.Expires) || !p.Expires.After(p.Created) || p.Expires.Sub(p.Created) > MaxLife {
		return fmt.Errorf("%w: it lasts from a second to a later one, at most %v", ErrPlan, MaxLife)
	}
	return nil
}

// distinct refuses one person, or one key, in two places: they alone would be as good as two people.
func distinct(names, publicKeys []string) error {
	if planted.On(planted.CeremonySamePerson) {
		return nil
	}
	seen := map[string]bool{}
	for i, name := range names {
		if seen["name "+name] {
			return fmt.Errorf("%w: %s is there twice", ErrCustodian, name)
		}
		if seen["key "+publicKeys[i]] {
			return fmt.Errorf("%w: the key of %s is another one's too", ErrCustodian, name)
		}
		seen["name "+name], seen["key "+publicKeys[i]] = true, true
	}
	return nil
}

// readCertificate returns who the custodian is, and the public key. It verifies no signature.
func readCertificate(der []byte) (identity.Identity, *ecdh.PublicKey, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return identity.Identity{}, nil, fmt.Errorf("certificate: %w", err)
	}
	id, err := identity.FromCertificate(cert)
	if err != nil {
		return identity.Identity{}, nil, err
	}
	if id.Role != identity.Custodian {
		return identity.Identity{}, nil, fmt.Errorf("%w: %v has another role than custodian", ErrCustodian, id)
	}
	pub, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return identity.Identity{}, nil, fmt.Errorf("%w: the key of %v is not ECDSA over P-256", ErrCustodian, id)
	}
	point, err := pub.ECDH()
	if err != nil || point.Curve() != ecdh.P256() {
		return identity.Identity{}, nil, fmt.Errorf("%w: the key of %v is not ECDSA over P-256", ErrCustodian, id)
	}
	return id, point, nil
}

// nameOf is what a keyset.Verifier calls a person.
func nameOf(id identity.Identity) string { return id.Tenant + "/" + id.Name }

// newID makes an id of a ceremony. 26 digits carry 130 bits; 16 random bytes fill all but two.
func newID() string {
	random := make([]byte, idBytes+1)
	_, _ = rand.Read(random) // cannot fail
	return string(crockford.Append(nil, random, idDigits))
}

func isID(s string) bool {
	return len(s) == idDigits && strings.Trim(s, crockford.Alphabet) == ""
}

func isText(s string) bool {
	return len(s) > 0 && len(s) <= maxText && strings.IndexFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e }) < 0
}

// isMoment reports whether a time is one that a record spells: UTC, whole seconds.
func isMoment(t time.Time) bool {
	return t.Equal(moment(t)) && t.Location() == time.UTC && t.Year() >= 2000 && t.Year() < 10000
}

func moment(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// fresh refuses a time after the end.
func (p Plan) fresh(now time.Time) error {
	if !now.Before(p.Expires) {
		return fmt.Errorf("%w on %s", ErrExpired, p.Expires.Format(time.RFC3339))
	}
	return nil
}
