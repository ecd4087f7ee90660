package provision

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/internal/node/token"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// Config is the configuration file of latchkey-provisiond. An absent member has the default that its comment names; an
// unknown one is an error. Paths are relative to Folder, and Folder is relative to the configuration file.
type Config struct {
	Terminals   string `yaml:"terminals"`   // address for terminals; default 127.0.0.1:8445; port 0 takes a free one
	Services    string `yaml:"services"`    // address for operators, auditors and services; default 127.0.0.1:8446
	Publication string `yaml:"publication"` // address of the trust list and the CRL, plain HTTP; default 127.0.0.1:8447
	Admin       string `yaml:"admin"`       // address of /livez, /readyz and /metrics, plain HTTP; default 127.0.0.1:9446
	// TLS12 is the address of one more listener, for terminals whose EST client has no TLS 1.3: TLS 1.2, certificates only. Default:
	// there is none.
	TLS12       string `yaml:"terminals-tls12"`
	Folder      string `yaml:"folder"`      // deployment folder made by `latchkey init`; default: that of the file
	Instance    string `yaml:"instance"`    // name of this instance in the audit log; default RA-1
	Tenant      string `yaml:"tenant"`      // whose terminals and operators are served; required
	Environment string `yaml:"environment"` // production or test, as in the deployment folder; required

	PassphraseFile    string `yaml:"passphrase-file"`    // opens the sealed files; mode 0600; required
	Certificate       string `yaml:"certificate"`        // of the listeners, leaf first; default services/ra/cert.pem
	Key               string `yaml:"key"`                // its sealed key, or one in the token of hsm: pkcs11:object=NAME; default services/ra/key.sealed
	SignerCertificate string `yaml:"signer-certificate"` // of what signs the feed; default services/registry/cert.pem
	SignerKey         string `yaml:"signer-key"`         // its sealed key, or one in the token; default services/registry/key.sealed
	Issuer            string `yaml:"issuer"`             // folder of the issuer of terminals; default ca/terminals; unused with vault
	IssuerKey         string `yaml:"issuer-key"`         // its key in the token; default: sealed in that folder
	Pepper            string `yaml:"pepper"`             // sealed key of one-time codes; default services/ra/pepper.sealed
	TrustList         string `yaml:"trust-list"`         // signed trust list; default trust/list.signed
	Keyd              string `yaml:"keyd"`               // https URL of latchkey-keyd; default https://localhost:8448

	Database        string          `yaml:"database"`         // registry, feed and audit log; default provisiond.db
	CheckpointKey   string          `yaml:"checkpoint-key"`   // sealed, or of Ed25519 in the token; default audit/provisiond.key.sealed
	CheckpointFile  string          `yaml:"checkpoint-file"`  // default audit/provisiond.checkpoint
	CheckpointEvery daemon.Duration `yaml:"checkpoint-every"` // default 1m, 1s to 1h

	// OCSP has the publication address answer questions about single terminal certificates, for third parties; default: not. With
	// vault it is Vault that answers.
	OCSP bool `yaml:"ocsp"`
	// PublicationURL is how third parties reach the publication address: http://HOST[:PORT]. It is written into the certificates of
	// terminals, with the paths of the revocation list and of OCSP; default: nothing is. With vault it is Vault that writes its own.
	PublicationURL string `yaml:"publication-url"`

	Postgres *daemon.PostgresConfig `yaml:"postgres"` // database that several instances share, in place of the file; absent: the file

	// HSM is the PKCS#11 token of the signing keys that members name; absent: they are in files. Cache and fingerprints are not for
	// here.
	HSM *token.Config `yaml:"hsm"`

	// Vault is the Vault that certifies terminals; absent: the issuer in the folder does.
	Vault *VaultConfig `yaml:"vault"`

	// NewEpoch has Run begin a new epoch of the registry feed: once, after the database was restored, or no follower would
	// believe it. The file has no such member.
	NewEpoch bool `yaml:"-"`

	Overlap daemon.Duration `yaml:"overlap"` // how long the certificate before a renewal still connects; default 24h, at most
	Drain   daemon.Duration `yaml:"drain"`   // how long a replaced key is still accepted; default 168h

	// ConnectionsPerSource is how many connections one address, or network of 64 bits of IPv6, may have open at each listener but
	// admin, which take 4096 in all; default 256, 1 to 4096. Behind a balancer that hides addresses: 4096.
	ConnectionsPerSource int `yaml:"connections-per-source"`

	DailyCap uint32        `yaml:"daily-cap"` // certificates that a terminal is given in a day; default 20, 1 to 10000
	Renewal  RenewalConfig `yaml:"renewal"`   // when terminals renew their certificates

	// Reload, if not nil, has key sets and the trust list read again at once whenever something is received. The file has no such member.
	Reload <-chan os.Signal `yaml:"-"`
}

