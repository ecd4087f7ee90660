package deploy_test

import (
	"reflect"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/keyring"
	nodedecrypt "github.com/latchkey-pos/latchkey/internal/node/decrypt"
	nodeprovision "github.com/latchkey-pos/latchkey/internal/node/provision"
)

// What a deployment gives is what the host service takes.
var (
	_ decrypt.Catalog = (*deploy.Catalog)(nil)
	_ decrypt.Secrets = (*keyring.Ring)(nil)
)

// The daemon takes the configuration that Create writes, and what it shows as defaults are the defaults.
func TestDecryptdConfig(t *testing.T) {
	t.Parallel()
	c, err := nodedecrypt.ParseConfig(deploy.DecryptdConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Error(err)
	}
	d := nodedecrypt.DefaultConfig()
	if c.Tenant != "ACME" || c.Environment != "test" || len(c.Callers) != 1 || c.Callers[0].Name != "ACQ-1" {
		t.Errorf("tenant %s, environment %s, callers %v", c.Tenant, c.Environment, c.Callers)
	}
	type shown struct{ listen, admin, folder, instance, certificate, key, keyring, database, checkpointKey, checkpointFile string }
	of := func(c nodedecrypt.Config) shown {
		return shown{c.Listen, c.Admin, c.Folder, c.Instance, c.Certificate, c.Key, c.Keyring, c.Database, c.CheckpointKey, c.CheckpointFile}
	}
	if of(c) != of(d) || c.CheckpointEvery != d.CheckpointEvery {
		t.Errorf("the file says %+v, the defaults are %+v", of(c), of(d))
	}
}

// The same holds for the registration authority.
func TestProvisiondConfig(t *testing.T) {
	t.Parallel()
	c, err := nodeprovision.ParseConfig(deploy.ProvisiondConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Error(err)
	}
	want := nodeprovision.DefaultConfig()
	want.Tenant, want.Environment, want.PassphraseFile = "ACME", "test", "passphrase"
	if !reflect.DeepEqual(c, want) {
		t.Errorf("the file says %+v, the defaults are %+v", c, want)
	}
}
