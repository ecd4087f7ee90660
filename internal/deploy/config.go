package deploy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/latchkey-pos/latchkey/keys/keyset"
)

const configVersion = 1

// Config is what latchkey.yaml says: whose deployment it is. It does not change after Create.
type Config struct {
	Tenant      keyset.TenantID
	Environment keyset.Environment
	Created     time.Time // UTC, whole seconds
}

// configFile is the form of latchkey.yaml.
type configFile struct {
	Version     int    `yaml:"version"`
	Tenant      string `yaml:"tenant"`
	Environment string `yaml:"environment"`
	Created     string `yaml:"created"`
}

// LoadConfig reads DIR/latchkey.yaml. Unknown fields are an error. A folder without the file wraps ErrNotDeployment.
func LoadConfig(dir string) (Config, error) {
	path := filepath.Join(dir, ConfigFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("%w: %s has no %s", ErrNotDeployment, dir, ConfigFile)
	}
	if err != nil {
		return Config{}, fmt.Errorf("deploy: %w", err)
	}
	var f configFile
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil {
		return Config{}, fmt.Errorf("deploy: %s: %w", path, err)
	}
	if err := d.Decode(new(any)); !errors.Is(err, io.EOF) {
		return Config{}, fmt.Errorf("deploy: %s holds more than one document", path)
	}
	c, err := f.parse()
	if err != nil {
		return Config{}, fmt.Errorf("deploy: %s: %w", path, err)
	}
	return c, nil
}

func (f configFile) parse() (c Config, err error) {
	if f.Version != configVersion {
		return Config{}, fmt.Errorf("version %d, want %d", f.Version, configVersion)
	}
	if c.Tenant, err = keyset.ParseTenant(f.Tenant); err != nil {
		return Config{}, err
	}
	if c.Environment, err = keyset.ParseEnvironment(f.Environment); err != nil {
		return Config{}, err
	}
	if c.Created, err = time.Parse(time.RFC3339, f.Created); err != nil {
		return Config{}, errors.New("created is not a date of RFC 3339")
	}
	return c, nil
}

func (c Config) marshal() []byte {
	return fmt.Appendf(nil, `# Whose deployment this is. Made by latchkey init; nothing here can be changed afterwards.
version: %d
tenant: %s
environment: %v
created: "%s"
`, configVersion, c.Tenant, c.Environment, c.Created.UTC().Format(time.RFC3339))
}

// decryptdYAML is the configuration of the decryption service, ready to run and with every field explained.
func decryptdYAML(c Config) []byte {
	return fmt.Appendf(nil, `# Configuration of latchkey-decryptd. Start it with:
#
#     latchkey-decryptd --config decryptd.yaml
#
# Paths are relative to "folder". A field that is left out has the value shown here; an unknown field is an error.
# "latchkey-decryptd --config decryptd.yaml --check" reads everything and exits.

# Where hosts of role acquirer-host call, over mutual TLS 1.3.
listen: 127.0.0.1:8443
# Liveness, readiness and metrics, without TLS: keep it on this machine.
admin: 127.0.0.1:9443

# The deployment folder, relative to this file.
folder: .
# Names this instance in the audit log. Two instances never share a name.
instance: %[3]s
tenant: %[1]s
# Answers of another environment than this one are refused: production or test.
environment: %[2]v

# The passphrase that sealed files open with: one line, in a file of mode 0600. init does not write it.
passphrase-file: passphrase

# The certificate that callers see (leaf, then issuing certificate) and its key. Whom the service trusts stands in the
# trust folder; key sets and terminals are read from keysets and terminals, again each second and on SIGHUP.
certificate: services/decrypt/cert.pem
key: services/decrypt/key.sealed

# The keys, and the claims. The database is made on first start; do not copy it while the service runs.
keyring: keyring
database: decryptd.db

# The audit log is part of the database. Its checkpoints are signed with this key and written to this file as often as
# said: ship the file off this machine, "latchkey audit verify" compares with it.
checkpoint-key: audit/checkpoint.key.sealed
checkpoint-file: audit/checkpoint
checkpoint-every: 1m

# Who may call, by the name in its certificate, and the zone keys it may have PINs translated to. A key set must allow
# the zone key too.
callers:
  - name: %[4]s
    pin-keys:
      - alias/zone-1
`, c.Tenant, c.Environment, decryptName, acquirerName)
}