// RenewalConfig says in which part of the life of a certificate terminals renew it. They are told at each contact, so a
// change reaches those that run already.
type RenewalConfig struct {
	WindowConfig `yaml:",inline"`
	Groups       map[string]WindowConfig `yaml:"groups"` // for terminals of these groups, instead; both members are required
}

// WindowConfig is a part of the life of a certificate, in percent.
type WindowConfig struct {
	After  uint `yaml:"after"`  // not earlier; default 50, 1 or more
	Before uint `yaml:"before"` // not later; default 75, at most 95
}

func (c RenewalConfig) check() error {
	if err := provision.Window(c.WindowConfig).Check(); err != nil {
		return fmt.Errorf("renewal: %w", err)
	}
	for name, w := range c.Groups {
		if _, err := provision.ParseGroup(name); err != nil {
			return fmt.Errorf("renewal: groups: %w", err)
		}
		if err := provision.Window(w).Check(); err != nil {
			return fmt.Errorf("renewal: group %s: %w", name, err)
		}
	}
	return nil
}

func (c RenewalConfig) groups() map[provision.Group]provision.Window {
	out := make(map[provision.Group]provision.Window, len(c.Groups))
	for name, w := range c.Groups {
		out[provision.Group(name)] = provision.Window(w)
	}
	return out
}

// maxConnections is what a listener has open at once.
const maxConnections = 4096

func checkPerSource(n int) error {
	if n < 1 || n > maxConnections {
		return fmt.Errorf("connections-per-source: %d, want 1 to %d", n, maxConnections)
	}
	return nil
}

func checkCap(n uint32) error {
	if n < 1 || n > 10_000 {
		return fmt.Errorf("daily-cap: %d, want 1 to 10000", n)
	}
	return nil
}

