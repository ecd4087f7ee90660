package keydist_test

import (
	"context"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/keydist"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// TestNewRefuses takes one thing away at a time.
func TestNewRefuses(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	other := newKey(t, elliptic.P256())
	stranger := must[*catest.Fake](t)(catest.NewFake(identity.KeyDistCA, catest.Twist{}, l.clock))
	foreign := must[[]*x509.Certificate](t)(l.keydist.Issue(t.Context(), ca.Request{
		PublicKey: l.config.Signer.Public(), Identity: identity.Identity{Tenant: "OTHER", Role: identity.KDH, Name: "KDH-1"},
	}))
	agreement := must[[]*x509.Certificate](t)(l.keydist.Issue(t.Context(), ca.Request{
		PublicKey: l.config.Signer.Public(), Identity: identity.Identity{Tenant: "ACME", Role: identity.Agreement, Name: "KDH-1"},
	}))
	for name, change := range map[string]func(*keydist.Config){
		"no tenant": func(c *keydist.Config) { c.Tenant = "" }, "no environment": func(c *keydist.Config) { c.Environment = 0 },
		"no store": func(c *keydist.Config) { c.Store = nil }, "no issuer": func(c *keydist.Config) { c.Issuer = nil },
		"no keys": func(c *keydist.Config) { c.Blocks = nil }, "no key sets": func(c *keydist.Config) { c.KeySets = nil },
		"no signer": func(c *keydist.Config) { c.Signer = nil }, "no chain": func(c *keydist.Config) { c.Chain = nil },
		"no logger": func(c *keydist.Config) { c.Logger = nil }, "no instance": func(c *keydist.Config) { c.Instance = "" },
		"no roots": func(c *keydist.Config) { c.Trust = tlsconf.Trust{} }, "another key": func(c *keydist.Config) { c.Signer = other },
		"no terminal roots":   func(c *keydist.Config) { c.Trust.Terminals = nil },
		"the leaf alone":      func(c *keydist.Config) { c.Chain = c.Chain[:1] },
		"a nil certificate":   func(c *keydist.Config) { c.Chain = []*x509.Certificate{nil} },
		"another authority":   func(c *keydist.Config) { c.Chain = l.issue(stranger, identity.KDH, "KDH-1", other); c.Signer = other },
		"another tenant":      func(c *keydist.Config) { c.Chain = foreign },
		"another role":        func(c *keydist.Config) { c.Chain = agreement },
		"an old certificate":  func(c *keydist.Config) { c.Clock = func() time.Time { return noon.AddDate(3, 0, 0) } },
		"one from the future": func(c *keydist.Config) { c.Clock = func() time.Time { return noon.AddDate(-3, 0, 0) } },
	} {
		c := l.config
		change(&c)
		if h, err := keydist.New(c); err == nil || h != nil {
			t.Errorf("%s: %v, %v", name, h, err)
		}
	}
}

// sick is an issuer that cannot issue.
type sick struct{ ca.Issuer }

func (sick) Health(context.Context) error { return errors.New("sealed") }

func TestCheck(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	if err := l.host.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.store.Fail = func() error { return errors.New("disk") }
	if err := l.host.Check(t.Context()); err == nil {
		t.Error("without a store")
	}
	l.store.Fail = nil
	l.config.Issuer = sick{l.keydist}
	l.start()
	if err := l.host.Check(t.Context()); err == nil {
		t.Error("without an issuer")
	}
	l.config.Issuer = l.keydist
	l.start()
	l.advance(366 * 24 * time.Hour)
	if err := l.host.Check(t.Context()); err == nil {
		t.Error("after the end of the signer's certificate")
	}
}
