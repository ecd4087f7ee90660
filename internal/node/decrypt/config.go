package decrypt

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/internal/node/token"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

// Config is the configuration file of latchkey-decryptd. An absent member has the default that its comment names; an
// unknown one is an error. Paths are relative to Folder, and Folder is relative to the configuration file.
type Config struct {
	Listen   string `yaml:"listen"`   // address for acquirer hosts; default 127.0.0.1:8443; port 0 takes a free one
	Admin    string `yaml:"admin"`    // address of /livez, /readyz and /metrics, plain HTTP; default 127.0.0.1:9443
	Folder   string `yaml:"folder"`   // deployment folder made by `latchkey init`; default: that of the file
	Instance string `yaml:"instance"` // name of this instance in the audit log; default DECRYPT-1
	Tenant   string `yaml:"tenant"`   // whose terminals and callers are served; required

	Environment string `yaml:"environment"` // production or test, as in the deployment folder; required

	PassphraseFile string `yaml:"passphrase-file"` // opens the sealed files; mode 0600, 12 bytes or more; required
	Certificate    string `yaml:"certificate"`     // PEM of the service, leaf first; default services/decrypt/cert.pem
	Key            string `yaml:"key"`             // its sealed key, or one in the token of hsm: pkcs11:object=NAME; default services/decrypt/key.sealed
	Keyring        string `yaml:"keyring"`         // folder of keys; default keyring

	Database        string          `yaml:"database"`         // claims, answers and audit log; default decryptd.db
	CheckpointKey   string          `yaml:"checkpoint-key"`   // sealed key that signs audit checkpoints, or one of Ed25519 in the token; default audit/checkpoint.key.sealed
	CheckpointFile  string          `yaml:"checkpoint-file"`  // where the latest checkpoint is written; default audit/checkpoint
	CheckpointEvery daemon.Duration `yaml:"checkpoint-every"` // default 1m, 1s to 1h

	Postgres *PostgresConfig `yaml:"postgres"` // database that several instances share, in place of the file database; absent: the file

	Callers []CallerConfig `yaml:"callers"` // acquirer hosts that are served; at least one

	Registry *RegistryConfig `yaml:"registry"` // registration authority that says what there is of terminals; absent: the folder says it

	Offline *OfflineConfig `yaml:"offline"` // what terminals may sell without the host; absent: nothing

	Limits *LimitsConfig `yaml:"limits"` // how often what may be asked; absent: the defaults

	// HSM is the PKCS#11 token that holds base keys, zone keys and data keys; absent: they are in the keyring. With it the keyring
	// gives the host's secrets only: what keys are in it is not looked at. Key may name a key in it: pkcs11:object=NAME.
	HSM *token.Config `yaml:"hsm"`

	// Reload, if not nil, has key sets and keys read again at once whenever something is received. The file has no such member.
	Reload <-chan os.Signal `yaml:"-"`
}

// CallerConfig is what one acquirer host may do.
type CallerConfig struct {
	Name    string      `yaml:"name"`     // as in its certificate
	PINKeys []string    `yaml:"pin-keys"` // zone keys that PINs may be translated to for it
	Keys    []KeyConfig `yaml:"keys"`     // keys of fixed value that it may use; default none
}

// KeyConfig permits the use of one key of fixed value.
type KeyConfig struct {
	Key   string   `yaml:"key"`   // alias/NAME, or an identifier
	For   []string `yaml:"for"`   // decrypt-data, encrypt-data, re-encrypt-from, re-encrypt-to, translate-pin-from, translate-pin-to, generate-mac, verify-mac
	Wraps []string `yaml:"wraps"` // of a key encryption key: usages (D0, P0, M1, M3, M6, M7) of the keys that may come in key blocks under it
}

// RegistryConfig says which registration authority is followed and how.
type RegistryConfig struct {
	URLs        []string        `yaml:"urls"`        // of its listener for services, https://HOST:PORT, tried in turn; at least one
	Certificate string          `yaml:"certificate"` // PEM that is shown to it; default: that of the service
	Key         string          `yaml:"key"`         // its sealed key; default: that of the service
	StaleAfter  daemon.Duration `yaml:"stale-after"` // how long its last sign of life counts; default 5m, 5s to 1h
	Cache       string          `yaml:"cache"`       // file that the latest word on each terminal is kept in; default registry.cache
}

// OfflineConfig bounds the sales of one terminal that have not been acknowledged. Every ack says it to the terminal, under its MAC.
type OfflineConfig struct {
	Count    uint32          `yaml:"count"`    // sales; 1 to 4000, which is less than the window of a key
	Bytes    uint32          `yaml:"bytes"`    // of all their messages; default 1048576, 1024 or more
	Age      daemon.Duration `yaml:"age"`      // of the oldest, after which no further one is made; default 24h, 1m to 720h
	Amount   int64           `yaml:"amount"`   // of all together, in the minor unit of the currency; required
	Currency string          `yaml:"currency"` // letters of ISO 4217; required
	Exponent uint8           `yaml:"exponent"` // decimals of the currency; 0 to 4; 0 is the default
}

