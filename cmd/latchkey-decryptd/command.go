package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
	node "github.com/latchkey-pos/latchkey/internal/node/decrypt"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// override is a member of the configuration file that the environment and a flag may replace.
type override struct {
	flag, variable, usage string
	member                func(*node.Config) *string
}

var overrides = []override{
	{"listen", "LATCHKEY_LISTEN", "address for acquirer hosts, HOST:PORT", func(c *node.Config) *string { return &c.Listen }},
	{"admin", "LATCHKEY_ADMIN", "address for operators, HOST:PORT", func(c *node.Config) *string { return &c.Admin }},
	{"folder", "LATCHKEY_FOLDER", "deployment folder", func(c *node.Config) *string { return &c.Folder }},
	{"instance", "LATCHKEY_INSTANCE", "name of this instance in the audit log", func(c *node.Config) *string { return &c.Instance }},
	{"database", "LATCHKEY_DATABASE", "file of claims, answers and audit log", func(c *node.Config) *string { return &c.Database }},
	{"passphrase-file", "LATCHKEY_PASSPHRASE_FILE", "file with the passphrase of the sealed files", func(c *node.Config) *string { return &c.PassphraseFile }},
}

func newCommand(d *daemon) *cobra.Command {
	var path string
	var check bool
	given := make([]string, len(overrides))
	cmd := &cobra.Command{
		Use:   "latchkey-decryptd --config FILE",
		Short: "The host decryption service",
		Long: `latchkey-decryptd verifies, decrypts and PIN-translates what payment terminals send. A message
is answered once: the same again gets the same answer, anything else under its key serial
number is refused, across restarts and power cuts.

Acquirer hosts call it over mutual TLS 1.3 with a certificate of role acquirer-host:
  POST /transactions             a message as received -> what it holds
  POST /transactions/answer      the host's decision -> the acknowledgement for the terminal
  GET  /terminals/ID/counters    where the counters of a terminal stand
Operators ask the admin address, plain HTTP: /livez, /readyz, /metrics.

The configuration is one YAML file; ` + "`latchkey init`" + ` writes one, decryptd.yaml, that works. Each flag
below replaces the member of the same name; so does a variable, LATCHKEY_ and the name in
capitals, and a flag wins over a variable. Unknown members are errors.

  tenant: ACME                     required: whose terminals and callers are served
  passphrase-file: decrypt.pass    required: opens the sealed files, mode 0600
  callers:                         required: the acquirer hosts that are served
    - name: ACQ-1                  as in its certificate
      pin-keys: [alias/zone-1]     zone keys that PINs may go to for it
  registry:                        the registration authority that says which terminals there are,
                                   and what of them may be used; absent: the folder says it
    urls: [https://ra:8445]        its addresses for services, tried in turn
    stale-after: 5m                when its silence stops everything; and certificate, key, cache
  listen: 127.0.0.1:8443           and admin, folder, instance, database, certificate, key,
                                   keyring, checkpoint-key, checkpoint-file, checkpoint-every

Signals: TERM and INT end it after the requests under way, HUP reads key sets, terminals and
keys again at once; they are read each second anyway.

When it is ready it writes one line of JSON with its addresses to standard output. Logs are
JSON on standard error and never hold a key, a PIN or a whole card number.

Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 refused by policy, 5 unreachable,
6 verification failed.`,
		Example: `  latchkey-decryptd --config pos/decryptd.yaml --check
  latchkey-decryptd --config pos/decryptd.yaml --listen 127.0.0.1:0`,
		Args: func(cmd *cobra.Command, args []string) error {
			return exit.With(exit.Usage, cobra.NoArgs(cmd, args), "see: latchkey-decryptd --help")
		},
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if path == "" {
				return exit.With(exit.Usage, errors.New("--config is missing"), "latchkey-decryptd --help shows what the file holds")
			}
			c, err := d.config(path, func(i int) (string, bool) { return given[i], cmd.Flags().Changed(overrides[i].flag) })
			if err != nil {
				return err
			}
			return d.serve(cmd.Context(), c, check)
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "configuration file, YAML")
	cmd.Flags().BoolVar(&check, "check", false, "open everything that the configuration names, making the database if there never was one, report, and end")
	for i, o := range overrides {
		cmd.Flags().StringVar(&given[i], o.flag, "", o.usage)
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return exit.With(exit.Usage, err, "see: latchkey-decryptd --help")
	})
	return cmd
}

// config reads the file and puts the environment over it, and the flags over both.
func (d *daemon) config(path string, given func(int) (string, bool)) (node.Config, error) {
	c, err := node.LoadConfig(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, exit.With(exit.NotFound, err, "latchkey init writes a configuration that works")
	}
	if err != nil {
		return c, exit.With(exit.Usage, err, "latchkey-decryptd --help shows what the file holds")
	}
	for i, o := range overrides {
		if v := d.getenv(o.variable); v != "" {
			*o.member(&c) = v
		}
		if v, ok := given(i); ok {
			*o.member(&c) = v
		}
	}
	c.Reload = d.reload
	if err := c.Check(); err != nil {
		return c, exit.With(exit.Usage, fmt.Errorf("%s: %w", path, err), "latchkey-decryptd --help shows what the file holds")
	}
	return c, nil
}

func (d *daemon) serve(ctx context.Context, c node.Config, check bool) error {
	log := slog.New(slog.NewJSONHandler(d.stderr, nil))
	if planted.Built {
		log.Warn("this binary can carry planted faults: it is for tests only")
	}
	out := slog.New(slog.NewJSONHandler(d.stdout, nil))
	if check {
		if err := node.Check(ctx, c, log); err != nil {
			return coded(err)
		}
		out.Info("checked", slog.String("tenant", c.Tenant), slog.String("folder", c.Folder))
		return nil
	}
	return coded(node.Run(ctx, c, log, func(a node.Addrs) {
		out.Info("ready", slog.String("service", a.Service), slog.String("admin", a.Admin), slog.String("instance", c.Instance))
	}))
}

// coded gives the errors of starting their exit codes.
func coded(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, seal.ErrPassphrase):
		return exit.With(exit.Verification, err, "is passphrase-file that of this deployment, and the sealed file unchanged?")
	case errors.Is(err, keyset.ErrSignature), errors.Is(err, keyset.ErrApprovals):
		return exit.With(exit.Verification, err, "have the document signed by the operators of this deployment")
	case errors.Is(err, sqlite.ErrMissing):
		return exit.With(exit.NotFound, err, "there is a checkpoint, so there was a database: restore it; an empty one would answer every replay")
	case errors.Is(err, sqlite.ErrLocked):
		return exit.With(exit.Failure, err, "one process serves one database: is another latchkey-decryptd running?")
	case errors.Is(err, sqlite.ErrDamaged):
		return exit.With(exit.Verification, err, "keep the files and restore the database from a backup that the audit checkpoint confirms")
	case errors.Is(err, fs.ErrNotExist):
		return exit.With(exit.NotFound, err, "latchkey init makes the deployment folder; paths in the file are relative to folder")
	case errors.Is(err, fs.ErrPermission):
		return exit.With(exit.Refused, err, "the service's user must own the file")
	}
	return err
}
