package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	nodedecrypt "github.com/latchkey-pos/latchkey/internal/node/decrypt"
	nodekeydist "github.com/latchkey-pos/latchkey/internal/node/keydist"
	nodeprovision "github.com/latchkey-pos/latchkey/internal/node/provision"
	"github.com/latchkey-pos/latchkey/internal/store/postgres"
)

func newStore(c *console) *cobra.Command {
	return noun("store", "The databases of services: make the tables of PostgreSQL, copy and restore files, fence claims",
		newStoreMigrate(c), newStoreBackup(c), newStoreRestore(c), newStoreFence(c))
}

type migrated struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

func newStoreMigrate(c *console) *cobra.Command {
	var config, service string
	var as daemon.PostgresUser
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Make the tables, or bring them up to date",
		Long: `Migrate makes the tables of the database that the section postgres of a configuration names, in its
schema, or brings those of an older release up to date: one step after the other, each whole or not at
all. Services of this release do not start before. Two at once wait for each other. latchkey-decryptd,
latchkey-provisiond and latchkey-keyd have tables of their own, each in a schema of its own: latchkey,
latchkey_registry and latchkey_deliveries, unless the section says another.

The user of the services needs no right to change tables. Another one, named by --user, may have it;
then the services need the rights to use the schema, and to read and write its tables:

  GRANT USAGE ON SCHEMA latchkey TO decryptd;
  GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA latchkey TO decryptd;
  GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA latchkey_registry TO provisiond;
  GRANT pg_read_all_stats TO decryptd;    -- to tell a base backup from a standby`,
		Example: `  latchkey store migrate --config pos/decryptd.yaml
  latchkey store migrate --service provisiond --config pos/provisiond.yaml
  latchkey store migrate --config pos/decryptd.yaml --user owner --password-file owner.password`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if as.Name == "" && as.PasswordFile != "" {
				return exit.Errorf(exit.Usage, "--password-file is that of --user")
			}
			migrate, err := migration(service, config)
			if err != nil {
				return err
			}
			bar := newBar(c.stderr, "migrating")
			from, to, err := migrate(cmd.Context(), as, slog.New(slog.DiscardHandler), bar.show)
			bar.end()
			if err != nil {
				return explainPostgres(err)
			}
			return c.show(migrated{from, to}, field{"version before", from}, field{"version now", to})
		},
	}
	cmd.Flags().StringVar(&config, "config", "decryptd.yaml", "configuration of the service with a section postgres")
	cmd.Flags().StringVar(&service, "service", "decryptd", "whose configuration it is: decryptd, provisiond or keyd")
	cmd.Flags().StringVar(&as.Name, "user", "", "who makes the tables; default: the user of the service")
	cmd.Flags().StringVar(&as.PasswordFile, "password-file", "", "file with the password of --user: one line, mode 0600")
	return cmd
}

// migrate makes the tables of one kind of service.
type migrate func(context.Context, daemon.PostgresUser, *slog.Logger, func(done, of int)) (from, to int64, err error)

// migration reads the configuration of a service.
func migration(service, config string) (migrate, error) {
	switch service {
	case "decryptd":
		return migrationOf(config, nodedecrypt.LoadConfig, nodedecrypt.Migrate)
	case "provisiond":
		return migrationOf(config, nodeprovision.LoadConfig, nodeprovision.Migrate)
	case "keyd":
		return migrationOf(config, nodekeydist.LoadConfig, nodekeydist.Migrate)
	}
	return nil, exit.With(exit.Usage, fmt.Errorf("%q keeps nothing in a database", service), "--service is one of decryptd, provisiond, keyd")
}

func migrationOf[C any](
	path string, load func(string) (C, error),
	run func(context.Context, C, daemon.PostgresUser, *slog.Logger, func(done, of int)) (from, to int64, err error),
) (migrate, error) {
	c, err := load(path)
	if err != nil {
		return nil, exit.With(exit.Usage, err, "name the configuration of the service with --config, and the service with --service")
	}
	return func(ctx context.Context, as daemon.PostgresUser, log *slog.Logger, progress func(done, of int)) (int64, int64, error) {
		return run(ctx, c, as, log, progress)
	}, nil
}

// explainPostgres gives errors of a database their exit codes.
func explainPostgres(err error) error {
	err, _ = exit.Explain(err,
		exit.When(postgres.ErrMissing, exit.NotFound, "run latchkey store migrate"),
		exit.When(postgres.ErrNewer, exit.Refused, "use the release that made the tables, or a newer one"),
		exit.When(postgres.ErrUnsafe, exit.Refused, "change the setting in postgresql.conf: see 'More than one decryption service' in docs/deployment.md"),
		exit.When(postgres.ErrBehind, exit.Verification, "keep the database as it is, and compare it with a copy"),
		exit.When(postgres.ErrDamaged, exit.Verification, "keep the database as it is, and compare it with a copy"),
		exit.When(postgres.ErrUnavailable, exit.Unreachable, "is the server running, and is the section postgres right?"))
	return err
}

// bar is the progress of long work, for a person at a terminal; elsewhere it is silent.
type bar struct {
	w     io.Writer
	label string
}

func newBar(stderr io.Writer, label string) bar {
	if f, ok := stderr.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		stderr = io.Discard
	}
	return bar{stderr, label}
}

const barWidth = 30

// show draws how many steps of how many are done.
func (b bar) show(done, of int) {
	filled := barWidth
	if of > 0 {
		filled = barWidth * done / of
	}
	fmt.Fprintf(b.w, "\r%s [%s%s] %d of %d", b.label, strings.Repeat("#", filled), strings.Repeat(" ", barWidth-filled), done, of)
}

func (b bar) end() { fmt.Fprintln(b.w) }