// DefaultConfig returns the configuration of a file that says nothing.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:8443", Admin: "127.0.0.1:9443", Folder: ".", Instance: "DECRYPT-1",
		Certificate: "services/decrypt/cert.pem", Key: "services/decrypt/key.sealed",
		Keyring: "keyring", Database: "decryptd.db",
		CheckpointKey: "audit/checkpoint.key.sealed", CheckpointFile: "audit/checkpoint", CheckpointEvery: daemon.Duration(time.Minute),
	}
}

// LoadConfig reads a configuration file over the defaults. It does not Check it, because the environment and flags may
// still change members.
func LoadConfig(path string) (Config, error) {
	return daemon.Load(path, ParseConfig, func(c *Config) *string { return &c.Folder })
}

// ParseConfig reads the text of a configuration file over the defaults. Folder stays as it is written.
func ParseConfig(b []byte) (Config, error) {
	c := DefaultConfig()
	if err := daemon.Parse(b, &c); err != nil {
		return Config{}, err
	}
	if err := c.complete(b); err != nil {
		return Config{}, err
	}
	return c, nil
}

// complete sets what a file says nothing about. An empty section would follow nobody, or leave the token alone, which is for
// an absent one to say.
func (c *Config) complete(file []byte) error {
	var members map[string]any
	if err := yaml.Unmarshal(file, &members); err != nil {
		return err
	}
	if _, named := members["registry"]; named && c.Registry == nil {
		return errors.New("registry: want a mapping with urls")
	}
	if c.Registry != nil {
		c.completeRegistry()
	}
	if _, named := members["limits"]; named && c.Limits == nil {
		return errors.New("limits: want a mapping")
	}
	if _, named := members["offline"]; named && c.Offline == nil {
		return errors.New("offline: want a mapping with count, amount and currency")
	}
	c.Offline.complete()
	if err := c.Postgres.Complete(file); err != nil {
		return err
	}
	return c.HSM.Complete(file)
}

func (o *OfflineConfig) complete() {
	if o == nil {
		return
	}
	if o.Bytes == 0 {
		o.Bytes = 1 << 20
	}
	if o.Age == 0 {
		o.Age = daemon.Duration(24 * time.Hour)
	}
}

// limits is what acks say; nil says that there are to be no sales without the host.
func (o *OfflineConfig) limits() *message.Limits {
	if o == nil {
		return nil
	}
	currency, err := message.ParseCurrency(o.Currency)
	if err != nil {
		return nil // Check has refused it
	}
	return &message.Limits{
		Count: o.Count, Bytes: o.Bytes, AgeSeconds: uint32(time.Duration(o.Age) / time.Second),
		Amount: message.Amount{Minor: o.Amount, Currency: currency, Exponent: o.Exponent},
	}
}

func (o *OfflineConfig) check() error {
	if o == nil {
		return nil
	}
	if o.Count < 1 || o.Count > 4000 {
		return fmt.Errorf("offline: count: %d, want 1 to 4000", o.Count)
	}
	if o.Bytes < 1024 {
		return fmt.Errorf("offline: bytes: %d, want 1024 or more", o.Bytes)
	}
	if o.Amount < 1 {
		return errors.New("offline: amount: want the minor units that all sales may come to")
	}
	if _, err := message.ParseCurrency(o.Currency); err != nil {
		return errors.New("offline: currency: want three letters of ISO 4217")
	}
	if err := o.limits().Check(); err != nil {
		return fmt.Errorf("offline: %w", err)
	}
	if err := daemon.CheckDuration("age", o.Age, time.Minute, 30*24*time.Hour); err != nil {
		return fmt.Errorf("offline: %w", err)
	}
	return nil
}

func (c *Config) completeRegistry() {
	for _, m := range []struct {
		member   *string
		fallback string
	}{
		{&c.Registry.Certificate, c.Certificate}, {&c.Registry.Key, c.Key}, {&c.Registry.Cache, "registry.cache"},
	} {
		if *m.member == "" {
			*m.member = m.fallback
		}
	}
	if c.Registry.StaleAfter == 0 {
		c.Registry.StaleAfter = daemon.Duration(5 * time.Minute)
	}
}

// Follow has the service follow a registration authority at these addresses, whatever the file says of addresses.
func (c *Config) Follow(urls []string) {
	if c.Registry == nil {
		c.Registry = new(RegistryConfig)
	}
	c.Registry.URLs = urls
	c.completeRegistry()
}