// DefaultConfig returns the configuration of a file that says nothing.
func DefaultConfig() Config {
	return Config{
		Terminals: "127.0.0.1:8445", Services: "127.0.0.1:8446", Publication: "127.0.0.1:8447", Admin: "127.0.0.1:9446",
		Folder: ".", Instance: "RA-1",
		Certificate: "services/ra/cert.pem", Key: "services/ra/key.sealed",
		SignerCertificate: "services/registry/cert.pem", SignerKey: "services/registry/key.sealed",
		Issuer: "ca/terminals", Pepper: "services/ra/pepper.sealed", TrustList: "trust/list.signed", Keyd: "https://localhost:8448",
		Database: "provisiond.db", CheckpointKey: "audit/provisiond.key.sealed", CheckpointFile: "audit/provisiond.checkpoint",
		CheckpointEvery: daemon.Duration(time.Minute),
		Overlap:         daemon.Duration(24 * time.Hour), Drain: daemon.Duration(7 * 24 * time.Hour),
		ConnectionsPerSource: 256,
		DailyCap:             20, Renewal: RenewalConfig{WindowConfig: WindowConfig{After: 50, Before: 75}},
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
	if err := c.HSM.Complete(b, "cache", "carry-pins", "fingerprints"); err != nil {
		return Config{}, err
	}
	if err := c.Vault.complete(b); err != nil {
		return Config{}, err
	}
	if err := c.Postgres.Complete(b); err != nil {
		return Config{}, err
	}
	return c, nil
}

// Check reports the first member that cannot be right, by its name in the file. It touches no file.
func (c Config) Check() error {
	return daemon.First(
		daemon.CheckDeployment(c.Tenant, c.Environment),
		daemon.CheckURL(daemon.Member{Name: "keyd", Value: c.Keyd}),
		daemon.CheckDuration("overlap", c.Overlap, time.Second, 24*time.Hour),
		daemon.CheckDuration("drain", c.Drain, time.Second, 366*24*time.Hour),
		checkCap(c.DailyCap), checkPerSource(c.ConnectionsPerSource), c.checkTLS12(),
		c.Renewal.check(),
		daemon.CheckInstance(c.Instance),
		daemon.CheckAddresses(
			daemon.Member{Name: "terminals", Value: c.Terminals}, daemon.Member{Name: "services", Value: c.Services},
			daemon.Member{Name: "publication", Value: c.Publication}, daemon.Member{Name: "admin", Value: c.Admin},
		),
		daemon.CheckPaths(
			daemon.Member{Name: "folder", Value: c.Folder}, daemon.Member{Name: "passphrase-file", Value: c.PassphraseFile},
			daemon.Member{Name: "certificate", Value: c.Certificate}, daemon.Member{Name: "key", Value: c.Key},
			daemon.Member{Name: "signer-certificate", Value: c.SignerCertificate}, daemon.Member{Name: "signer-key", Value: c.SignerKey},
			daemon.Member{Name: "issuer", Value: c.Issuer}, daemon.Member{Name: "pepper", Value: c.Pepper},
			daemon.Member{Name: "trust-list", Value: c.TrustList}, daemon.Member{Name: "database", Value: c.Database},
			daemon.Member{Name: "checkpoint-key", Value: c.CheckpointKey}, daemon.Member{Name: "checkpoint-file", Value: c.CheckpointFile},
		),
		daemon.CheckDuration("checkpoint-every", c.CheckpointEvery, time.Second, time.Hour),
		c.checkPublished(),
		c.Postgres.Check(c.Folder, c.Instance), c.Postgres.RefuseLag(),
		c.HSM.Check(),
		c.HSM.CheckKey("key", c.Key), c.HSM.CheckKey("checkpoint-key", c.CheckpointKey), c.HSM.CheckKey("signer-key", c.SignerKey), c.HSM.CheckIssuerKey(c.IssuerKey),
		c.Vault.check(c.IssuerKey),
	)
}

// checkTLS12 reports an address of the listener for TLS 1.2 that is none.
func (c Config) checkTLS12() error {
	if c.TLS12 == "" {
		return nil
	}
	return daemon.CheckAddresses(daemon.Member{Name: "terminals-tls12", Value: c.TLS12})
}

// checkPublished reports a URL that nobody could fetch a revocation list from, and what is for Vault to say.
func (c Config) checkPublished() error {
	if c.Vault != nil && (c.OCSP || c.PublicationURL != "") {
		return errors.New("ocsp: with vault the answers and their addresses are Vault's own: remove ocsp and publication-url")
	}
	if c.PublicationURL == "" {
		return nil
	}
	u, err := url.Parse(c.PublicationURL)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return errors.New("publication-url: want http://HOST:PORT: what is there proves itself")
	}
	return nil
}

// published are the URLs that are written into certificates.
func (c Config) published() (crl, status string) {
	if c.PublicationURL == "" {
		return "", ""
	}
	crl = c.PublicationURL + provision.PathCRL
	if c.OCSP {
		status = c.PublicationURL + provision.PathStatus
	}
	return crl, status
}
