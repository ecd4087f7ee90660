package tlsconf

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/latchkey-pos/latchkey/tls/identity"
)

// Trust holds the roots of each authority, apart. A nil pool trusts nobody of that authority; needing one that is nil is
// an error when a configuration is made. The pools are not copied and must not change afterwards.
type Trust struct {
	Terminals *x509.CertPool
	Services  *x509.CertPool
	KeyDist   *x509.CertPool
}

// ErrRefused is wrapped by every error about a peer that is turned away although its certificate chain verifies.
var ErrRefused = errors.New("tlsconf: peer refused")

func (t Trust) pool(a identity.Authority) (*x509.CertPool, error) {
	var pool *x509.CertPool
	switch a {
	case identity.TerminalCA:
		pool = t.Terminals
	case identity.ServicesCA:
		pool = t.Services
	case identity.KeyDistCA:
		pool = t.KeyDist
	default:
		return nil, fmt.Errorf("tlsconf: unknown authority %v", a)
	}
	if pool == nil || pool.Equal(x509.NewCertPool()) {
		return nil, fmt.Errorf("tlsconf: no roots of the %v authority", a)
	}
	return pool, nil
}

// belongs reports whether a verified chain, leaf first, is one of the authority that the role comes from: it ends in a
// root of that authority, and every certificate in between may certify the role.
func (t Trust) belongs(chain []*x509.Certificate, role identity.Role) error {
	if len(chain) < 2 {
		return fmt.Errorf("%w: a leaf that is its own root", ErrRefused)
	}
	pool, err := t.pool(role.Authority())
	if err != nil {
		return fmt.Errorf("%w: %v", ErrRefused, err)
	}
	if !contains(pool, chain[len(chain)-1]) {
		return fmt.Errorf("%w: role %s is not from the %v authority", ErrRefused, role, role.Authority())
	}
	if err := identity.MayCertify(chain[1:len(chain)-1], role); err != nil {
		return fmt.Errorf("%w: %v", ErrRefused, err)
	}
	return nil
}

// belongsAny reports whether one of the chains belongs to the role, with the reason of the first that does not.
func (t Trust) belongsAny(chains [][]*x509.Certificate, role identity.Role) error {
	err := fmt.Errorf("%w: no verified certificate chain", ErrRefused)
	for i, chain := range chains {
		e := t.belongs(chain, role)
		if e == nil {
			return nil
		}
		if i == 0 {
			err = e
		}
	}
	return err
}

// contains reports whether the very certificate is in the pool. A pool is a set: adding a member changes nothing.
func contains(pool *x509.CertPool, cert *x509.Certificate) bool {
	with := pool.Clone()
	with.AddCert(cert)
	return with.Equal(pool)
}

// oneAuthority returns the pool that all the roles come from.
func (t Trust) oneAuthority(roles []identity.Role) (*x509.CertPool, error) {
	if len(roles) == 0 {
		return nil, errors.New("tlsconf: no role is accepted")
	}
	authority := roles[0].Authority()
	if slices.ContainsFunc(roles, func(r identity.Role) bool { return r.Authority() != authority }) {
		return nil, fmt.Errorf("tlsconf: roles %v come from different authorities: give each its own listener", roles)
	}
	return t.pool(authority)
}
