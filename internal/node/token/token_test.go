package token

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/ca/embedded"
)

func TestMain(m *testing.M) { os.Exit(hsmtest.Binary(m, 2)) }

var quiet = slog.New(slog.DiscardHandler)

// fresh is the configuration of an empty token.
func fresh(t *testing.T) (*Config, string) {
	t.Helper()
	if !hsm.Built {
		hsmtest.Absent(t, hsm.ErrNoBridge)
	}
	pin := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(pin, []byte(hsmtest.PIN+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return &Config{URI: hsmtest.New(t).URI(), PINFile: pin, Sessions: 1, Cache: 1}, pin
}

// TestOpenRefuses has a configuration that was never checked, and one that cannot be had.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	good, pin := fresh(t)
	for name, tt := range map[string]struct {
		change func(*Config)
		pin    string
		want   error
		text   string
	}{
		"no URI":           {func(c *Config) { c.URI = "nonsense" }, pin, hsm.ErrURI, "uri"},
		"no fingerprint":   {func(c *Config) { c.Fingerprints = map[string]string{"x": "y"} }, pin, nil, "fingerprints"},
		"no PIN file":      {func(*Config) {}, pin + "x", ErrPINFile, "pin-file"},
		"too many":         {func(c *Config) { c.Sessions = 1 << 20 }, pin, nil, "out of range"},
		"no such key":      {func(c *Config) { c.Fingerprints = map[string]string{strings.Repeat("1", 32): strings.Repeat("2", 32)} }, pin, engine.ErrKeyNotFound, "fingerprints"},
		"no such token":    {func(c *Config) { c.URI = strings.Replace(c.URI, "token=", "token=no-", 1) }, pin, hsm.ErrNoToken, "no-"},
		"cannot be loaded": {func(c *Config) { c.URI = "pkcs11:token=a?module-path=/nowhere.so" }, pin, hsm.ErrModule, "nowhere"},
	} {
		c := *good
		tt.change(&c)
		got, err := Open(t.Context(), &c, Transactions, tt.pin, quiet)
		if err == nil || got != nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(cancelled, good, Signatures, pin, quiet); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestClosed asks a token that is closed for everything: it says so, and lists what was there.
func TestClosed(t *testing.T) {
	t.Parallel()
	c, pin := fresh(t)
	token, err := Open(t.Context(), c, Distribution, pin, quiet)
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	if err := token.Watch(registry); err != nil {
		t.Fatal(err)
	}
	if err := token.Watch(registry); err == nil {
		t.Error("the same metrics twice")
	}
	if err := token.Report(t.Context(), quiet); err != nil {
		t.Error(err)
	}
	if err := token.Close(); err != nil {
		t.Fatal(err)
	}
	if err := token.Report(t.Context(), quiet); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("Report: %v", err)
	}
	if list := token.List(); len(list) != 0 {
		t.Errorf("List: %v", list)
	}
	if _, err := token.Signer(t.Context(), "pkcs11:object=a"); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("Signer: %v", err)
	}
	if err := token.has(t.Context()); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("fingerprints: %v", err)
	}
	if _, err := registry.Gather(); err != nil {
		t.Errorf("metrics: %v", err)
	}
}

// TestKeysWithoutToken refuses members that name keys in a token that there is none of, and what is no name.
func TestKeysWithoutToken(t *testing.T) {
	t.Parallel()
	var none *Token
	path := func(name string) string { return "/folder/" + name }
	if k, err := none.Key(t.Context(), "key", "a.sealed", path, secret.Bytes{}); err != nil || k.File != "/folder/a.sealed" || k.Held != nil {
		t.Errorf("a sealed file: %+v, %v", k.File, err)
	}
	if _, err := none.Key(t.Context(), "key", "pkcs11:object=a", path, secret.Bytes{}); err == nil || !strings.Contains(err.Error(), "key: it is in a token") {
		t.Errorf("a key in no token: %v", err)
	}
	if _, err := none.Signer(t.Context(), "pkcs11:nonsense"); !errors.Is(err, hsm.ErrURI) {
		t.Errorf("what is no URI: %v", err)
	}
	if _, err := none.Issuer(t.Context(), "/nowhere", "pkcs11:object=a", secret.Bytes{}, embedded.Options{}); err == nil || !strings.Contains(err.Error(), "issuer-key") {
		t.Errorf("an issuer in no token: %v", err)
	}
	if _, err := none.Issuer(t.Context(), "/nowhere", "", secret.Bytes{}, embedded.Options{}); err == nil || !strings.Contains(err.Error(), "issuer") {
		t.Errorf("an issuer that is not there: %v", err)
	}
	var c *Config
	if err := c.Complete([]byte("\t")); err == nil {
		t.Error("a file that is no YAML is completed")
	}
	if err := c.Complete([]byte("hsm:")); err == nil {
		t.Error("an empty section is completed")
	}
}
