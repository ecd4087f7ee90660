package keydist

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/tls/identity"
)

// verify returns who a certificate is for, which must have the role. chain is what a peer sends: the leaf first, without
// the root. It verifies to a root of the pool at the time, over issuers each of which may certify the role.
func verify(chain []*x509.Certificate, roots *x509.CertPool, role identity.Role, now time.Time) (identity.Identity, error) {
	id, err := identity.FromCertificate(chain[0])
	if err != nil {
		return identity.Identity{}, err
	}
	if id.Role != role {
		return identity.Identity{}, fmt.Errorf("it has role %s, want %s", id.Role, role)
	}
	usage := x509.ExtKeyUsageAny // what the others may do is said by their role; those of agreement keys name no usage
	if role == identity.Terminal {
		usage = x509.ExtKeyUsageClientAuth
	}
	paths, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates(chain), CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
	})
	if err != nil {
		return identity.Identity{}, err
	}
	for _, path := range paths {
		if len(path) >= 3 && identity.MayCertify(path[1:len(path)-1], role) == nil {
			return id, nil
		}
	}
	return identity.Identity{}, fmt.Errorf("its issuer may not certify role %s", role)
}

func intermediates(chain []*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range chain[1:] {
		pool.AddCert(c)
	}
	return pool
}

func parseChain(chain [][]byte) ([]*x509.Certificate, error) {
	out := make([]*x509.Certificate, 0, len(chain))
	for _, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("no certificate")
	}
	return out, nil
}

// agreementKey returns the public key of a certificate for key agreement.
func agreementKey(cert *x509.Certificate) (*ecdh.PublicKey, error) {
	if cert.KeyUsage != x509.KeyUsageKeyAgreement {
		return nil, errors.New("its key is not for key agreement alone")
	}
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("its key is a %T", cert.PublicKey)
	}
	return key.ECDH()
}

func verifies(cert *x509.Certificate, digest, signature []byte) bool {
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	return ok && ecdsa.VerifyASN1(key, digest, signature)
}
