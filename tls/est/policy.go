package est

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"

	"github.com/latchkey-pos/latchkey/tls/identity"
)

// Policy says what a request may ask for.
type Policy struct {
	Identity identity.Identity // whom the certificate will be for. Required
	Curves   []elliptic.Curve  // that its key may be on; nil: P-256, P-384 and P-521
	// Current is the certificate that the sender is known by, nil if there is none. If it is for the same identity, this is
	// a re-enrolment (RFC 7030, 4.2.2), and the request has to have the same subject; a subjectAltName may be left out. If
	// it is for another role of the same holder, as that of a terminal is when it enrols its agreement key, the key has to
	// be another one.
	Current *x509.Certificate
}

// CheckRequest decides whether a PKCS #10 request (DER) may be certified under the policy and returns its public key, an
// *ecdsa.PublicKey. The request must be signed by that key. It may leave names and usages out, since the authority sets
// them; those that it has must be those of the identity: as subject O and CN, as subjectAltName the identity URI, no usage
// but that of the role, and not to be an authority. A challengePassword is allowed and ignored. Anything else is refused.
// So are keys that everybody knows.
//
// Errors wrap ErrFormat or ErrRequest. Beside those, it fails when the policy has no identity.
func CheckRequest(der []byte, p Policy) (crypto.PublicKey, error) {
	if err := p.Identity.Validate(); err != nil {
		return nil, err
	}
	r, err := parseRequest(der)
	if err != nil {
		return nil, err
	}
	key, err := p.checkKey(r.publicKey)
	if err != nil {
		return nil, err
	}
	subject, err := p.checkSubject(r.subject)
	if err != nil {
		return nil, err
	}
	if err := p.checkAttributes(r.attributes); err != nil {
		return nil, err
	}
	if err := p.checkCurrent(subject, key); err != nil {
		return nil, err
	}
	if err := r.verify(key); err != nil {
		return nil, err
	}
	return key, nil
}

// checkCurrent compares with the certificate that the sender is known by. Names are compared as they read: openssl writes
// UTF8String where others write PrintableString.
func (p Policy) checkCurrent(subject pkix.Name, key *ecdsa.PublicKey) error {
	if p.Current == nil {
		return nil
	}
	held, err := identity.FromCertificate(p.Current)
	if err != nil {
		return refused("the current certificate carries no identity")
	}
	switch {
	case held == p.Identity:
		if subject.String() != p.Current.Subject.String() {
			return refused("the subject must be that of the current certificate")
		}
	case held.Tenant == p.Identity.Tenant && held.Name == p.Identity.Name:
		if key.Equal(p.Current.PublicKey) {
			return refused("the key must be another one than that of the current certificate")
		}
	default:
		return refused("the current certificate is for somebody else")
	}
	return nil
}
