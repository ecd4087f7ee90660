package provision

import (
	"os"
	"time"

	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/internal/node/token"
)

// Config is the configuration file of latchkey-provisiond. An absent member has the default that its comment names; an
// unknown one is an error. Paths are relative to Folder, and Folder is relative to the configuration file.
type Config struct {
	Terminals   string `yaml:"terminals"`   // address for terminals; default 127.0.0.1:8445; port 0 takes a free one
	Services    string `yaml:"services"`    // address for operators, auditors and services; default 127.0.0.1:8446
	Publication string `yaml:"publication"` // address of the trust list and the CRL, plain HTTP; default 127.0.0.1:8447
	Admin       string `yaml:"admin"`       // address of /livez, /readyz and /metrics, plain HTTP; default 127.0.0.1:9446
	Folder      string `yaml:"folder"`      // deployment folder made by `latchkey init`; default: that of the file
	Instance    string `yaml:"instance"`    // name of this instance in the audit log; default RA-1
	Tenant      string `yaml:"tenant"`      // whose terminals and operators are served; required
	Environment string `yaml:"environment"` // production or test, as in the deployment folder; required

	PassphraseFile    string `yaml:"passphrase-file"`    // opens the sealed files; mode 0600; required
	Certificate       string `yaml:"certificate"`        // of the listeners, leaf first; default services/ra/cert.pem
	Key               string `yaml:"key"`                // its sealed key, or one in the token of hsm: pkcs11:object=NAME; default services/ra/key.sealed
	SignerCertificate string `yaml:"signer-certificate"` // of what signs the feed; default services/registry/cert.pem
	SignerKey         string `yaml:"signer-key"`         // its sealed key, or one in the token; default services/registry/key.sealed
	Issuer            string `yaml:"issuer"`             // folder of the issuer of terminals; default ca/terminals
	IssuerKey         string `yaml:"issuer-key"`         // its key in the token; default: sealed in that folder
	Pepper            string `yaml:"pepper"`             // sealed key of one-time codes; default services/ra/pepper.sealed
	TrustList         string `yaml:"trust-list"`         // signed trust list; default trust/list.signed
	Keyd              string `yaml:"keyd"`               // https URL of latchkey-keyd; default https://localhost:8448

	Database        string          `yaml:"database"`         // registry, feed and audit log; default provisiond.db
	CheckpointKey   string          `yaml:"checkpoint-key"`   // default audit/provisiond.key.sealed
	CheckpointFile  string          `yaml:"checkpoint-file"`  // default audit/provisiond.checkpoint
	CheckpointEvery daemon.Duration `yaml:"checkpoint-every"` // default 1m, 1s to 1h

	// HSM is the PKCS#11 token of the signing keys that members name; absent: they are in files. Cache and fingerprints are not for
	// here.
	HSM *token.Config `yaml:"hsm"`

	// NewEpoch has Run begin a new epoch of the registry feed: once, after the database was restored, or no follower would
	// believe it. The file has no such member.
	NewEpoch bool `yaml:"-"`

	Overlap daemon.Duration `yaml:"overlap"` // how long the certificate before a renewal still connects; default 24h, at most
	Drain   daemon.Duration `yaml:"drain"`   // how long a replaced key is still accepted; default 168h

	// Reload, if not nil, has key sets and the trust list read again at once whenever something is received. The file has no such member.
	Reload <-chan os.Signal `yaml:"-"`
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
	if err := c.HSM.Complete(b, "cache", "fingerprints"); err != nil {
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
		c.HSM.Check(),
		c.HSM.CheckKey("key", c.Key), c.HSM.CheckKey("signer-key", c.SignerKey), c.HSM.CheckIssuerKey(c.IssuerKey),
	)
}
