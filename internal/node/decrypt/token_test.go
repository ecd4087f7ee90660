package decrypt

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	"github.com/latchkey-pos/latchkey/internal/keyring"
	"github.com/latchkey-pos/latchkey/internal/node/nodetest"
	nodetoken "github.com/latchkey-pos/latchkey/internal/node/token"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/rogue"
)

// withTokens runs the tests, for which there may be tokens.
type withTokens struct{ m *testing.M }

func (w withTokens) Run() int { return hsmtest.Binary(w.m, 10) }

// loaded is one key of the deployment over a token.
type loaded struct {
	name      string
	algorithm keys.Algorithm
	usage     keys.Usage
	mode      keys.Mode
	material  []byte
}

func (l loaded) key(tb testing.TB) (keyset.KeyRef, keys.Key) {
	a := keys.Attributes{Algorithm: l.algorithm, Usage: l.usage, Mode: l.mode, Exportability: keys.NonExportable}
	return must[keyset.KeyRef](tb)(keyset.ParseKeyRef(l.name)), must[keys.Key](tb)(keys.NewKey(a, l.material))
}

var tokenKeys = []loaded{
	{"alias/zone-1", keys.TDES2, keys.UsagePIN, keys.ModeEncrypt, zoneKey},
	{"alias/bdk-pin", keys.TDES2, keys.UsageBDK, keys.ModeDerive, bdkPIN},
	{"alias/bdk-data", keys.TDES2, keys.UsageBDK, keys.ModeDerive, bdkData},
	{"alias/zone-aes", keys.AES128, keys.UsagePIN, keys.ModeEncrypt, []byte("sixteen bytes of")},
	{"alias/aes-pin", keys.AES128, keys.UsageBDK, keys.ModeDerive, []byte("sixteen of a PIN")},
	{"alias/aes-data", keys.AES128, keys.UsageBDK, keys.ModeDerive, []byte("sixteen of cards")},
}

// tokenPlace is a deployment with a terminal of each scheme.
type tokenPlace struct {
	*place
	aes          *terminal.Bundle
	fingerprints map[string]keys.Fingerprint // by name, in the keyring
}

var sharedToken = sync.OnceValues(buildToken)

func buildToken() (*tokenPlace, error) {
	p := &tokenPlace{place: &place{dir: filepath.Join(scratch, "token")}, fingerprints: map[string]keys.Fingerprint{}}
	d, err := deploy.Create(p.dir, deploy.Options{Tenant: "ACME", Environment: keyset.Test, Passphrase: nodetest.Passphrase})
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }() // everything is written
	op, err := d.Operator(deploy.FirstOperator)
	if err != nil {
		return nil, err
	}
	infos := map[string]engine.KeyInfo{}
	for _, l := range tokenKeys {
		if infos[l.name], err = importKeyOf(d, l.name, l.algorithm, l.usage, l.mode, l.material); err != nil {
			return nil, err
		}
		p.fingerprints[l.name] = infos[l.name].Fingerprint
	}
	for _, s := range []struct {
		id                keyset.ID
		base, zone, first string
		set               *keyset.KeySet
	}{
		{"PINS", "alias/bdk-pin", "alias/zone-1", "FFFF9876543210E00000", keyset.NewTDESPIN()},
		{"CARDS", "alias/bdk-data", "", "FFFF9876543310E00000", keyset.NewTDESData()},
		{"AES-PINS", "alias/aes-pin", "alias/zone-aes", "1234567800000001", keyset.NewAESPIN()},
		{"AES-CARDS", "alias/aes-data", "", "1234567900000001", keyset.NewAESData()},
	} {
		if err := saveTo(d, op, s.set, s.id, infos[s.base], s.first, s.zone); err != nil {
			return nil, err
		}
	}
	register := func(id keyset.TerminalID, pins, cards keyset.ID) (*terminal.Bundle, error) {
		reg := deploy.Registration{
			ID: id, Slots: []deploy.SlotRequest{{Slot: pinSlot, KeySet: pins}, {Slot: dataSlot, KeySet: cards}},
			Endpoints:  []terminal.Endpoint{{URL: "https://127.0.0.1:7443", ServerName: "localhost"}},
			Passphrase: deploy.NewBundlePassphrase(), Signers: []*deploy.Person{op},
		}
		done, err := d.RegisterTerminal(context.Background(), reg)
		if err != nil {
			return nil, err
		}
		return terminal.OpenBundle(reg.Passphrase, done.Bundle)
	}
	if p.bundle, err = register("T-1", "PINS", "CARDS"); err != nil {
		return nil, err
	}
	if p.aes, err = register("T-2", "AES-PINS", "AES-CARDS"); err != nil {
		return nil, err
	}
	if p.trust, err = d.Trust(); err != nil {
		return nil, err
	}
	if p.acquirer, err = d.ServiceCredential(deploy.ServiceAcquirer); err != nil {
		return nil, err
	}
	ring, err := keyring.Create(filepath.Join(p.dir, "secrets"), nodetest.Passphrase) // the service has no key outside the token
	if err == nil {
		ring.Close()
	}
	return p, err
}

