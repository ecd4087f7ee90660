package enroll

import (
	"crypto"
	"crypto/x509"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// check compares an answer with what was asked for. It returns the certificate for our key and what it was issued by, in
// the order of TLS, without the root; there may be nothing else in the answer. Errors wrap ErrAnswer.
func (c *Client) check(certs []*x509.Certificate, key crypto.PublicKey, id identity.Identity) ([]*x509.Certificate, error) {
	pub, ok := key.(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return nil, unacceptable("key of type %T", key)
	}
	i := slices.IndexFunc(certs, func(cert *x509.Certificate) bool { return pub.Equal(cert.PublicKey) })
	if i < 0 {
		return nil, unacceptable("no certificate is for the key of the request")
	}
	leaf := certs[i]
	if err := checkHolder(leaf, id); err != nil {
		return nil, err
	}
	if err := checkPowers(leaf, id.Role); err != nil {
		return nil, err
	}
	return c.path(leaf, slices.Concat(certs[:i], certs[i+1:]), id.Role)
}

// checkHolder compares who a certificate is for.
func checkHolder(leaf *x509.Certificate, id identity.Identity) error {
	got, err := identity.FromCertificate(leaf)
	if err != nil {
		return unacceptable("%v", err)
	}
	if got != id {
		return unacceptable("the certificate is for %v, not for %v", got, id)
	}
	if want := id.Subject().String(); leaf.Subject.String() != want {
		return unacceptable("the subject of the certificate is not %s", want)
	}
	return nil
}

// checkPowers compares what a certificate is good for.
func checkPowers(leaf *x509.Certificate, role identity.Role) error {
	p, err := ca.ProfileFor(role)
	if err == nil {
		err = p.Check(leaf)
	}
	if err != nil {
		return unacceptable("%v", err)
	}
	return nil
}

// path verifies a certificate up to a root of its authority, by issuing certificates of which each may certify the role and
// none is left over.
func (c *Client) path(leaf *x509.Certificate, issuing []*x509.Certificate, role identity.Role) ([]*x509.Certificate, error) {
	between := x509.NewCertPool()
	for _, cert := range issuing {
		between.AddCert(cert)
	}
	usages := leaf.ExtKeyUsage
	if len(usages) == 0 {
		usages = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	}
	now := c.now()
	if said := time.Unix(c.told.seconds.Load(), 0); now.Before(said) { // what the authority has just signed begins by its clock
		now = said
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots: c.roots(role), Intermediates: between, CurrentTime: now, KeyUsages: usages,
		CertificatePolicies: role.Policies(),
	})
	if err != nil {
		return nil, unacceptable("%v", err)
	}
	for _, chain := range chains {
		chain = chain[:len(chain)-1]
		if len(chain) == len(issuing)+1 && identity.MayCertify(chain[1:], role) == nil {
			return chain, nil
		}
	}
	return nil, unacceptable("the issuing certificates may not certify role %s, or some of them did not", role)
}

func (c *Client) roots(role identity.Role) *x509.CertPool {
	trust := c.list.Trust()
	if role == identity.Agreement {
		return trust.KeyDist
	}
	return trust.Terminals
}

// checkAuthorities accepts certificates of authorities that are roots of the terminals authority, or verify under them.
func (c *Client) checkAuthorities(certs []*x509.Certificate) error {
	all := x509.NewCertPool()
	for _, cert := range certs {
		all.AddCert(cert)
	}
	for _, cert := range certs {
		if !cert.BasicConstraintsValid || !cert.IsCA {
			return unacceptable("a certificate is not one of an authority")
		}
		_, err := cert.Verify(x509.VerifyOptions{
			Roots: c.roots(identity.Terminal), Intermediates: all, CurrentTime: c.now(),
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		})
		if err != nil {
			return unacceptable("%v", err)
		}
	}
	return nil
}
