package tlsconf

import (
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// TestBelongs judges chains that crypto/tls would not have verified with the pools at hand: the second lock holds alone.
func TestBelongs(t *testing.T) {
	t.Parallel()
	issuers := make(map[string]*catest.Fake)
	for name, a := range map[string]identity.Authority{
		"terminals": identity.TerminalCA, "services": identity.ServicesCA, "other terminals": identity.TerminalCA,
	} {
		f, err := catest.NewFake(a, catest.Twist{}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		issuers[name] = f
	}
	trust := Trust{Terminals: x509.NewCertPool(), Services: x509.NewCertPool()}
	trust.Terminals.AddCert(issuers["terminals"].Chain()[1])
	trust.Services.AddCert(issuers["services"].Chain()[1])
	for _, tc := range []struct {
		issuer string
		role   identity.Role
		want   bool
	}{
		{"terminals", identity.Terminal, true},
		{"services", identity.Operator, true},
		{"services", identity.Decrypt, true},
		{"other terminals", identity.Terminal, false},
		{"terminals", identity.Operator, false},
		{"services", identity.Terminal, false},
		{"services", identity.KDH, false}, // no roots at all
		{"terminals", "root", false},
	} {
		chain := append([]*x509.Certificate{{}}, issuers[tc.issuer].Chain()...) // the leaf does not matter here
		err := trust.belongsAny([][]*x509.Certificate{chain}, tc.role)
		if (err == nil) != tc.want || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("role %s under %s: %v, want %t", tc.role, tc.issuer, err, tc.want)
		}
	}
	good := append([]*x509.Certificate{{}}, issuers["terminals"].Chain()...)
	bad := append([]*x509.Certificate{{}}, issuers["other terminals"].Chain()...)
	if err := trust.belongsAny([][]*x509.Certificate{bad, good}, identity.Terminal); err != nil {
		t.Errorf("one good chain of two: %v", err)
	}
	for name, chains := range map[string][][]*x509.Certificate{"none": nil, "empty": {nil}, "the root itself": {good[2:]}} {
		if err := trust.belongsAny(chains, identity.Terminal); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v, want ErrRefused", name, err)
		}
	}
}
