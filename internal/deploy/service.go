package deploy

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// ErrNoService says that a deployment has no service or signer of a name.
var ErrNoService = errors.New("deploy: no such service")

// Services names the services and signers that a deployment has a certificate of: ServiceDecrypt and its like.
func Services() (names []string) {
	for _, c := range firstCredentials {
		if filepath.Dir(c.folder) == "services" {
			names = append(names, filepath.Base(c.folder))
		}
	}
	return names
}

// serviceOf returns what is fixed about the certificate of a service or signer.
func serviceOf(name string) (firstCredential, error) {
	i := slices.IndexFunc(firstCredentials, func(c firstCredential) bool { return c.folder == "services/"+name })
	if i < 0 {
		return firstCredential{}, fmt.Errorf("%w: %q", ErrNoService, name)
	}
	return firstCredentials[i], nil
}

// ServiceAuthority returns the authority that certifies a service or signer. Errors wrap ErrNoService.
func ServiceAuthority(name string) (identity.Authority, error) {
	c, err := serviceOf(name)
	if err != nil {
		return 0, err
	}
	return c.role.Authority(), nil
}

// CertifyService has a key that is held elsewhere, in a token, certified for a service or signer that the deployment has: with its
// role and name, and with the DNS names and addresses of its first certificate. The chain is written to a new file at path. Nothing
// else is touched: the service goes on as it is until its configuration names certificate and key. It returns the certificate. Errors wrap ErrNoService, fs.ErrExist, embedded.ErrNoKey, ca.ErrOtherKey, or are those of the key.
func (d *Deployment) CertifyService(ctx context.Context, name string, key crypto.Signer, path string) (*x509.Certificate, error) {
	c, err := serviceOf(name)
	if err != nil {
		return nil, err
	}
	id, err := identity.New(string(d.config.Tenant), c.role, c.name)
	if err != nil {
		return nil, err
	}
	now, err := readCertificates(d.Path(c.folder, certFile))
	if err != nil {
		return nil, err
	}
	issuer, err := d.Issuer(c.role.Authority())
	if err != nil {
		return nil, err
	}
	req := ca.Request{Identity: id}
	if c.serves {
		req.DNSNames, req.IPs = now[0].DNSNames, now[0].IPAddresses
	}
	var chain []*x509.Certificate
	err = underLock(d.dir, func() error {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("deploy: %s is there already: %w", path, fs.ErrExist)
		}
		if chain, err = certifyHeld(ctx, issuer, req, key); err != nil {
			return err
		}
		return seal.WriteFile(path, encodeCertificates(chain...), 0o644)
	})
	if err != nil {
		return nil, err
	}
	return chain[0], nil
}
