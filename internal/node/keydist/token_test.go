package keydist

import (
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
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	"github.com/latchkey-pos/latchkey/internal/keyring"
	"github.com/latchkey-pos/latchkey/internal/node/nodetest"
	"github.com/latchkey-pos/latchkey/internal/node/token"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/embedded"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/keydist/keydisttest"
)

// withTokens runs the tests, for which there may be tokens.
type withTokens struct{ m *testing.M }

func (w withTokens) Run() int { return hsmtest.Binary(w.m, 4) }

// blockKeys are the base keys of a maker of key blocks.
func blockKeys(t *testing.T) (out []keydisttest.BlockKey) {
	t.Helper()
	for _, k := range []struct {
		name, id  string
		algorithm keys.Algorithm
		material  []byte
	}{
		{"alias/bdk-tdes", "FFFF9876543210E00000", keys.TDES2, bdk}, {"alias/bdk-aes", "1234567800000001", keys.AES128, []byte("sixteen of cards")},
		{"alias/bdk-aes-256", "1234567900000001", keys.AES256, []byte("thirty-two bytes of a base key, ")},
	} {
		key := must[keys.Key](t)(keys.NewKey(keys.Attributes{
			Algorithm: k.algorithm, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
		}, k.material))
		t.Cleanup(key.Wipe)
		out = append(out, keydisttest.BlockKey{
			Ref: must[keyset.KeyRef](t)(keyset.ParseKeyRef(k.name)), Key: key, KeyID: must[dukpt.KeyID](t)(dukpt.ParseKeyID(k.id)),
		})
	}
	return out
}

// openTest logs in to a fresh token. Without the bridge the test is skipped.
func openTest(t *testing.T) *hsm.Token {
	t.Helper()
	if !hsm.Built {
		hsmtest.Absent(t, hsm.ErrNoBridge)
	}
	pin := secret.From([]byte(hsmtest.PIN))
	defer pin.Wipe()
	it := must[*hsm.Token](t)(hsm.Open(t.Context(), must[hsm.URI](t)(hsm.ParseURI(hsmtest.New(t).URI())), pin, hsm.Options{}))
	t.Cleanup(func() { _ = it.Close() })
	return it
}

// TestBlocks holds both makers of key blocks to the suite.
func TestBlocks(t *testing.T) {
	t.Parallel()
	held, absent := blockKeys(t), must[keyset.KeyRef](t)(keyset.ParseKeyRef("alias/none"))
	t.Run("keyring", func(t *testing.T) {
		ring := must[*keyring.Ring](t)(keyring.Create(filepath.Join(t.TempDir(), "ring"), nodetest.Passphrase))
		t.Cleanup(ring.Close)
		for _, h := range held {
			must[engine.KeyInfo](t)(ring.Import(h.Ref, h.Key, keyset.Test))
		}
		keydisttest.RunBlocks(t, remote.InHost(ring.InitialKey), held, absent, remote.ClearInHost)
	})
	t.Run("token", func(t *testing.T) {
		it := openTest(t)
		for _, h := range held {
			must[engine.KeyInfo](t)(it.Distribution().Import(t.Context(), h.Ref, h.Key, keyset.Test))
		}
		keydisttest.RunBlocks(t, remote.InHost(it.Distribution().InitialKey), held, absent, remote.ClearInHost)
	})
}

