package ca

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/tls/identity"
)

// Backdate is how long before the moment of issue a certificate becomes valid, for clocks that are a little slow. An
// issuing certificate is backdated by an hour or more, so that it is always the older.
const Backdate = time.Minute

const day = 24 * time.Hour

// Profile is what certificates of a role look like. The zero value in a Request stands for the profile of its role.
type Profile struct {
	Role            identity.Role
	ClientAuth      bool          // extended key usage
	ServerAuth      bool          // extended key usage; also permits host names and addresses
	KeyAgreement    bool          // key usage keyAgreement instead of digitalSignature, and no extended key usage
	DefaultLifetime time.Duration // when a request names none
	MaxLifetime     time.Duration // the longest that may be asked for
}

// ProfileFor returns the profile of a role. Certificates of terminals live 90 days by default and a year at most, those of
// their agreement keys, which outlast many TLS keys, two years and four at most; all others a year by default and two at
// most. The error wraps ErrRequest.
func ProfileFor(role identity.Role) (Profile, error) {
	if role.Authority() == 0 {
		return Profile{}, errorf(ErrRequest, "unknown role %q", string(role))
	}
	p := Profile{
		Role:            role,
		ClientAuth:      role.Client(),
		ServerAuth:      role.Server(),
		KeyAgreement:    role == identity.Agreement,
		DefaultLifetime: 365 * day,
		MaxLifetime:     2 * 365 * day,
	}
	switch role {
	case identity.Terminal:
		p.DefaultLifetime, p.MaxLifetime = 90*day, 365*day
	case identity.Agreement:
		p.DefaultLifetime, p.MaxLifetime = 2*365*day, 4*365*day
	}
	return p, nil
}

// Usages returns the extended key usages, in the order of their numbers.
func (p Profile) Usages() []x509.ExtKeyUsage {
	var out []x509.ExtKeyUsage
	if p.ServerAuth {
		out = append(out, x509.ExtKeyUsageServerAuth)
	}
	if p.ClientAuth {
		out = append(out, x509.ExtKeyUsageClientAuth)
	}
	return out
}

// KeyUsage returns what the key may be used for (RFC 5280, 4.2.1.3).
func (p Profile) KeyUsage() x509.KeyUsage {
	if p.KeyAgreement {
		return x509.KeyUsageKeyAgreement
	}
	return x509.KeyUsageDigitalSignature
}

// within reports whether p allows nothing that q does not.
func (p Profile) within(q Profile) bool {
	return p.Role == q.Role && (!p.ClientAuth || q.ClientAuth) && (!p.ServerAuth || q.ServerAuth) &&
		p.KeyAgreement == q.KeyAgreement && (p.ClientAuth || p.ServerAuth || p.KeyAgreement) &&
		p.DefaultLifetime > 0 && p.DefaultLifetime <= p.MaxLifetime && p.MaxLifetime <= q.MaxLifetime
}

// permitted lists the extensions that a leaf may carry. A check looks into each of the first six; the last two say where
// revocation is published and change nothing about who the holder is.
var permitted = []asn1.ObjectIdentifier{
	{2, 5, 29, 15},              // key usage
	{2, 5, 29, 37},              // extended key usage
	{2, 5, 29, 19},              // basic constraints
	{2, 5, 29, 17},              // subject alternative name
	{2, 5, 29, 32},              // certificate policies
	{2, 5, 29, 35},              // authority key identifier
	{2, 5, 29, 14},              // subject key identifier
	{2, 5, 29, 31},              // CRL distribution points
	{1, 3, 6, 1, 5, 5, 7, 1, 1}, // authority information access
}

// Check compares what a certificate can be used for: it is no authority, its usages are those of the profile, and it has no
// extension beside those of a leaf. The error wraps ErrMismatch.
func (p Profile) Check(leaf *x509.Certificate) error {
	if !leaf.BasicConstraintsValid || leaf.IsCA {
		return errorf(ErrMismatch, "a certificate authority, or one that does not say it is none")
	}
	if leaf.KeyUsage != p.KeyUsage() {
		return errorf(ErrMismatch, "key usage %09b, want %09b only", leaf.KeyUsage, p.KeyUsage())
	}
	if len(leaf.UnknownExtKeyUsage) != 0 || !sameSet(leaf.ExtKeyUsage, p.Usages()) {
		return errorf(ErrMismatch, "extended key usages %v and %v, want %v", leaf.ExtKeyUsage, leaf.UnknownExtKeyUsage, p.Usages())
	}
	for _, ext := range leaf.Extensions {
		if !slices.ContainsFunc(permitted, ext.Id.Equal) {
			return errorf(ErrMismatch, "unexpected extension %v", ext.Id)
		}
	}
	if len(leaf.UnhandledCriticalExtensions) != 0 {
		return errorf(ErrMismatch, "critical extensions %v", leaf.UnhandledCriticalExtensions)
	}
	return nil
}
