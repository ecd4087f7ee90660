package decrypt

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/latchkey-pos/latchkey/keys/keyset"
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
	Key            string `yaml:"key"`             // its sealed key; default services/decrypt/key.sealed
	Keyring        string `yaml:"keyring"`         // folder of keys; default keyring

	Database        string   `yaml:"database"`         // claims, answers and audit log; default decryptd.db
	CheckpointKey   string   `yaml:"checkpoint-key"`   // sealed key that signs audit checkpoints; default audit/checkpoint.key.sealed
	CheckpointFile  string   `yaml:"checkpoint-file"`  // where the latest checkpoint is written; default audit/checkpoint
	CheckpointEvery Duration `yaml:"checkpoint-every"` // default 1m, 1s to 1h

	Callers []CallerConfig `yaml:"callers"` // acquirer hosts that are served; at least one

	Registry *RegistryConfig `yaml:"registry"` // registration authority that says what there is of terminals; absent: the folder says it

	// Reload, if not nil, has the catalog read again at once whenever something is received. The file has no such member.
	Reload <-chan os.Signal `yaml:"-"`
}

// CallerConfig is what one acquirer host may do.
type CallerConfig struct {
	Name    string   `yaml:"name"`     // as in its certificate
	PINKeys []string `yaml:"pin-keys"` // zone keys that PINs may be translated to for it
}

// RegistryConfig says which registration authority is followed and how.
type RegistryConfig struct {
	URLs        []string `yaml:"urls"`        // of its listener for services, https://HOST:PORT, tried in turn; at least one
	Certificate string   `yaml:"certificate"` // PEM that is shown to it; default: that of the service
	Key         string   `yaml:"key"`         // its sealed key; default: that of the service
	StaleAfter  Duration `yaml:"stale-after"` // how long its last sign of life counts; default 5m, 5s to 1h
	Cache       string   `yaml:"cache"`       // file that the latest word on each terminal is kept in; default registry.cache
}

// Duration is a time.Duration that is written as in "30s".
type Duration time.Duration

// UnmarshalYAML reads what time.ParseDuration reads.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil {
		return fmt.Errorf("line %d: want a duration such as 30s", n.Line)
	}
	*d = Duration(v)
	return nil
}

// MarshalYAML writes what UnmarshalYAML reads.
func (d Duration) MarshalYAML() (any, error) { return time.Duration(d).String(), nil }

// DefaultConfig returns the configuration of a file that says nothing.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:8443", Admin: "127.0.0.1:9443", Folder: ".", Instance: "DECRYPT-1",
		Certificate: "services/decrypt/cert.pem", Key: "services/decrypt/key.sealed",
		Keyring: "keyring", Database: "decryptd.db",
		CheckpointKey: "audit/checkpoint.key.sealed", CheckpointFile: "audit/checkpoint", CheckpointEvery: Duration(time.Minute),
	}
}

// maxConfig bounds a configuration file, in bytes.
const maxConfig = 1 << 20

// LoadConfig reads a configuration file over the defaults. It does not Check it, because the environment and flags may
// still change members.
func LoadConfig(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, err
	}
	defer func() { _ = f.Close() }() // read only
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return Config{}, err
	}
	if len(b) > maxConfig {
		return Config{}, fmt.Errorf("%s: longer than %d bytes", path, maxConfig)
	}
	c, err := ParseConfig(b)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	if !filepath.IsAbs(c.Folder) {
		c.Folder = filepath.Join(filepath.Dir(path), c.Folder)
	}
	return c, nil
}

// ParseConfig reads the text of a configuration file over the defaults. Folder stays as it is written.
func ParseConfig(b []byte) (Config, error) {
	c := DefaultConfig()
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return Config{}, err
	}
	if err := c.fillRegistry(b); err != nil {
		return Config{}, err
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("more than one document")
	}
	return c, nil
}

// fillRegistry sets what a file says nothing about. An empty member would follow nobody, which is for an absent one to say.
func (c *Config) fillRegistry(file []byte) error {
	if c.Registry == nil {
		var members map[string]any
		if err := yaml.Unmarshal(file, &members); err != nil {
			return err
		}
		if _, ok := members["registry"]; ok {
			return errors.New("registry: want a mapping with urls")
		}
		return nil
	}
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
		c.Registry.StaleAfter = Duration(5 * time.Minute)
	}
	return nil
}

// Check reports the first member that cannot be right, by its name in the file. It touches no file.
func (c Config) Check() error {
	if _, err := keyset.ParseTenant(c.Tenant); err != nil {
		return fmt.Errorf("tenant: %w", err)
	}
	if _, err := keyset.ParseEnvironment(c.Environment); err != nil {
		return errors.New("environment: want production or test")
	}
	if !plainName(c.Instance) {
		return errors.New("instance: want 1 to 32 letters, digits and -")
	}
	if err := c.checkAddresses(); err != nil {
		return err
	}
	for _, p := range []struct{ name, value string }{
		{"folder", c.Folder}, {"passphrase-file", c.PassphraseFile}, {"certificate", c.Certificate}, {"key", c.Key},
		{"keyring", c.Keyring}, {"database", c.Database}, {"checkpoint-key", c.CheckpointKey}, {"checkpoint-file", c.CheckpointFile},
	} {
		if p.value == "" {
			return fmt.Errorf("%s: a path is required", p.name)
		}
	}
	if every := time.Duration(c.CheckpointEvery); every < time.Second || every > time.Hour {
		return fmt.Errorf("checkpoint-every: %v, want 1s to 1h", every)
	}
	if err := c.checkCallers(); err != nil {
		return err
	}
	return c.checkRegistry()
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
		u, err := url.Parse(s)
		if err != nil || u.Host == "" || s != "https://"+u.Host || slices.Contains(r.URLs[:i], s) {
			return fmt.Errorf("registry: urls: number %d: want https://HOST:PORT, each once", i+1)
		}
	}
	for _, p := range []struct{ name, value string }{{"certificate", r.Certificate}, {"key", r.Key}, {"cache", r.Cache}} {
		if p.value == "" {
			return fmt.Errorf("registry: %s: a path is required", p.name)
		}
	}
	if after := time.Duration(r.StaleAfter); after < 5*time.Second || after > time.Hour {
		return fmt.Errorf("registry: stale-after: %v, want 5s to 1h", after)
	}
	return nil
}

func plainName(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 32
}

func (c Config) checkAddresses() error {
	for _, a := range []struct{ name, value string }{{"listen", c.Listen}, {"admin", c.Admin}} {
		if _, _, err := net.SplitHostPort(a.value); err != nil {
			return fmt.Errorf("%s: want HOST:PORT", a.name)
		}
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
	}
	return nil
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

// path returns a path of the configuration as it is from the working directory.
func (c Config) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.Folder, p)
}
