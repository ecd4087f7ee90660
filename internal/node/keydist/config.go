package keydist

import (
	"fmt"
	"os"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/internal/node/token"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// Config is the configuration file of latchkey-keyd. An absent member has the default that its comment names; an unknown one
// is an error. Paths are relative to Folder, and Folder is relative to the configuration file.
type Config struct {
	Listen      string `yaml:"listen"`      // address for the registration authority; default 127.0.0.1:8448; port 0 takes a free one
	Admin       string `yaml:"admin"`       // address of /livez, /readyz and /metrics, plain HTTP; default 127.0.0.1:9448
	Folder      string `yaml:"folder"`      // deployment folder made by `latchkey init`; default: that of the file
	Instance    string `yaml:"instance"`    // name of this instance in the audit log; default KDH-1
	Tenant      string `yaml:"tenant"`      // whose terminals get keys; required
	Environment string `yaml:"environment"` // production or test, as in the deployment folder; required

	PassphraseFile    string `yaml:"passphrase-file"`    // opens the sealed files; mode 0600, 12 bytes or more; required
	Certificate       string `yaml:"certificate"`        // PEM of the listener, leaf first; default services/keydist/cert.pem
	Key               string `yaml:"key"`                // its sealed key, or one in the token of hsm: pkcs11:object=NAME; default services/keydist/key.sealed
	SignerCertificate string `yaml:"signer-certificate"` // PEM of what signs deliveries; default services/kdh-signer/cert.pem
	SignerKey         string `yaml:"signer-key"`         // its sealed key, or one in the token; default services/kdh-signer/key.sealed
	Issuer            string `yaml:"issuer"`             // folder of the issuer of agreement certificates; default ca/keydist
	IssuerKey         string `yaml:"issuer-key"`         // its key in the token; default: sealed in that folder
	Keyring           string `yaml:"keyring"`            // folder of keys, which is not looked at with a section hsm; default keyring
	Attested          string `yaml:"attested"`           // folder of signed documents: makers, and their devices that may have keys; default attested

	// FirstAfter names a key id for a key set: that one and all before it are never given out here. For after a restore.
	FirstAfter map[string]string `yaml:"first-after"`

	Database        string          `yaml:"database"`         // key ids and audit log; default keyd.db
	CheckpointKey   string          `yaml:"checkpoint-key"`   // sealed key that signs audit checkpoints, or one of Ed25519 in the token; default audit/keyd.key.sealed
	CheckpointFile  string          `yaml:"checkpoint-file"`  // where the latest checkpoint is written; default audit/keyd.checkpoint
	CheckpointEvery daemon.Duration `yaml:"checkpoint-every"` // default 1m, 1s to 1h

	Postgres *daemon.PostgresConfig `yaml:"postgres"` // database that several instances share, in place of the file; absent: the file

	// HSM is the PKCS#11 token that holds base keys for distribution, and signing keys where members name them; absent: keys are in
	// the keyring and in files. Cache is not for here.
	HSM *token.Config `yaml:"hsm"`

	// Reload, if not nil, has key sets, keys and makers read again at once whenever something is received. The file has no such
	// member.
	Reload <-chan os.Signal `yaml:"-"`
}

// DefaultConfig returns the configuration of a file that says nothing.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:8448", Admin: "127.0.0.1:9448", Folder: ".", Instance: "KDH-1",
		Certificate: "services/keydist/cert.pem", Key: "services/keydist/key.sealed",
		SignerCertificate: "services/kdh-signer/cert.pem", SignerKey: "services/kdh-signer/key.sealed",
		Issuer: "ca/keydist", Keyring: "keyring", Attested: "attested", Database: "keyd.db",
		CheckpointKey: "audit/keyd.key.sealed", CheckpointFile: "audit/keyd.checkpoint", CheckpointEvery: daemon.Duration(time.Minute),
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
	if err := c.HSM.Complete(b, "cache", "carry-pins"); err != nil {
		return Config{}, err
	}
	if err := c.Postgres.Complete(b); err != nil {
		return Config{}, err
	}
	return c, nil
}

// Check reports the first member that cannot be right, by its name in the file. It touches no file.
func (c Config) Check() error {
	_, err := c.firstAfter()
	return daemon.First(
		daemon.CheckDeployment(c.Tenant, c.Environment),
		err,
		daemon.CheckInstance(c.Instance),
		daemon.CheckAddresses(daemon.Member{Name: "listen", Value: c.Listen}, daemon.Member{Name: "admin", Value: c.Admin}),
		daemon.CheckPaths(
			daemon.Member{Name: "folder", Value: c.Folder}, daemon.Member{Name: "passphrase-file", Value: c.PassphraseFile},
			daemon.Member{Name: "certificate", Value: c.Certificate}, daemon.Member{Name: "key", Value: c.Key},
			daemon.Member{Name: "signer-certificate", Value: c.SignerCertificate}, daemon.Member{Name: "signer-key", Value: c.SignerKey},
			daemon.Member{Name: "issuer", Value: c.Issuer}, daemon.Member{Name: "keyring", Value: c.Keyring},
			daemon.Member{Name: "attested", Value: c.Attested}, daemon.Member{Name: "database", Value: c.Database},
			daemon.Member{Name: "checkpoint-key", Value: c.CheckpointKey}, daemon.Member{Name: "checkpoint-file", Value: c.CheckpointFile},
		),
		daemon.CheckDuration("checkpoint-every", c.CheckpointEvery, time.Second, time.Hour),
		c.Postgres.Check(c.Folder, c.Instance), c.Postgres.RefuseLag(),
		c.HSM.Check(),
		c.HSM.CheckKey("key", c.Key), c.HSM.CheckKey("checkpoint-key", c.CheckpointKey), c.HSM.CheckKey("signer-key", c.SignerKey), c.HSM.CheckIssuerKey(c.IssuerKey),
	)
}

// firstAfter returns the member of that name, read.
func (c Config) firstAfter() (map[keyset.ID]dukpt.KeyID, error) {
	out := make(map[keyset.ID]dukpt.KeyID, len(c.FirstAfter))
	for name, text := range c.FirstAfter {
		set, err := keyset.ParseID(name)
		if err != nil {
			return nil, fmt.Errorf("first-after: %w", err)
		}
		id, err := dukpt.ParseKeyID(text)
		if err != nil || id.String() != text {
			return nil, fmt.Errorf("first-after: %s: want a key id in upper-case hex", set)
		}
		out[set] = id
	}
	return out, nil
}
