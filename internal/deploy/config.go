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
