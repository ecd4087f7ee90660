package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"net"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/tls/identity"
)

// tolerance is how far the validity of a certificate may lie inside what was asked for, for issuers whose clock or
// rounding differs. It never lies outside; what Window returns is backdated already.
const tolerance = 5 * time.Minute

// Serial numbers are random: at least 64 bits of them (CA/Browser Forum baseline, 7.1), at most 20 octets (RFC 5280,
// 4.1.2.2).
const (
	minSerialBits = 64
	maxSerialBits = 159
)

// Check compares what an issuer returned at now with what was asked for. issued is the leaf and then the issuing
// certificates; chain is what Issuer.Chain returned, whose last certificate is the root to trust. It is nil only when the
// public key, the identity and every name, the usages, the policy and the validity are those of the request, the leaf is
// no authority, nothing outlives its issuer, and every signature verifies up to the root. Errors wrap ErrMismatch, or
// ErrRequest if the request itself was not one.
func Check(req Request, issued, chain []*x509.Certificate, now time.Time) error {
	return CheckSince(req, issued, chain, now, now)
}

// CheckSince is Check for who does not know when the certificate was issued, only that it was after begun: between asking
// an issuer and its answer a second may end.
func CheckSince(req Request, issued, chain []*x509.Certificate, begun, now time.Time) error {
	if len(issued) < 2 || len(chain) < 2 || slices.Contains(issued, nil) || slices.Contains(chain, nil) {
		return errorf(ErrMismatch, "%d certificates under a chain of %d", len(issued), len(chain))
	}
	if err := req.Validate(req.Identity.Role.Authority()); err != nil {
		return err
	}
	leaf := issued[0]
	for _, check := range []func() error{
		func() error { return req.checkHolder(leaf) },
		func() error { return req.checkPowers(leaf) },
		func() error { return req.checkValidity(leaf, begun, now) },
		func() error { return checkPath(req.Identity.Role, issued, chain, now) },
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// checkHolder compares who the certificate is for.
func (r Request) checkHolder(leaf *x509.Certificate) error {
	pub, ok := r.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(leaf.PublicKey) {
		return errorf(ErrMismatch, "another public key")
	}
	id, err := identity.FromCertificate(leaf)
	if err != nil {
		return errorf(ErrMismatch, "%v", err)
	}
	if id != r.Identity {
		return errorf(ErrMismatch, "identity %v, want %v", id, r.Identity)
	}
	if got, want := leaf.Subject.String(), r.Identity.Subject().String(); got != want {
		return errorf(ErrMismatch, "subject %q, want %q", got, want)
	}
	if !sameSet(leaf.DNSNames, r.DNSNames) {
		return errorf(ErrMismatch, "host names %q, want %q", leaf.DNSNames, r.DNSNames)
	}
	if got, want := addresses(leaf.IPAddresses), addresses(r.IPs); !sameSet(got, want) {
		return errorf(ErrMismatch, "addresses %q, want %q", got, want)
	}
	return nil
}

// checkPowers compares what the certificate can be used for.
func (r Request) checkPowers(leaf *x509.Certificate) error {
	p, err := r.profile()
	if err != nil {
		return err
	}
	if err := p.Check(leaf); err != nil {
		return err
	}
	if n := leaf.SerialNumber.BitLen(); leaf.SerialNumber.Sign() <= 0 || n < minSerialBits || n > maxSerialBits {
		return errorf(ErrMismatch, "serial number of %d bits, want %d to %d", n, minSerialBits, maxSerialBits)
	}
	return nil
}

// checkValidity compares from when and until when the certificate is good.
func (r Request) checkValidity(leaf *x509.Certificate, begun, now time.Time) error {
	notBefore, earliest, err := r.Window(begun)
	if err != nil {
		return err
	}
	last, notAfter, err := r.Window(now)
	if err != nil {
		return err
	}
	if leaf.NotBefore.Before(notBefore) || leaf.NotBefore.After(last.Add(tolerance)) {
		return errorf(ErrMismatch, "valid from %v, want %v", leaf.NotBefore, notBefore)
	}
	if leaf.NotAfter.After(notAfter) || leaf.NotAfter.Before(earliest.Add(-tolerance)) {
		return errorf(ErrMismatch, "valid until %v, want %v", leaf.NotAfter, notAfter)
	}
	return nil
}

// checkPath verifies the signatures and that nothing above the leaf says less than the leaf does.
func checkPath(role identity.Role, issued, chain []*x509.Certificate, now time.Time) error {
	leaf, root := issued[0], chain[len(chain)-1]
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	for i, cert := range issued[1:] {
		if i >= len(chain)-1 || !bytes.Equal(cert.Raw, chain[i].Raw) {
			return errorf(ErrMismatch, "issuing certificate %q is not in the issuer's chain", cert.Subject.CommonName)
		}
		between.AddCert(cert)
	}
	if len(issued)-1 != len(chain)-1 {
		return errorf(ErrMismatch, "%d issuing certificates, want %d", len(issued)-1, len(chain)-1)
	}
	for _, cert := range chain {
		if leaf.NotBefore.Before(cert.NotBefore) || leaf.NotAfter.After(cert.NotAfter) {
			return errorf(ErrMismatch, "valid from %v until %v, outside of its issuer %q", leaf.NotBefore, leaf.NotAfter, cert.Subject.CommonName)
		}
	}
	if err := identity.MayCertify(chain[:len(chain)-1], role); err != nil {
		return errorf(ErrMismatch, "%v", err)
	}
	at := now
	if leaf.NotBefore.After(at) {
		at = leaf.NotBefore // asked for in advance
	}
	usages := leaf.ExtKeyUsage // each must be permitted by every issuer, not just one of them
	if len(usages) == 0 {
		usages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	}
	for _, usage := range usages {
		_, err := leaf.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{usage},
			CertificatePolicies: role.Policies(),
		})
		if err != nil {
			return errorf(ErrMismatch, "%v", err)
		}
	}
	return nil
}

func addresses(ips []net.IP) []string {
	out := make([]string, len(ips))
	for i, ip := range ips {
		out[i] = ip.String()
	}
	return out
}

func sameSet[T comparable](a, b []T) bool {
	return len(a) == len(b) &&
		!slices.ContainsFunc(a, func(v T) bool { return !slices.Contains(b, v) }) &&
		!slices.ContainsFunc(b, func(v T) bool { return !slices.Contains(a, v) })
}
