package remote_test

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

const (
	tenant   = "ACME"
	terminal = "T-0001"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// lab is a key-distribution host and a terminal, with everything that one delivery needs.
type lab struct {
	keydist, terminals *catest.Fake
	roots              *x509.CertPool
	signer             crypto.Signer // of the host
	chain              []*x509.Certificate
	set                *keyset.KeySet
	key                *dukpt.InitialKey
	binding            remote.Binding
	agreement          *ecdh.PrivateKey
}

// newLab makes a laboratory for a key set of an algorithm, with a host whose signing key is on a curve.
func newLab(t testing.TB, a keys.Algorithm, signing elliptic.Curve) *lab {
	t.Helper()
	l := &lab{keydist: fake(t, identity.KeyDistCA), terminals: fake(t, identity.TerminalCA), set: setFor(t, a)}
	l.roots = x509.NewCertPool()
	l.roots.AddCert(l.keydist.Chain()[1])
	l.signer, l.chain = certified(t, l.keydist, identity.KDH, tenant, "KDH-1", signing)
	suite, err := remote.SuiteFor(a)
	check(t, err)
	_, tls := certified(t, l.terminals, identity.Terminal, tenant, terminal, elliptic.P256())
	private, agreement := certified(t, l.keydist, identity.Agreement, tenant, terminal, curveOf(suite))
	l.agreement, err = private.ECDH()
	check(t, err)
	l.binding = remote.Binding{Tenant: tenant, Terminal: terminal, Slot: 3, TLS: tls[0], Agreement: agreement[0]}
	_, _ = rand.Read(l.binding.Nonce[:])
	_, _ = rand.Read(l.binding.Exporter[:])
	l.key = initialKey(t, a, l.set.FirstID)
	return l
}

func (l *lab) options() remote.OpenOptions {
	return remote.OpenOptions{Roots: l.roots, Now: noon, Environment: l.set.Environment, KeySet: l.set.ID}
}

func (l *lab) seal(t testing.TB) *remote.Delivery {
	t.Helper()
	d, err := remote.Seal(l.binding, l.set, dukpt.KeyID{}, l.key, noon, l.signer, l.chain)
	check(t, err)
	return d
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func fake(t testing.TB, a identity.Authority) *catest.Fake {
	t.Helper()
	f, err := catest.NewFake(a, catest.Twist{}, func() time.Time { return noon })
	check(t, err)
	return f
}

// certified makes a key with a certificate, which comes first of the chain.
func certified(t testing.TB, issuer ca.Issuer, role identity.Role, tenant, name string, c elliptic.Curve) (*ecdsa.PrivateKey, []*x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	check(t, err)
	chain, err := issuer.Issue(t.Context(), ca.Request{
		PublicKey: key.Public(), Identity: identity.Identity{Tenant: tenant, Role: role, Name: name},
	})
	check(t, err)
	return key, chain
}

func curveOf(s remote.Suite) elliptic.Curve {
	switch s {
	case remote.SuiteP384:
		return elliptic.P384()
	case remote.SuiteP521:
		return elliptic.P521()
	}
	return elliptic.P256()
}

func setFor(t testing.TB, a keys.Algorithm) *keyset.KeySet {
	t.Helper()
	s, first, last := keyset.NewAESData(), "1234567800000000", "12345678FFFFFFFF"
	if a.IsTDES() {
		s, first, last = keyset.NewTDESData(), "FFFF9876543210E00000", "FFFF98765432FFE00000"
	}
	var err error
	s.ID, s.Tenant, s.Environment, s.Algorithm, s.Revision = "DATA", tenant, keyset.Test, a, 7
	s.BaseKey, err = keyset.ParseKeyRef("alias/base")
	check(t, err)
	s.BaseKeyFingerprint, err = keys.ParseFingerprint("00112233445566778899aabbccddeeff")
	check(t, err)
	s.FirstID, s.LastID = keyID(t, first), keyID(t, last)
	check(t, s.Validate())
	return s
}

func keyID(t testing.TB, text string) dukpt.KeyID {
	t.Helper()
	id, err := dukpt.ParseKeyID(text)
	check(t, err)
	return id
}

func initialKey(t testing.TB, a keys.Algorithm, id dukpt.KeyID) *dukpt.InitialKey {
	t.Helper()
	base, err := keys.GenerateKey(keys.Attributes{
		Algorithm: a, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	})
	check(t, err)
	defer base.Wipe()
	b, err := dukpt.NewBaseKey(base)
	check(t, err)
	defer b.Wipe()
	ik, err := b.Derive(id)
	check(t, err)
	t.Cleanup(ik.Wipe)
	return ik
}
