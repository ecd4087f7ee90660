package provision

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	"github.com/latchkey-pos/latchkey/internal/node/nodetest"
	"github.com/latchkey-pos/latchkey/internal/node/token"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/embedded"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
)

// withTokens runs the tests, for which there may be tokens.
type withTokens struct{ m *testing.M }

func (w withTokens) Run() int { return hsmtest.Binary(w.m, 2) }

// TestKeysInAToken runs an authority whose three private keys are in a token: people get in over TLS, the feed is signed, and a
// health check uses the issuer's key.
func TestKeysInAToken(t *testing.T) {
	t.Parallel()
	if !hsm.Built {
		hsmtest.Absent(t, hsm.ErrNoBridge)
	}
	own := t.TempDir()
	pin := secret.From([]byte(hsmtest.PIN))
	defer pin.Wipe()
	it := must[*hsm.Token](t)(hsm.Open(t.Context(), must[hsm.URI](t)(hsm.ParseURI(hsmtest.New(t).URI())), pin, hsm.Options{}))
	defer it.Close()
	names := []string{deploy.ServiceRA, deploy.SignerRegistry, deploy.IssuingKey(identity.TerminalCA)}
	p := &place{dir: filepath.Join(own, "pos")}
	d := must[*deploy.Deployment](t)(deploy.Create(p.dir, deploy.Options{
		Tenant: "ACME", Environment: keyset.Test, Passphrase: nodetest.Passphrase,
		Key: func(name string, curve elliptic.Curve) (crypto.Signer, error) {
			if !slices.Contains(names, name) {
				return nil, nil
			}
			return it.GenerateSigner(t.Context(), name, curve)
		},
	}))
	defer d.Close()
	p.operator = must[*deploy.Person](t)(d.Operator(deploy.FirstOperator)).TLS()
	var err error
	if p.trust, err = d.Trust(); err != nil {
		t.Fatal(err)
	}
	r := &running{tb: t, place: p, config: DefaultConfig()}
	c := &r.config
	c.Folder, c.Tenant, c.Environment, c.PassphraseFile = p.dir, "ACME", "test", nodetest.PassphraseFile(t)
	c.Terminals, c.Services, c.Publication, c.Admin = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.Database, c.CheckpointFile = filepath.Join(own, "provisiond.db"), filepath.Join(own, "checkpoint")
	c.Key, c.SignerKey, c.IssuerKey = "pkcs11:object="+names[0], "pkcs11:object="+names[1], "pkcs11:object="+names[2]
	c.HSM = &token.Config{URI: it.URI().String(), PINFile: filepath.Join(own, "pin"), Sessions: 1, Cache: token.DefaultCache}
	if err := os.WriteFile(c.HSM.PINFile, []byte(hsmtest.PIN+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := *c
	r.again()
	must[[]admin.Terminal](t)(r.operator().Terminals(t.Context()))
	if status, body := nodetest.Get(t, "http://"+r.ra.Addrs.Admin+"/readyz"); status != 200 || !strings.Contains(body, `"issuer":"ok"`) {
		t.Errorf("readiness %d %s", status, body)
	}
	if _, metrics := nodetest.Get(t, "http://"+r.ra.Addrs.Admin+"/metrics"); !strings.Contains(metrics, "latchkey_hsm_connected 1") {
		t.Error("metrics say nothing of the token")
	}
	if err := r.ra.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   error
		text   string
	}{
		{"an issuer of another key", func(c *Config) { c.IssuerKey = c.SignerKey }, ca.ErrOtherKey, "issuer"},
		{"an issuer without its key", func(c *Config) { c.IssuerKey = "" }, embedded.ErrNoKey, "issuer"},
		{"a listener of another key", func(c *Config) { c.Key = c.SignerKey }, ca.ErrOtherKey, "certificate"},
		{"a signer of another key", func(c *Config) { c.SignerKey = c.Key }, ca.ErrOtherKey, "signer-certificate"},
		{"no such signer", func(c *Config) { c.SignerKey += "x" }, engine.ErrKeyNotFound, "signer-key"},
		{"no such issuer", func(c *Config) { c.IssuerKey += "x" }, engine.ErrKeyNotFound, "issuer-key"},
		{"no such listener", func(c *Config) { c.Key += "x" }, engine.ErrKeyNotFound, "key"},
		{"no PIN", func(c *Config) { c.HSM.PINFile += "x" }, token.ErrPINFile, "pin-file"},
	} {
		c := good
		section := *good.HSM
		c.HSM = &section
		tt.change(&c)
		if err := Check(context.Background(), c, slog.New(slog.DiscardHandler)); !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v, want %v and %q", tt.name, err, tt.want, tt.text)
		}
	}
}