// tokenPlace is a deployment whose key-distribution host has all its keys in a token, with key sets on base keys of that token.
func tokenPlace(t *testing.T) (*place, Config, *hsm.Token) {
	t.Helper()
	it := openTest(t)
	p := &place{dir: filepath.Join(t.TempDir(), "pos")}
	d := must[*deploy.Deployment](t)(deploy.Create(p.dir, deploy.Options{
		Tenant: "ACME", Environment: keyset.Test, Passphrase: nodetest.Passphrase,
		Key: func(name string, curve elliptic.Curve) (crypto.Signer, error) {
			if !slices.Contains([]string{deploy.SignerKDH, deploy.ServiceKeydist, deploy.IssuingKey(identity.KeyDistCA)}, name) {
				return nil, nil
			}
			return it.GenerateSigner(t.Context(), name, curve)
		},
	}))
	defer d.Close()
	for i, h := range blockKeys(t)[:2] {
		info := must[engine.KeyInfo](t)(it.Distribution().Import(t.Context(), h.Ref, h.Key, keyset.Test))
		set := []func() *keyset.KeySet{keyset.NewTDESData, keyset.NewAESData}[i]()
		set.ID, set.Tenant, set.Environment, set.Delivery = []keyset.ID{"CARDS", "AES-CARDS"}[i], "ACME", keyset.Test, keyset.Code
		set.BaseKey, set.BaseKeyFingerprint, set.FirstID, set.LastID = info.Ref, info.Fingerprint, h.KeyID, h.KeyID
		set.Algorithm = info.Attributes.Algorithm
		if h.KeyID.Scheme() == dukpt.TDES {
			set.LastID = must[dukpt.KeyID](t)(dukpt.ParseKeyID("FFFF98765432FFE00000"))
		}
		op := must[*deploy.Person](t)(d.Operator(deploy.FirstOperator))
		doc := must[[]byte](t)(op.Sign(keyset.KindKeySet, must[[]byte](t)(keyset.Marshal(set))))
		if _, err := d.SaveKeySet(doc); !errors.Is(err, deploy.ErrDocument) {
			t.Errorf("a set on a base key that nobody has shown: %v", err)
		}
		must[*keyset.KeySet](t)(d.SaveKeySet(doc, info))
	}
	var err error
	if p.trust, err = d.Trust(); err != nil {
		t.Fatal(err)
	}
	if p.ra, err = d.ServiceCredential(deploy.ServiceRA); err != nil {
		t.Fatal(err)
	}
	check(t, p.enrol(d))
	own := t.TempDir()
	c := DefaultConfig()
	c.Folder, c.Tenant, c.Environment, c.PassphraseFile = p.dir, "ACME", "test", nodetest.PassphraseFile(t)
	c.Listen, c.Admin, c.Keyring = "127.0.0.1:0", "127.0.0.1:0", "nowhere"
	c.Database, c.CheckpointFile = filepath.Join(own, "keyd.db"), filepath.Join(own, "checkpoint")
	c.Key, c.SignerKey = "pkcs11:object="+deploy.ServiceKeydist, "pkcs11:object="+deploy.SignerKDH+";type=private"
	c.IssuerKey = "pkcs11:object=" + deploy.IssuingKey(identity.KeyDistCA)
	pin := filepath.Join(own, "pin")
	check(t, os.WriteFile(pin, []byte(hsmtest.PIN+"\n"), 0o600))
	c.HSM = &token.Config{URI: it.URI().String(), PINFile: pin, Sessions: 2, Cache: token.DefaultCache}
	return p, c, it
}