// tokenConfig is a configuration over a fresh token that holds these keys.
func tokenConfig(tb testing.TB, hold ...loaded) (*tokenPlace, Config) {
	tb.Helper()
	if !hsm.Built {
		hsmtest.Absent(tb, hsm.ErrNoBridge)
	}
	return configOver(tb, hsmtest.New(tb), hsm.Options{}, hold...)
}

// configOver is a configuration over an empty token, into which these keys are put by one that was opened so.
func configOver(tb testing.TB, it hsmtest.Token, o hsm.Options, hold ...loaded) (*tokenPlace, Config) {
	tb.Helper()
	p := must[*tokenPlace](tb)(sharedToken())
	fingerprints := map[string]string{}
	pin := secret.From([]byte(hsmtest.PIN))
	token := must[*hsm.Token](tb)(hsm.Open(tb.Context(), must[hsm.URI](tb)(hsm.ParseURI(it.URI())), pin, o))
	for _, l := range hold {
		ref, k := l.key(tb)
		info := must[engine.KeyInfo](tb)(token.Import(tb.Context(), ref, k, keyset.Test))
		k.Wipe()
		if l.usage == keys.UsageBDK {
			fingerprints[info.Fingerprint.String()] = p.fingerprints[l.name].String()
		}
	}
	if err := token.Close(); err != nil {
		tb.Fatal(err)
	}
	own := tb.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(own, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
		return path
	}
	c := DefaultConfig()
	c.Folder, c.Tenant, c.Environment, c.PassphraseFile = p.dir, "ACME", "test", nodetest.PassphraseFile(tb)
	c.Listen, c.Admin, c.Keyring = "127.0.0.1:0", "127.0.0.1:0", "secrets"
	c.Database, c.CheckpointFile = filepath.Join(own, "decryptd.db"), filepath.Join(own, "checkpoint")
	c.Callers = []CallerConfig{{Name: "ACQ-1", PINKeys: []string{"alias/zone-1", "alias/zone-aes"}}}
	c.HSM = &nodetoken.Config{URI: it.URI(), PINFile: write("pin", hsmtest.PIN+"\n"), Sessions: 2, Cache: 64, Fingerprints: fingerprints}
	return p, c
}

