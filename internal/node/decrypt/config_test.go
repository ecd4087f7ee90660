package decrypt

import (
	"reflect"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/internal/node/nodetest"
)

const goodConfig = `tenant: ACME
environment: test
passphrase-file: pass
callers:
  - name: ACQ-1
    pin-keys: [alias/zone-1]
`

func TestDefaultsComeFromTheComments(t *testing.T) {
	t.Parallel()
	c, err := ParseConfig([]byte(goodConfig))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:8443" || c.Admin != "127.0.0.1:9443" || c.Instance != "DECRYPT-1" ||
		c.Database != "decryptd.db" || time.Duration(c.CheckpointEvery) != time.Minute {
		t.Errorf("defaults %+v", c)
	}
}

// TestConfigRefuses has one case for every rule; each text differs from the good one in one place.
func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	nodetest.RefusesConfig(t, goodConfig, ParseConfig, []nodetest.Changed{
		{"address without port", "tenant:", "listen: localhost\ntenant:", "listen"},
		{"no callers", "callers:\n  - name: ACQ-1\n    pin-keys: [alias/zone-1]\n", "", "callers"},
		{"caller twice", "callers:\n", "callers:\n  - name: ACQ-1\n", "twice"},
		{"bad caller", "ACQ-1", "acq 1", "caller 1"},
		{"key reference upwards", "alias/zone-1", "alias/../zone-1", "pin-keys"},
		{"key reference encoded", "alias/zone-1", "alias%252Fzone-1", "pin-keys"},
		{"registry without anything", "tenant:", "registry:\ntenant:", "registry"},
		{"registry of nobody", "tenant:", "registry: {}\ntenant:", "urls"},
		{"registry as a text", "tenant:", "registry: https://ra:8445\ntenant:", "RegistryConfig"},
		{"registry without urls", "tenant:", "registry: {cache: x}\ntenant:", "urls"},
		{"unknown member of the registry", "tenant:", "registry: {urls: ['https://ra:8445'], url: x}\ntenant:", "url"},
		{"plain registry", "tenant:", "registry: {urls: ['http://ra:8445']}\ntenant:", "number 1"},
		{"registry with a path", "tenant:", "registry: {urls: ['https://ra:8445/registry/feed']}\ntenant:", "number 1"},
		{"registry with a name in it", "tenant:", "registry: {urls: ['https://me@ra:8445']}\ntenant:", "number 1"},
		{"registry without a host", "tenant:", "registry: {urls: ['https://']}\ntenant:", "number 1"},
		{"registry twice", "tenant:", "registry: {urls: ['https://ra:8445', 'https://ra:8445']}\ntenant:", "number 2"},
		{"registry stale at once", "tenant:", "registry: {urls: ['https://ra:8445'], stale-after: 1s}\ntenant:", "stale-after"},
		{"registry never stale", "tenant:", "registry: {urls: ['https://ra:8445'], stale-after: 25h}\ntenant:", "stale-after"},
		{"unknown member of a caller", "    pin-keys", "    role: admin\n    pin-keys", "role"},
	}...)
}

func TestRegistryDefaults(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]RegistryConfig{
		"registry: {urls: ['https://ra:8445']}": {
			URLs: []string{"https://ra:8445"}, Certificate: "services/decrypt/cert.pem", Key: "services/decrypt/key.sealed",
			StaleAfter: daemon.Duration(5 * time.Minute), Cache: "registry.cache",
		},
		"registry: {urls: ['https://ra:8445', 'https://[::1]:8445'], certificate: c, key: k, stale-after: 10s, cache: f}": {
			URLs: []string{"https://ra:8445", "https://[::1]:8445"}, Certificate: "c", Key: "k", StaleAfter: daemon.Duration(10 * time.Second), Cache: "f",
		},
		"certificate: own\nregistry: {urls: ['https://ra:8445']}": {
			URLs: []string{"https://ra:8445"}, Certificate: "own", Key: "services/decrypt/key.sealed",
			StaleAfter: daemon.Duration(5 * time.Minute), Cache: "registry.cache",
		},
	} {
		c := must[Config](t)(ParseConfig([]byte(goodConfig + text)))
		if err := c.Check(); err != nil || c.Registry == nil || !reflect.DeepEqual(*c.Registry, want) {
			t.Errorf("%s: %v, %+v, want %+v", text, err, c.Registry, want)
		}
	}
	if c := must[Config](t)(ParseConfig([]byte(goodConfig))); c.Registry != nil {
		t.Errorf("a file that says nothing follows %+v", c.Registry)
	}
}

// FuzzParseConfig holds the reader of the file to refusing or giving what Check can decide on.
func FuzzParseConfig(f *testing.F) {
	nodetest.FuzzConfig(f, goodConfig, ParseConfig, func(c Config) bool {
		whole := c.HSM == nil || c.HSM.URI != "" && c.HSM.PINFile != "" && c.HSM.Sessions > 0 && c.HSM.Cache != 0
		return whole && len(c.Callers) > 0 && c.Tenant != "" && c.PassphraseFile != ""
	})
}

// TestFollow follows other addresses than those of the file, and also where the file names none.
func TestFollow(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]RegistryConfig{
		"": {
			URLs: []string{"https://a:1", "https://b:2"}, Certificate: "services/decrypt/cert.pem", Key: "services/decrypt/key.sealed",
			StaleAfter: daemon.Duration(5 * time.Minute), Cache: "registry.cache",
		},
		"registry: {urls: ['https://ra:8445'], certificate: c, key: k, stale-after: 10s, cache: f}": {
			URLs: []string{"https://a:1", "https://b:2"}, Certificate: "c", Key: "k", StaleAfter: daemon.Duration(10 * time.Second), Cache: "f",
		},
	} {
		c := must[Config](t)(ParseConfig([]byte(goodConfig + text)))
		c.Follow([]string{"https://a:1", "https://b:2"})
		if err := c.Check(); err != nil || !reflect.DeepEqual(*c.Registry, want) {
			t.Errorf("%s: %v, %+v, want %+v", text, err, c.Registry, want)
		}
		c.Follow([]string{"a:1"})
		if err := c.Check(); err == nil {
			t.Errorf("%s: an address without https is followed", text)
		}
	}
}