// TestDeliveriesFromAToken delivers a key of each scheme whose base key is in a token and nowhere else, under certificates whose
// keys are there too; and says what it did.
func TestDeliveriesFromAToken(t *testing.T) {
	t.Parallel()
	p, c, it := tokenPlace(t)
	r := start(t, p, c)
	d := r.enrol()
	for set, h := range map[keyset.ID]keydisttest.BlockKey{"CARDS": blockKeys(t)[0], "AES-CARDS": blockKeys(t)[1]} {
		base := must[*dukpt.BaseKey](t)(dukpt.NewBaseKey(h.Key))
		defer base.Wipe()
		want := must[*dukpt.InitialKey](t)(base.Derive(h.KeyID)).Key()
		defer want.Wipe()
		o := d.order(set)
		if kcv := d.open(o, must[*remote.Delivery](t)(r.ra().Deliver(t.Context(), o))); kcv != want.KCV().String() {
			t.Errorf("%s: check value %s, want %v", set, kcv, want.KCV())
		}
	}
	if status, body := r.admin("/readyz"); status != 200 {
		t.Errorf("readiness %d %s", status, body)
	}
	_, metrics := r.admin("/metrics")
	for _, want := range []string{
		`latchkey_key_set_info{delivery="code",delivery_exposure="clear-in-host",environment="test",key_mode="bdk-in-token",key_set="AES-CARDS",pin_exposure="host-memory",state="active"} 1`,
		"latchkey_hsm_connected 1", "latchkey_hsm_derivations_total 0",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	check(t, r.stop())
	labels := audit.Labels{KeyMode: "bdk-in-token", PINExposure: "host-memory", Environment: "test"}
	delivered := 0
	for _, l := range nodetest.Records(t, c.Database) {
		if l.Result == "DELIVERED" {
			delivered++
			if l.Reason != "clear-in-host" || l.Labels != labels || l.KCV == "" {
				t.Errorf("record %+v", l)
			}
		}
	}
	if delivered != 2 {
		t.Errorf("%d deliveries are recorded", delivered)
	}
	refusesAToken(t, c, it)
}

// refusesAToken starts the host with something wrong each.
func refusesAToken(t *testing.T, good Config, it *hsm.Token) {
	t.Helper()
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   error
		text   string
	}{
		{"the key of another certificate", func(c *Config) { c.SignerKey = c.IssuerKey }, ca.ErrOtherKey, "signer-certificate"},
		{"an issuer of another key", func(c *Config) { c.IssuerKey = c.SignerKey }, ca.ErrOtherKey, "issuer"},
		{"a listener of another key", func(c *Config) { c.Key = c.SignerKey }, ca.ErrOtherKey, "certificate"},
		{"no such key", func(c *Config) { c.SignerKey = "pkcs11:object=nobody" }, engine.ErrKeyNotFound, "signer-key"},
		{"an issuer without its key", func(c *Config) { c.IssuerKey = "" }, embedded.ErrNoKey, "issuer"},
		{"no PIN", func(c *Config) { c.HSM.PINFile += "x" }, token.ErrPINFile, "pin-file"},
		{"a readable PIN", func(c *Config) { check(t, os.Chmod(c.HSM.PINFile, 0o644)) }, seal.ErrExposed, "pin-file"},
		{"fingerprints of no key", func(c *Config) {
			c.HSM.Fingerprints = map[string]string{strings.Repeat("0", 32): strings.Repeat("1", 32)}
		}, engine.ErrKeyNotFound, "fingerprints"},
		{"a key in a token without a section", func(c *Config) { c.HSM = nil }, nil, "there is no section hsm"},
	} {
		c := good
		section := *good.HSM
		c.HSM = &section
		tt.change(&c)
		err := Check(t.Context(), c, slog.New(slog.DiscardHandler))
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v, want %v and %q", tt.name, err, tt.want, tt.text)
		}
		check(t, os.Chmod(good.HSM.PINFile, 0o600))
	}
	// A base key for transactions is none for distribution.
	third := blockKeys(t)[2]
	must[engine.KeyInfo](t)(it.Import(t.Context(), third.Ref, third.Key, keyset.Test))
	own := must[*token.Token](t)(token.Open(t.Context(), good.HSM, token.Distribution, good.HSM.PINFile, slog.New(slog.DiscardHandler)))
	if list := own.List(); len(list) != 2 {
		t.Errorf("%d keys for distribution, want 2", len(list))
	}
	check(t, own.Close())
	if list := own.List(); len(list) != 2 { // catalogs go on with what was there
		t.Errorf("without the token %d keys are known", len(list))
	}
	other := must[*token.Token](t)(token.Open(t.Context(), good.HSM, token.Transactions, good.HSM.PINFile, slog.New(slog.DiscardHandler)))
	if list := other.List(); len(list) != 1 || list[0].Ref != third.Ref {
		t.Errorf("keys for transactions: %+v", list)
	}
	check(t, other.Close())
	if err := Check(t.Context(), good, slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("the good one afterwards: %v", err)
	}
}