// TestSalesFromAToken makes a sale of each scheme whose keys are in the token and nowhere else.
func TestSalesFromAToken(t *testing.T) {
	t.Parallel()
	p, c := tokenConfig(t, tokenKeys...)
	r := start(t, p.place, c)
	for _, till := range []struct {
		bundle  *terminal.Bundle
		mode    string
		pinKey  string
		zoneFmt string
	}{
		{p.bundle, "bdk-in-token", "alias/zone-1", "ISO_FORMAT_0"},
		{p.aes, "token", "alias/zone-aes", "ISO_FORMAT_4"},
	} {
		r.card = must[*rogue.Terminal](t)(rogue.New(till.bundle))
		tx := must[*api.TransactionResponse](t)(r.api().Transaction(t.Context(), api.TransactionRequest{Message: r.sale(1, 1234)}))
		if tx.CounterStatus != api.Fresh || len(tx.Fields) != 2 || tx.Amount.Minor != 1234 {
			t.Fatalf("%s: transaction %+v", till.mode, tx)
		}
		if card := tx.Fields[0]; !strings.HasPrefix(string(card.ClearData), testTrack) || card.Labels.KeyMode != till.mode {
			t.Errorf("%s: card %q, labels %+v", till.mode, card.MaskedPAN, card.Labels)
		}
		block := tx.Fields[1]
		if block.PINKey != till.pinKey || block.PINFormat != till.zoneFmt || block.PINBlock == "" || block.Labels.KeyMode != till.mode || block.Labels.PINExposure != "host-memory" {
			t.Errorf("%s: PIN field %+v", till.mode, block)
		}
		done := must[*api.AnswerResponse](t)(r.api().Answer(t.Context(), api.AnswerRequest{RequestDigest: tx.RequestDigest, Result: api.Approved}))
		if a := must[*message.AckPayload](t)(r.card.Ack(done.Ack, dataSlot, 1)); a.Result != message.Approved || done.Labels.KeyMode != till.mode {
			t.Errorf("%s: ack %+v, labels %+v", till.mode, a, done.Labels)
		}
	}
	modes := map[string]int{}
	for _, rec := range nodetest.Records(t, c.Database) {
		modes[rec.Labels.KeyMode]++
	}
	if modes["token"] == 0 || modes["bdk-in-token"] == 0 || modes["software"] != 0 {
		t.Errorf("key modes in the audit log: %v", modes)
	}
	_, metrics := r.admin("/metrics")
	for _, want := range []string{
		`latchkey_key_set_info{environment="test",key_mode="token",key_set="AES-PINS",pin_exposure="host-memory",state="active"} 1`,
		`latchkey_key_set_info{environment="test",key_mode="bdk-in-token",key_set="CARDS",pin_exposure="host-memory",state="active"} 1`,
		"latchkey_hsm_connected 1", "latchkey_hsm_reconnects_total 0", "latchkey_hsm_searches_total 1", "latchkey_hsm_restarts_total", "latchkey_hsm_retries_total 0",
		"latchkey_hsm_evictions_total 0", "latchkey_hsm_sessions_in_use 0", "latchkey_hsm_session_waits_total ", "latchkey_hsm_session_wait_seconds_total ",
		"latchkey_hsm_session_timeouts_total 0", "latchkey_hsm_oldest_call_seconds 0",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	for _, moved := range []string{"latchkey_hsm_derivations_total 0", "latchkey_hsm_cached_keys 0"} {
		if strings.Contains(metrics, moved+"\n") {
			t.Errorf("metrics say %s", moved)
		}
	}
	if status, body := r.admin("/readyz"); status != 200 {
		t.Errorf("not ready: %s", body)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if log := r.log.String(); !strings.Contains(log, "base key in the token") || strings.Contains(log, hsmtest.PIN) {
		t.Errorf("log %s", log)
	}
}

// TestTokenRefusesStart has the start end for every reason, with the reason.
func TestTokenRefusesStart(t *testing.T) {
	t.Parallel()
	_, good := tokenConfig(t, tokenKeys...)
	_, empty := tokenConfig(t, tokenKeys[2:]...)
	quiet := slog.New(slog.DiscardHandler)
	if err := Check(t.Context(), good, quiet); err != nil {
		t.Fatal(err)
	}
	file := func(t *testing.T, text string, mode fs.FileMode) string {
		path := filepath.Join(t.TempDir(), "pin")
		if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tt := range []struct {
		name   string
		from   Config
		change func(*testing.T, *nodetoken.Config, *Config)
		kind   error
		want   string
	}{
		{"wrong PIN", good, func(t *testing.T, h *nodetoken.Config, _ *Config) { h.PINFile = file(t, "00000000", 0o600) }, hsm.ErrPIN, "hsm"},
		{"no PIN file", good, func(_ *testing.T, h *nodetoken.Config, _ *Config) { h.PINFile += "x" }, fs.ErrNotExist, "pin-file"},
		{"a folder for a PIN file", good, func(t *testing.T, h *nodetoken.Config, _ *Config) { h.PINFile = t.TempDir() }, nil, "regular"},
		{"readable PIN file", good, func(t *testing.T, h *nodetoken.Config, _ *Config) { h.PINFile = file(t, hsmtest.PIN, 0o640) }, seal.ErrExposed, "mode 0640"},
		{"empty PIN file", good, func(t *testing.T, h *nodetoken.Config, _ *Config) { h.PINFile = file(t, "\n", 0o600) }, nil, "1 to 255"},
		{"long PIN", good, func(t *testing.T, h *nodetoken.Config, _ *Config) {
			h.PINFile = file(t, strings.Repeat("1", 256), 0o600)
		}, nil, "1 to 255"},
		{"two lines", good, func(t *testing.T, h *nodetoken.Config, _ *Config) { h.PINFile = file(t, hsmtest.PIN+"\n\n", 0o600) }, nil, "one line"},
		{"no module", good, func(_ *testing.T, h *nodetoken.Config, _ *Config) { h.URI = "pkcs11:token=a?module-path=/nowhere.so" }, hsm.ErrModule, "hsm"},
		{"no token", good, func(_ *testing.T, h *nodetoken.Config, _ *Config) {
			h.URI = strings.Replace(h.URI, "token=", "token=no-", 1)
		}, hsm.ErrNoToken, "hsm"},
		{"no base key", empty, func(_ *testing.T, _ *nodetoken.Config, c *Config) { c.Callers[0].PINKeys = nil }, deploy.ErrDocument, "the token has no base key alias/bdk-pin"},
		{"no zone key", empty, func(*testing.T, *nodetoken.Config, *Config) {}, engine.ErrKeyNotFound, "pin-keys of caller ACQ-1"},
		{"a base key for a zone key", good, func(_ *testing.T, _ *nodetoken.Config, c *Config) { c.Callers[0].PINKeys = []string{"alias/bdk-pin"} }, engine.ErrUsage, "pin-keys of caller ACQ-1"},
		{"fingerprints of no key", good, func(_ *testing.T, h *nodetoken.Config, _ *Config) {
			h.Fingerprints = map[string]string{strings.Repeat("1", 32): strings.Repeat("2", 32)}
		}, engine.ErrKeyNotFound, "fingerprints"},
		{"key sets of another key", good, func(_ *testing.T, h *nodetoken.Config, _ *Config) { h.Fingerprints = nil }, deploy.ErrDocument, "fingerprint"},
	} {
		t.Run(tt.name, func(t *testing.T) { // in turn: two tokens
			c := tt.from
			own := *c.HSM
			c.HSM, c.Callers = &own, []CallerConfig{c.Callers[0]}
			tt.change(t, c.HSM, &c)
			err := Check(t.Context(), c, quiet)
			if err == nil || tt.kind != nil && !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %v and %q", err, tt.kind, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), hsmtest.PIN) {
				t.Errorf("the PIN is told: %v", err)
			}
		})
	}
	if err := Check(t.Context(), good, quiet); err != nil {
		t.Errorf("the good one afterwards: %v", err)
	}
}

// TestWithoutBridge wants a program without the bridge to say so, and one with it to look for the module.
func TestWithoutBridge(t *testing.T) {
	t.Parallel()
	_, c := testConfig(t)
	pin := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(pin, []byte("1234"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.HSM = &nodetoken.Config{URI: "pkcs11:token=a?module-path=/nowhere.so", PINFile: pin, Sessions: 1, Cache: -1}
	want := hsm.ErrNoBridge
	if hsm.Built {
		want = hsm.ErrModule
	}
	if err := Check(t.Context(), c, slog.New(slog.DiscardHandler)); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

// TestStuckEndsTheService has the module not return while the service runs: it ends with an error.
func TestStuckEndsTheService(t *testing.T) {
	t.Parallel()
	_, c := tokenConfig(t, tokenKeys...)
	n := must[*node](t)(open(t.Context(), c, slog.New(slog.DiscardHandler)))
	err := n.serve(t.Context(), func(Addrs) { n.token.Abandon() })
	if !errors.Is(err, nodetoken.ErrStuck) {
		t.Errorf("stuck: %v", err)
	}
	if err := n.close(); err != nil {
		t.Error(err)
	}
	if list := n.token.List(); len(list) != len(tokenKeys) { // catalogs go on with what was there
		t.Errorf("without the token %d keys are known", len(list))
	}
}

// TestTokenLost takes the token away while the service runs, and gives it back. It is on its own, because the module is
// started anew for it, and other tokens of the module with it.
func TestTokenLost(t *testing.T) {
	p, c := tokenConfig(t, tokenKeys...)
	r := start(t, p.place, c)
	must[*api.TransactionResponse](t)(r.api().Transaction(t.Context(), api.TransactionRequest{Message: r.sale(1, 1)}))
	back := takeAway(t, c.HSM.URI)
	ask := func(ordinal uint32) error {
		_, err := r.api().Transaction(t.Context(), api.TransactionRequest{Message: r.sale(ordinal, 1)})
		return err
	}
	for !strings.Contains(r.log.String(), "token stays away") { // each request may have it looked for
		if err := ask(2); !api.IsCode(err, string(decrypt.CodeEngineUnavailable)) {
			t.Fatalf("while the token is away: %v", err)
		}
	}
	if status, body := r.admin("/readyz"); status != 503 || !strings.Contains(body, `"keys":"failed"`) || !strings.Contains(body, `"catalog":"ok"`) {
		t.Errorf("while the token is away: %d %s", status, body)
	}
	if _, metrics := r.admin("/metrics"); !strings.Contains(metrics, "latchkey_hsm_connected 0") {
		t.Error("metrics say that the token is there")
	}
	back()
	for deadline := time.Now().Add(10 * time.Second); ; {
		err := ask(3)
		if err == nil {
			break
		}
		if !api.IsCode(err, string(decrypt.CodeEngineUnavailable)) || time.Now().After(deadline) {
			t.Fatalf("after the token is back: %v\n%s", err, r.log.String())
		}
	}
	if tx := must[*api.TransactionResponse](t)(r.api().Transaction(t.Context(), api.TransactionRequest{Message: r.sale(2, 1)})); tx.CounterStatus != api.Fresh {
		t.Errorf("what was refused while it was away: %v", tx.CounterStatus)
	}
	if status, body := r.admin("/readyz"); status != 200 {
		t.Errorf("after the token is back: %d %s", status, body)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}

// takeAway moves the folder of a token away.
func takeAway(t *testing.T, uri string) func() {
	t.Helper()
	conf := must[[]byte](t)(os.ReadFile(os.Getenv("SOFTHSM2_CONF")))
	first, _, _ := strings.Cut(string(conf), "\n")
	_, dir, _ := strings.Cut(first, "= ")
	label, _, _ := strings.Cut(strings.TrimPrefix(uri, "pkcs11:token="), "?")
	for _, e := range must[[]os.DirEntry](t)(os.ReadDir(dir)) {
		path := filepath.Join(dir, e.Name())
		object := must[[]byte](t)(os.ReadFile(filepath.Join(path, "token.object")))
		if strings.Contains(string(object), label) {
			away := filepath.Join(t.TempDir(), "away")
			if err := os.Rename(path, away); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := os.Rename(away, path); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	t.Fatal("no such token")
	return nil
}
