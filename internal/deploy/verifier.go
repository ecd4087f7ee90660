package deploy

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// Verifier returns what decides whose signatures under documents count: those of operators and custodians of the tenant
// whose certificate chains to the services root in DIR/trust. Auditors sign nothing. An approver's name is the name in
// the certificate, so that one person is one approver in every role.
//
// At a time, the certificate must be valid then: use it for a document that is new. With the zero time the expiry of the
// signer's certificate is not looked at: a stored document was checked when it came in, and must not lapse because its
// signer's certificate did.
func Verifier(dir string, tenant keyset.TenantID, at time.Time) (keyset.Verifier, error) {
	roots, err := readCertificates(TrustPath(dir, identity.ServicesCA))
	if err != nil {
		return nil, err
	}
	issuing, err := readCertificates(filepath.Join(dir, "trust", issuingFile))
	if err != nil {
		return nil, err
	}
	v := signers{tenant: string(tenant), at: at, roots: x509.NewCertPool(), issuing: x509.NewCertPool()}
	for _, c := range roots {
		v.roots.AddCert(c)
	}
	for _, c := range issuing {
		v.issuing.AddCert(c)
	}
	return v.verify, nil
}

type signers struct {
	tenant         string
	at             time.Time
	roots, issuing *x509.CertPool
}

func (v signers) verify(der []byte) (string, crypto.PublicKey, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return "", nil, fmt.Errorf("deploy: signer's certificate: %w", err)
	}
	id, err := identity.FromCertificate(cert)
	if err != nil {
		return "", nil, err
	}
	if id.Tenant != v.tenant || (id.Role != identity.Operator && id.Role != identity.Custodian) {
		return "", nil, fmt.Errorf("deploy: %v may not sign documents of tenant %s", id, v.tenant)
	}
	at := v.at
	if at.IsZero() {
		at = cert.NotBefore
	}
	chains, err := cert.Verify(x509.VerifyOptions{
		Roots: v.roots, Intermediates: v.issuing, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return "", nil, fmt.Errorf("deploy: certificate of %v: %w", id, err)
	}
	for _, chain := range chains {
		if len(chain) >= 3 && identity.MayCertify(chain[1:len(chain)-1], id.Role) == nil {
			return id.Tenant + "/" + id.Name, cert.PublicKey, nil
		}
	}
	return "", nil, fmt.Errorf("deploy: the issuer of %v may not certify role %s", id, id.Role)
}
