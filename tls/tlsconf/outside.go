package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"time"
)

// OutsideOptions say how a service reaches a server that is none of ours, such as a Vault. The zero value verifies the
// server's host name under the roots of the machine and shows no certificate.
type OutsideOptions struct {
	Roots      *x509.CertPool   // that the server's certificate verifies under; nil: those of the machine
	Credential *Credential      // shown to a server that asks; nil: none
	Clock      func() time.Time // time.Now when nil
}

// Outside makes the configuration of a client of such a server, which has no role and no identity: its certificate must
// carry the host name and verify, and that is all. It speaks TLS 1.2, too, with what the standard library takes for safe.
func Outside(o OutsideOptions) (*tls.Config, error) {
	if o.Roots != nil && o.Roots.Equal(x509.NewCertPool()) {
		return nil, errors.New("tlsconf: no roots for a server outside")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.Roots, Time: o.Clock}
	if o.Credential != nil {
		if !o.Credential.valid() || !o.Credential.Identity().Role.Client() {
			return nil, errors.New("tlsconf: the credential for a server outside cannot open connections")
		}
		config.GetClientCertificate = o.Credential.forClient
	}
	return config, nil
}
