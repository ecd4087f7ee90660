package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

func newInit(c *console) *cobra.Command {
	var tenant, environment string
	var hosts []string
	f := &folder{c: c}
	cmd := &cobra.Command{
		Use:   "init DIR",
		Short: "Make a deployment: issuers, service certificates, an empty key folder",
		Long: `Init makes a folder with everything a first deployment needs:

  decryptd.yaml, provisiond.yaml, keyd.yaml   a commented configuration of each service
  ca/          three issuers that are never mixed: terminals, services, key distribution
  services/    certificates of the three services and of one acquirer host, and of what signs the
               registry feed and the deliveries of keys
  operators/   certificates of a first operator and an auditor
  trust/       the roots, and the signed trust list of terminals with its key
  keyring/     an empty key folder under a fresh local master key
  audit/       the keys of audit checkpoints

Every private key is sealed under the passphrase; the services read it from DIR/passphrase, a file
that you write. Whoever has the folder and the passphrase has everything: keep them apart, and keep
a copy of both.`,
		Example: "  latchkey init ./pos --tenant SHOP-1 --passphrase-file pass.txt",
		Args:    arguments("DIR"),
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := keyset.ParseTenant(tenant)
			if err != nil {
				return exit.With(exit.Usage, err, "a tenant has 1 to 32 of A-Z, 0-9 and -")
			}
			env, err := keyset.ParseEnvironment(environment)
			if err != nil {
				return exit.With(exit.Usage, err, "the environment is test or production, and never changes")
			}
			if err := emptyFolder(args[0]); err != nil {
				return err
			}
			pass, err := c.newPassphrase(f.passphraseFile, "--passphrase-file", "passphrase of the deployment")
			if err != nil {
				return err
			}
			defer pass.Wipe()
			c.note("making issuers and keys in %s …", args[0])
			d, err := deploy.Create(args[0], deploy.Options{
				Tenant: t, Environment: env, Passphrase: pass, Clock: time.Now, Hosts: hosts,
			})
			if errors.Is(err, fs.ErrExist) {
				return exit.With(exit.Refused, err, neverTwice)
			}
			if err != nil {
				return err
			}
			defer d.Close()
			c.note("next: write the passphrase to %s (one line, mode 0600): the services read it there", filepath.Join(args[0], "passphrase"))
			c.note("then: latchkey key generate --dir %s --name alias/bdk-1 --algorithm AES-128 --usage B0", args[0])
			return showMade(c, args[0], t, env, hosts)
		},
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "name of the tenant whose terminals these are")
	cmd.Flags().StringVar(&environment, "environment", "test", "test or production")
	cmd.Flags().StringSliceVar(&hosts, "host", []string{"localhost", "127.0.0.1"}, "names and addresses that the services answer on")
	cmd.Flags().StringVar(&f.passphraseFile, "passphrase-file", "", "file with the passphrase (mode 0600); - for standard input; default: ask, twice")
	required(cmd, "tenant")
	return cmd
}

const neverTwice = "init never touches a folder that has something in it: name a new one"

// emptyFolder refuses a folder that has something in it, before anybody chooses a passphrase and waits.
func emptyFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return exit.With(exit.Usage, err, "name a folder that is new or empty")
	case len(entries) > 0:
		return exit.With(exit.Refused, fmt.Errorf("%s is not empty", dir), neverTwice)
	}
	return nil
}

// showMade names what has to be found again.
func showMade(c *console, dir string, tenant keyset.TenantID, env keyset.Environment, hosts []string) error {
	made := struct {
		Dir            string   `json:"dir"`
		Tenant         string   `json:"tenant"`
		Environment    string   `json:"environment"`
		Hosts          []string `json:"hosts"`
		Config         string   `json:"config"` // of latchkey-decryptd
		Configurations []string `json:"configurations"`
	}{dir, string(tenant), env.String(), hosts, filepath.Join(dir, deploy.DecryptdFile), nil}
	fields := []field{{"folder", dir}, {"tenant", tenant}, {"environment", env}, {"hosts", strings.Join(hosts, ", ")}}
	for _, file := range []string{deploy.DecryptdFile, deploy.ProvisiondFile, deploy.KeydFile} {
		made.Configurations = append(made.Configurations, filepath.Join(dir, file))
		fields = append(fields, field{"configuration", filepath.Join(dir, file)})
	}
	return c.show(made, append(fields,
		field{"certificates", "operators " + filepath.Join(dir, "operators") + ", services " + filepath.Join(dir, "services")},
		field{"trust list", filepath.Join(dir, "trust", "list.signed")})...)
}
