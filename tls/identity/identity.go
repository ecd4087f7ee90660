package identity

import (
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

const (
	scheme        = "latchkey://"
	maxNameLength = 32
)

// ErrIdentity is wrapped by every error about a URI or a certificate that does not carry exactly one identity.
var ErrIdentity = errors.New("identity: not a latchkey identity")

// Identity says who a peer is. It is comparable; the zero value is nobody and no certificate carries it.
// Values that come from New, ParseURI or FromCertificate are valid; Validate checks others.
type Identity struct {
	Tenant string // [A-Z0-9-]{1,32}
	Role   Role
	Name   string // [A-Z0-9-]{1,32}; for terminals the terminal id
}

// New makes an identity of checked parts.
func New(tenant string, role Role, name string) (Identity, error) {
	id := Identity{Tenant: tenant, Role: role, Name: name}
	if err := id.Validate(); err != nil {
		return Identity{}, err
	}
	return id, nil
}

// ParseURI reads latchkey://TENANT/ROLE/NAME. There is one spelling of every identity: no escapes, ports, queries,
// fragments or other cases are accepted. The error wraps ErrIdentity.
func ParseURI(s string) (Identity, error) {
	rest, ok := strings.CutPrefix(s, scheme)
	if !ok {
		return Identity{}, fmt.Errorf("%w: URI does not start with %s", ErrIdentity, scheme)
	}
	parts := strings.Split(rest, "/")
	if len(parts) != 3 {
		return Identity{}, fmt.Errorf("%w: URI has %d parts, want TENANT/ROLE/NAME", ErrIdentity, len(parts))
	}
	return New(parts[0], Role(parts[1]), parts[2])
}

// Validate reports what is wrong with the identity, wrapping ErrIdentity.
func (id Identity) Validate() error {
	if err := checkName("tenant", id.Tenant); err != nil {
		return err
	}
	if _, ok := id.Role.traits(); !ok {
		return fmt.Errorf("%w: unknown role %q", ErrIdentity, string(id.Role))
	}
	return checkName("name", id.Name)
}

// IsZero reports whether the identity is nobody's.
func (id Identity) IsZero() bool { return id == Identity{} }

// String returns the URI as text, or "(nobody)" for the zero value.
func (id Identity) String() string {
	if id.IsZero() {
		return "(nobody)"
	}
	return scheme + id.Tenant + "/" + string(id.Role) + "/" + id.Name
}

// URI returns the URI as certificates carry it in their subject alternative name.
func (id Identity) URI() *url.URL {
	return &url.URL{Scheme: "latchkey", Host: id.Tenant, Path: "/" + string(id.Role) + "/" + id.Name}
}

// Subject returns the name that certificates carry beside the URI: O is the tenant, CN the name.
func (id Identity) Subject() pkix.Name {
	return pkix.Name{Organization: []string{id.Tenant}, CommonName: id.Name}
}

func checkName(what, s string) error {
	if len(s) < 1 || len(s) > maxNameLength {
		return fmt.Errorf("%w: %s has %d characters, want 1 to %d", ErrIdentity, what, len(s), maxNameLength)
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' {
			return fmt.Errorf("%w: %s %q has a character outside A-Z, 0-9 and -", ErrIdentity, what, s)
		}
	}
	return nil
}
