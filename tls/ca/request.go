package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/tls/identity"
)

// Request says everything about a certificate that the issuer may not decide. Nothing in it comes from a certificate
// signing request but the public key, whose possession the caller has seen proved.
type Request struct {
	PublicKey crypto.PublicKey // *ecdsa.PublicKey on P-256, P-384 or P-521
	// CSR is the certificate signing request (DER) that proved the possession of the key, for issuers that want to see the
	// proof themselves; nil where there was none. Nothing else in it counts, for no issuer.
	CSR       []byte
	Identity  identity.Identity // name, and role of the issuer's authority
	Profile   Profile           // zero: ProfileFor the role; others may only narrow that one
	DNSNames  []string          // lower case, no wildcards; roles that serve only
	IPs       []net.IP          // roles that serve only
	NotBefore time.Time         // zero: Backdate before the moment of issue
	Lifetime  time.Duration     // from NotBefore, or from the moment of issue if that is zero; zero: the profile's default
}

const maxHosts = 16

// Validate reports what may not be certified for this authority at all, wrapping ErrRequest.
func (r Request) Validate(authority identity.Authority) error {
	if err := r.Identity.Validate(); err != nil {
		return errorf(ErrRequest, "%v", err)
	}
	if got := r.Identity.Role.Authority(); got != authority {
		return errorf(ErrRequest, "role %s comes from the %v authority, not from %v", r.Identity.Role, got, authority)
	}
	if err := checkKey(r.PublicKey); err != nil {
		return err
	}
	p, err := r.profile()
	if err != nil {
		return err
	}
	if r.Lifetime < 0 || r.Lifetime > p.MaxLifetime {
		return errorf(ErrRequest, "lifetime %v, want at most %v", r.Lifetime, p.MaxLifetime)
	}
	return r.checkHosts(p)
}

// Window returns from when and until when the certificate is to be valid if it is issued at now, in whole seconds.
// A window that is over at now is an error that wraps ErrRequest.
func (r Request) Window(now time.Time) (notBefore, notAfter time.Time, err error) {
	p, err := r.profile()
	if err != nil {
		return time.Time{}, time.Time{}, err
	}
	lifetime := r.Lifetime
	if lifetime == 0 {
		lifetime = p.DefaultLifetime
	}
	start := r.NotBefore
	if start.IsZero() {
		notBefore, start = now.Add(-Backdate), now
	} else {
		notBefore = start
	}
	notBefore, notAfter = notBefore.UTC().Truncate(time.Second), start.Add(lifetime).UTC().Truncate(time.Second)
	if !notAfter.After(now) || !notAfter.After(notBefore) {
		return time.Time{}, time.Time{}, errorf(ErrRequest, "the certificate would end at %v, before it is issued", notAfter)
	}
	return notBefore, notAfter, nil
}

// Template returns the certificate to be signed if it is issued at now, but for the serial number. Call Validate first.
func (r Request) Template(now time.Time) (*x509.Certificate, error) {
	p, err := r.profile()
	if err != nil {
		return nil, err
	}
	notBefore, notAfter, err := r.Window(now)
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		Subject:               r.Identity.Subject(),
		PublicKey:             r.PublicKey,
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              p.KeyUsage(),
		ExtKeyUsage:           p.Usages(),
		BasicConstraintsValid: true,
		Policies:              []x509.OID{r.Identity.Role.Policy()},
		URIs:                  []*url.URL{r.Identity.URI()},
		DNSNames:              slices.Clone(r.DNSNames),
		IPAddresses:           slices.Clone(r.IPs),
	}, nil
}

// profile returns the profile in force.
func (r Request) profile() (Profile, error) {
	full, err := ProfileFor(r.Identity.Role)
	if err != nil {
		return Profile{}, err
	}
	if r.Profile == (Profile{}) {
		return full, nil
	}
	if !r.Profile.within(full) {
		return Profile{}, errorf(ErrRequest, "the profile allows more than role %s does", r.Identity.Role)
	}
	return r.Profile, nil
}

func (r Request) checkHosts(p Profile) error {
	n := len(r.DNSNames) + len(r.IPs)
	if n > 0 && !p.ServerAuth {
		return errorf(ErrRequest, "role %s does not serve and names %d hosts", r.Identity.Role, n)
	}
	if n > maxHosts {
		return errorf(ErrRequest, "%d host names and addresses, want at most %d", n, maxHosts)
	}
	for _, name := range r.DNSNames {
		if !hostName(name) {
			return errorf(ErrRequest, "host name %q, want lower-case letters, digits and hyphens in labels", name)
		}
	}
	for _, ip := range r.IPs {
		if ip.To16() == nil || ip.IsUnspecified() || ip.IsMulticast() {
			return errorf(ErrRequest, "address %v", ip)
		}
	}
	return nil
}

func checkKey(pub crypto.PublicKey) error {
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok || key == nil {
		return errorf(ErrRequest, "public key of type %T, want ECDSA", pub)
	}
	if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() && key.Curve != elliptic.P521() {
		return errorf(ErrRequest, "public key on another curve than P-256, P-384 or P-521")
	}
	if _, err := key.ECDH(); err != nil {
		return errorf(ErrRequest, "public key: %v", err)
	}
	return nil
}

// hostName reports whether s is a host name of RFC 1123 in lower case, without a dot at its end.
func hostName(s string) bool {
	if len(s) < 1 || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) < 1 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}

// Covered refuses, wrapping ErrRequest, what would be valid when one of the issuer's certificates is not.
func Covered(chain []*x509.Certificate, from, until time.Time) error {
	for _, cert := range chain {
		if from.Before(cert.NotBefore) || until.After(cert.NotAfter) {
			return errorf(ErrRequest, "%v until %v is outside of the issuer's own %v until %v", from, until, cert.NotBefore, cert.NotAfter)
		}
	}
	return nil
}

func errorf(kind error, format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{kind}, args...)...)
}
