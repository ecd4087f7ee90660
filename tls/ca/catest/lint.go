package catest

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"

	"github.com/latchkey-pos/latchkey/tls/identity"
)

// waived are rules that our certificates break on purpose.
var waived = []string{
	"e_ext_san_uri_host_not_fqdn_or_ip", // the authority of an identity URI is a tenant, and not a host
}

// rules are those of zlint about certificates of any kind: RFC 5280 and what followed it. The others are about web sites.
func rules() (lint.Registry, error) {
	return lint.GlobalRegistry().Filter(lint.FilterOptions{
		IncludeSources: lint.SourceList{lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC8813}, ExcludeNames: waived,
	})
}

// Lint holds a certificate to zlint's rules for certificates of any kind. The error names the first that it breaks. zlint
// reads no arc of more than 31 bits, so one with policies in the long spelling is looked at in a copy that has them in short.
func Lint(cert *x509.Certificate) error {
	all, err := rules()
	if err != nil {
		return err
	}
	if cert, err = short(cert); err != nil {
		return err
	}
	parsed, err := zx509.ParseCertificate(cert.Raw)
	if err != nil {
		return fmt.Errorf("zlint cannot read the certificate of %q: %w", cert.Subject.CommonName, err)
	}
	passed := 0
	for name, result := range zlint.LintCertificateEx(parsed, all).Results {
		switch result.Status {
		case lint.Error, lint.Fatal: // a warning is advice
			return fmt.Errorf("certificate of %q breaks %s: %v %s", cert.Subject.CommonName, name, result.Status, result.Details)
		case lint.Pass:
			passed++
		}
	}
	if passed < 20 {
		return fmt.Errorf("zlint found %d rules for the certificate of %q, want 20 or more", passed, cert.Subject.CommonName)
	}
	return nil
}

// short returns a copy with the policies in the short spelling, signed by nobody, and the certificate itself when it has none
// in the long one.
func short(cert *x509.Certificate) (*x509.Certificate, error) {
	policies := slices.Clone(cert.Policies)
	long := false
	for _, role := range identity.Roles() {
		if i := slices.IndexFunc(policies, role.Policy().Equal); i >= 0 {
			policies[i], long = role.ShortPolicy(), true
		}
	}
	if !long {
		return cert, nil
	}
	key := newKey(elliptic.P256())
	template := *cert
	template.Policies, template.SignatureAlgorithm, template.ExtraExtensions = policies, x509.ECDSAWithSHA256, nil
	for _, ext := range cert.Extensions {
		if ext.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 36}) { // policy constraints, which a template has no field for
			template.ExtraExtensions = append(template.ExtraExtensions, ext)
		}
	}
	parent := &x509.Certificate{RawSubject: cert.RawIssuer, SubjectKeyId: cert.AuthorityKeyId, PublicKey: key.Public()}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, cert.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
