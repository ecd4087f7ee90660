package identity

import (
	"crypto/x509"
	"fmt"
	"slices"
)

// Authority is one of the three issuers, which are never mixed: a certificate counts only when the authority of its role
// issued it.
type Authority uint8

// The authorities of design section 5.
const (
	TerminalCA Authority = iota + 1 // terminals
	ServicesCA                      // services, and the people who operate them
	KeyDistCA                       // the key-distribution host, and the agreement keys of terminals
)

var authorityNames = map[Authority]string{TerminalCA: "terminals", ServicesCA: "services", KeyDistCA: "keydist"}

// Authorities returns every authority.
func Authorities() []Authority { return []Authority{TerminalCA, ServicesCA, KeyDistCA} }

// ParseAuthority reads "terminals", "services" or "keydist".
func ParseAuthority(s string) (Authority, error) {
	for a, name := range authorityNames {
		if s == name {
			return a, nil
		}
	}
	return 0, fmt.Errorf("identity: unknown authority %q", s)
}

// String returns the text that ParseAuthority reads.
func (a Authority) String() string {
	if name, ok := authorityNames[a]; ok {
		return name
	}
	return fmt.Sprintf("identity.Authority(%d)", uint8(a))
}

// Roles returns the roles that this authority certifies.
func (a Authority) Roles() []Role {
	var out []Role
	for _, t := range table {
		if t.authority == a {
			out = append(out, t.role)
		}
	}
	return out
}

// Policies returns the certificate policies that an issuing certificate of this authority carries: one for each role it
// may certify. A path validator intersects them with those of the certificates below (RFC 5280, 6.1).
func (a Authority) Policies() []x509.OID {
	var out []x509.OID
	for _, r := range a.Roles() {
		out = append(out, r.Policy())
	}
	return out
}

// Carries reports whether cert carries the policy of r, in either spelling. On a leaf it marks the role; on an issuing certificate it says
// that the role may be certified below.
func Carries(cert *x509.Certificate, r Role) bool {
	return slices.ContainsFunc(r.Policies(), func(spelling x509.OID) bool {
		return slices.ContainsFunc(cert.Policies, spelling.Equal)
	})
}

// MayCertify returns an error that names the first of the issuing certificates that does not carry the policy of r, nil if
// there is none. Those of a verified path are all but the leaf and the root.
func MayCertify(issuing []*x509.Certificate, r Role) error {
	for _, cert := range issuing {
		if !Carries(cert, r) {
			return fmt.Errorf("issuer %q may not certify role %s", cert.Subject.CommonName, r)
		}
	}
	return nil
}