// Check reports the first member that cannot be right, by its name in the file. It touches no file.
func (c Config) Check() error {
	return daemon.First(
		daemon.CheckDeployment(c.Tenant, c.Environment),
		daemon.CheckInstance(c.Instance),
		daemon.CheckAddresses(daemon.Member{Name: "listen", Value: c.Listen}, daemon.Member{Name: "admin", Value: c.Admin}),
		daemon.CheckPaths(
			daemon.Member{Name: "folder", Value: c.Folder}, daemon.Member{Name: "passphrase-file", Value: c.PassphraseFile},
			daemon.Member{Name: "certificate", Value: c.Certificate}, daemon.Member{Name: "key", Value: c.Key},
			daemon.Member{Name: "keyring", Value: c.Keyring}, daemon.Member{Name: "database", Value: c.Database},
			daemon.Member{Name: "checkpoint-key", Value: c.CheckpointKey}, daemon.Member{Name: "checkpoint-file", Value: c.CheckpointFile},
		),
		daemon.CheckDuration("checkpoint-every", c.CheckpointEvery, time.Second, time.Hour),
		c.checkCallers(),
		c.checkRegistry(),
		c.Offline.check(),
		c.Limits.check(),
		c.Postgres.Check(c.Folder, c.Instance),
		c.HSM.Check(),
		c.HSM.CheckKey("key", c.Key), c.HSM.CheckKey("checkpoint-key", c.CheckpointKey),
		c.checkRegistryKey(),
	)
}

func (c Config) checkRegistryKey() error {
	if c.Registry == nil {
		return nil
	}
	return c.HSM.CheckKey("registry: key", c.Registry.Key)
}

func (c Config) checkRegistry() error {
	r := c.Registry
	if r == nil {
		return nil
	}
	if len(r.URLs) == 0 {
		return errors.New("registry: urls: name at least one")
	}
	for i, s := range r.URLs {
		name := fmt.Sprintf("urls: number %d", i+1)
		if err := daemon.CheckURL(daemon.Member{Name: name, Value: s}); err != nil {
			return fmt.Errorf("registry: %w", err)
		}
		if slices.Contains(r.URLs[:i], s) {
			return fmt.Errorf("registry: %s: it is named twice", name)
		}
	}
	err := daemon.First(
		daemon.CheckPaths(
			daemon.Member{Name: "certificate", Value: r.Certificate}, daemon.Member{Name: "key", Value: r.Key}, daemon.Member{Name: "cache", Value: r.Cache},
		),
		daemon.CheckDuration("stale-after", r.StaleAfter, 5*time.Second, time.Hour),
	)
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	return nil
}

func (c Config) checkCallers() error {
	if len(c.Callers) == 0 {
		return errors.New("callers: name at least one acquirer host")
	}
	for i, caller := range c.Callers {
		if _, err := keyset.ParseTerminal(caller.Name); err != nil {
			return fmt.Errorf("callers: caller %d: want a name as in its certificate, [A-Z0-9-]{1,32}", i+1)
		}
		if slices.ContainsFunc(c.Callers[:i], func(o CallerConfig) bool { return o.Name == caller.Name }) {
			return fmt.Errorf("callers: %s is named twice", caller.Name)
		}
		if _, err := caller.keys(); err != nil {
			return fmt.Errorf("callers: %s: pin-keys: %w", caller.Name, err)
		}
		if _, err := caller.grants(); err != nil {
			return fmt.Errorf("callers: %s: keys: %w", caller.Name, err)
		}
	}
	return nil
}

// fixedUsages are the usages of keys that may come in key blocks.
var fixedUsages = []keys.Usage{keys.UsageData, keys.UsagePIN, keys.UsageMACCBC, keys.UsageMACRetail, keys.UsageMACCMAC, keys.UsageHMAC}

// grants are the keys of fixed value that the caller may use.
func (c CallerConfig) grants() ([]decrypt.KeyGrant, error) {
	var out []decrypt.KeyGrant
	for _, k := range c.Keys {
		ref, err := keyset.ParseKeyRef(k.Key)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out, func(g decrypt.KeyGrant) bool { return g.Key == ref }) {
			return nil, fmt.Errorf("%v is named twice", ref)
		}
		g := decrypt.KeyGrant{Key: ref}
		for _, s := range k.For {
			if !slices.Contains(decrypt.KeyActions, decrypt.KeyAction(s)) {
				return nil, fmt.Errorf("%v: for: %q, want some of %v", ref, s, decrypt.KeyActions)
			}
			g.For = append(g.For, decrypt.KeyAction(s))
		}
		if len(g.For) == 0 {
			return nil, fmt.Errorf("%v: for: name what it may be used for", ref)
		}
		for _, s := range k.Wraps {
			if !slices.Contains(fixedUsages, keys.Usage(s)) {
				return nil, fmt.Errorf("%v: wraps: %q, want some of %v", ref, s, fixedUsages)
			}
			g.Wraps = append(g.Wraps, keys.Usage(s))
		}
		if slices.Contains(g.For, decrypt.ActionTranslateTo) && len(g.Wraps) == 0 {
			return nil, fmt.Errorf("%v: for: a zone key of the inventory that PINs may go to stands under pin-keys", ref)
		}
		out = append(out, g)
	}
	return out, nil
}

func (c CallerConfig) keys() ([]keyset.KeyRef, error) {
	out := make([]keyset.KeyRef, len(c.PINKeys))
	for i, s := range c.PINKeys {
		ref, err := keyset.ParseKeyRef(s)
		if err != nil {
			return nil, err
		}
		out[i] = ref
	}
	return out, nil
}
