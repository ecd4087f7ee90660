package main

import (
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
		Long: `Init makes a folder with everything a first deployment needs: three issuers that are never mixed
(terminals, services, key distribution), certificates for the decryption service and one acquirer
host, a first operator and an auditor, an empty key folder under a fresh local master key, the key
of audit checkpoints, and a commented decryptd.yaml.

Every private key is sealed under the passphrase. Whoever has the folder and the passphrase has
everything: keep them apart, and keep a copy of both.`,
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
			pass, err := f.passphrase()
			if err != nil {
				return err
			}
			defer pass.Wipe()
			c.note("making issuers and keys in %s …", args[0])
			d, err := deploy.Create(args[0], deploy.Options{
				Tenant: t, Environment: env, Passphrase: pass, Clock: time.Now, Hosts: hosts,
			})
			if err != nil {
				return exit.With(exit.Refused, err, "init never touches a folder that has something in it")
			}
			defer d.Close()
			c.note("next: latchkey key generate --dir %s --name alias/bdk-1 --algorithm AES-128 --usage B0", args[0])
			made := struct {
				Dir         string   `json:"dir"`
				Tenant      string   `json:"tenant"`
				Environment string   `json:"environment"`
				Hosts       []string `json:"hosts"`
				Config      string   `json:"config"`
			}{args[0], string(t), env.String(), hosts, filepath.Join(args[0], "decryptd.yaml")}
			return c.show(made, field{"folder", made.Dir}, field{"tenant", made.Tenant}, field{"environment", made.Environment},
				field{"hosts", strings.Join(hosts, ", ")}, field{"configuration", made.Config})
		},
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "name of the tenant whose terminals these are")
	cmd.Flags().StringVar(&environment, "environment", "test", "test or production")
	cmd.Flags().StringSliceVar(&hosts, "host", []string{"localhost", "127.0.0.1"}, "names and addresses that the services answer on")
	cmd.Flags().StringVar(&f.passphraseFile, "passphrase-file", "", "file with the passphrase (mode 0600); - for standard input; default: ask")
	if err := cmd.MarkFlagRequired("tenant"); err != nil {
		panic("latchkey: " + err.Error())
	}
	return cmd
}
