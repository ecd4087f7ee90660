package decrypt

import (
	"reflect"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/limit"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/internal/node/nodetest"
	"github.com/latchkey-pos/latchkey/message"
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

// TestLimitsComeFromTheComments holds the defaults to the numbers of the documentation, and has a member replace its own alone.
func TestLimitsComeFromTheComments(t *testing.T) {
	t.Parallel()
	c := must[Config](t)(ParseConfig([]byte(goodConfig)))
	l := c.limits()
	if l.Caller != (limit.Rate{Burst: 10000, Count: 5000, Per: time.Second}) || l.Terminal != (limit.Rate{Burst: 4000, Count: 100, Per: time.Second}) ||
		l.PAN != (limit.Rate{Burst: 10, Count: 10, Per: time.Hour}) || l.PINBlock != l.PAN ||
		l.FixedCaller != (limit.Rate{Burst: 400, Count: 200, Per: time.Second}) || l.FixedKey != l.FixedCaller || l.Cards != 131072 || l.Callers != 1 ||
		l.Working != 512 || l.Waiting != 2048 || l.Patience != 2*time.Second || c.Limits.complete().Body != 65536 {
		t.Errorf("defaults %+v", l)
	}
	c = must[Config](t)(ParseConfig([]byte(goodConfig + "limits: {card: {burst: 3, count: 1, per: 10m}, working: 4}\n")))
	changed := c.limits()
	l.PAN, l.Working = limit.Rate{Burst: 3, Count: 1, Per: 10 * time.Minute}, 4
	if err := c.Check(); err != nil || changed != l {
		t.Errorf("changed to %+v, %v; want %+v", changed, err, l)
	}
	grants := must[[]decrypt.KeyGrant](t)(CallerConfig{Keys: []KeyConfig{{Key: "alias/kek", For: []string{"decrypt-data"}, Wraps: []string{"D0", "P0"}}}}.grants())
	if len(grants) != 1 || grants[0].For[0] != decrypt.ActionDecrypt || len(grants[0].Wraps) != 2 {
		t.Errorf("grants %+v", grants)
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
		{"fixed key of no name", "    pin-keys", "    keys: [{key: zone, for: [verify-mac]}]\n    pin-keys", "keys"},
		{"fixed key for nothing", "    pin-keys", "    keys: [{key: alias/mac}]\n    pin-keys", "name what it may be used for"},
		{"fixed key for something else", "    pin-keys", "    keys: [{key: alias/mac, for: [sign]}]\n    pin-keys", "verify-mac"},
		{"fixed key twice", "    pin-keys", "    keys: [{key: alias/mac, for: [verify-mac]}, {key: alias/mac, for: [generate-mac]}]\n    pin-keys", "twice"},
		{"fixed key that wraps base keys", "    pin-keys", "    keys: [{key: alias/kek, for: [decrypt-data], wraps: [B0]}]\n    pin-keys", "wraps"},
		{"fixed key as zone key", "    pin-keys", "    keys: [{key: alias/zone, for: [translate-pin-to]}]\n    pin-keys", "pin-keys"},
		{"unknown member of a fixed key", "    pin-keys", "    keys: [{key: alias/mac, for: [verify-mac], padding: 2}]\n    pin-keys", "padding"},
		{"limits without anything", "tenant:", "limits:\ntenant:", "limits"},
		{"limit of nothing", "tenant:", "limits: {card: {burst: 0, count: 1, per: 1h}}\ntenant:", "card"},
		{"limit without an interval", "tenant:", "limits: {terminal: {burst: 1, count: 1}}\ntenant:", "terminal: per"},
		{"limit for ever", "tenant:", "limits: {pin-block: {burst: 1, count: 1, per: 25h}}\ntenant:", "pin-block: per"},
		{"limit of negative calls", "tenant:", "limits: {fixed-caller: {burst: 1, count: -1, per: 1s}}\ntenant:", "fixed-caller"},
		{"no work", "tenant:", "limits: {working: -1}\ntenant:", "working"},
		{"an endless queue", "tenant:", "limits: {waiting: 1000000}\ntenant:", "waiting"},
		{"too patient", "tenant:", "limits: {patience: 9s}\ntenant:", "patience"},
		{"no room for cards", "tenant:", "limits: {cards: 1023}\ntenant:", "cards"},
		{"a body beyond the parsers", "tenant:", "limits: {body: 65537}\ntenant:", "body"},
		{"unknown member of limits", "tenant:", "limits: {cardz: 5}\ntenant:", "cardz"},
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
		{"offline without anything", "tenant:", "offline:\ntenant:", "offline"},
		{"offline without a count", "tenant:", "offline: {amount: 1, currency: EUR}\ntenant:", "count"},
		{"offline beyond the window", "tenant:", "offline: {count: 4001, amount: 1, currency: EUR}\ntenant:", "count"},
		{"offline in no room", "tenant:", "offline: {count: 1, bytes: 1023, amount: 1, currency: EUR}\ntenant:", "bytes"},
		{"offline for nothing", "tenant:", "offline: {count: 1, currency: EUR}\ntenant:", "amount"},
		{"offline for too much", "tenant:", "offline: {count: 1, amount: 1000000000000, currency: EUR}\ntenant:", "amount"},
		{"offline for a debt", "tenant:", "offline: {count: 1, amount: -1, currency: EUR}\ntenant:", "amount"},
		{"offline in no currency", "tenant:", "offline: {count: 1, amount: 1}\ntenant:", "currency"},
		{"offline in a number", "tenant:", "offline: {count: 1, amount: 1, currency: '978'}\ntenant:", "currency"},
		{"offline with five decimals", "tenant:", "offline: {count: 1, amount: 1, currency: EUR, exponent: 5}\ntenant:", "exponent"},
		{"offline at once over", "tenant:", "offline: {count: 1, amount: 1, currency: EUR, age: 59s}\ntenant:", "age"},
		{"offline for ever", "tenant:", "offline: {count: 1, amount: 1, currency: EUR, age: 721h}\ntenant:", "age"},
		{"unknown member of offline", "tenant:", "offline: {count: 1, amount: 1, currency: EUR, each: 5}\ntenant:", "each"},
		{"postgres without anything", "tenant:", "postgres:\ntenant:", "postgres"},
		{"postgres without servers", "tenant:", "postgres: {}\ntenant:", "servers"},
		{"postgres and a file", "tenant:", "postgres: {servers: [/run/postgresql]}\ndatabase: decryptd.db\ntenant:", "database"},
		{"postgres with a password in it", "tenant:", "postgres: {servers: [/run/postgresql], password: x}\ntenant:", "password"},
		{"postgres elsewhere without roots", "tenant:", "postgres: {servers: [db.example]}\ntenant:", "another machine"},
		{"postgres at no port", "tenant:", "postgres: {servers: ['localhost:0']}\ntenant:", "number 1"},
		{"postgres at a port too high", "tenant:", "postgres: {servers: [/run/postgresql, 'localhost:65536']}\ntenant:", "number 2"},
		{"postgres at two places in one", "tenant:", "postgres: {servers: ['localhost,127.0.0.1']}\ntenant:", "servers"},
		{"postgres with a schema of two", "tenant:", "postgres: {servers: [/run/postgresql], schema: a.b}\ntenant:", "schema"},
		{"postgres with another standby", "tenant:", "postgres: {servers: [/run/postgresql], standby: maybe}\ntenant:", "standby"},
		{"postgres at once over", "tenant:", "postgres: {servers: [/run/postgresql], patience: 10ms}\ntenant:", "patience"},
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

func TestOffline(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]*message.Limits{
		"": nil,
		"offline: {count: 20, amount: 50000, currency: EUR, exponent: 2}": {
			Count: 20, Bytes: 1 << 20, AgeSeconds: 86400, Amount: message.Amount{Minor: 50000, Currency: message.Currency{'E', 'U', 'R'}, Exponent: 2},
		},
		"offline: {count: 4000, bytes: 1024, age: 90m, amount: 900, currency: JPY}": {
			Count: 4000, Bytes: 1024, AgeSeconds: 5400, Amount: message.Amount{Minor: 900, Currency: message.Currency{'J', 'P', 'Y'}},
		},
	} {
		c := must[Config](t)(ParseConfig([]byte(goodConfig + text)))
		if err := c.Check(); err != nil || !reflect.DeepEqual(c.Offline.limits(), want) {
			t.Errorf("%s: %v, %+v, want %+v", text, err, c.Offline.limits(), want)
		}
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
