package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	nodedecrypt "github.com/latchkey-pos/latchkey/internal/node/decrypt"
	nodekeydist "github.com/latchkey-pos/latchkey/internal/node/keydist"
	nodeprovision "github.com/latchkey-pos/latchkey/internal/node/provision"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
)

const elsewhere = "PostgreSQL has its own means: pg_basebackup and a write-ahead archive to copy it; when it is restored, latchkey store fence"

type backedUp struct {
	File  string `json:"file"`
	Bytes int64  `json:"bytes"`
}

func newStoreBackup(c *console) *cobra.Command {
	var config, service, to string
	cmd := &cobra.Command{
		Use:   "backup",
		Short: "Copy the database file of a service, which may be running",
		Long: `Backup copies the database of a service to a new file, which nobody but its owner can read. The service goes
on meanwhile; the copy has all that was answered before the command began. It is read back before the
command ends: an exit code of 0 means that there is a whole copy on the disk.

A copy of the claims of latchkey-decryptd is always an old one: what was answered since must never be answered
again in another way. 'latchkey store restore' therefore puts a fence. Keep the checkpoint-file of the service
elsewhere, too; it is what an old copy is known by.`,
		Example: `  latchkey store backup --config pos/decryptd.yaml --to /backup/decryptd-2026-11-01.db
  latchkey store backup --service keyd --config pos/keyd.yaml --to /backup/keyd-2026-11-01.db`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to == "" {
				return exit.Errorf(exit.Usage, "--to is required: the new file")
			}
			path, kind, err := databaseFile(service, config)
			if err != nil {
				return err
			}
			bar := newBar(c.stderr, "copying")
			err = sqlite.Backup(cmd.Context(), path, to, kind, bar.show)
			bar.end()
			if err != nil {
				return explainCopy(err)
			}
			info, err := os.Stat(to)
			if err != nil {
				return err
			}
			return c.show(backedUp{to, info.Size()}, field{"file", to}, field{"bytes", info.Size()})
		},
	}
	cmd.Flags().StringVar(&config, "config", "decryptd.yaml", "configuration of the service")
	cmd.Flags().StringVar(&service, "service", "decryptd", "whose configuration it is: decryptd, provisiond or keyd")
	cmd.Flags().StringVar(&to, "to", "", "the new file (required)")
	return cmd
}

// databaseFile finds the file that the configuration of a service names.
func databaseFile(service, config string) (path string, kind sqlite.Kind, err error) {
	var folder, file string
	var postgres *daemon.PostgresConfig
	switch service {
	case "decryptd":
		var c nodedecrypt.Config
		c, err = nodedecrypt.LoadConfig(config)
		folder, file, postgres, kind = c.Folder, c.Database, c.Postgres, sqlite.Claims
	case "provisiond":
		var c nodeprovision.Config
		c, err = nodeprovision.LoadConfig(config)
		folder, file, postgres, kind = c.Folder, c.Database, c.Postgres, sqlite.Registry
	case "keyd":
		var c nodekeydist.Config
		c, err = nodekeydist.LoadConfig(config)
		folder, file, postgres, kind = c.Folder, c.Database, c.Postgres, sqlite.Deliveries
	default:
		return "", 0, exit.With(exit.Usage, fmt.Errorf("%q keeps nothing in a database", service), "--service is one of decryptd, provisiond, keyd")
	}
	if err != nil {
		return "", 0, exit.With(exit.Usage, err, "name the configuration of the service with --config, and the service with --service")
	}
	if postgres != nil {
		return "", 0, exit.With(exit.Refused, nodedecrypt.ErrElsewhere, elsewhere)
	}
	return daemon.Path(folder, file), kind, nil
}

type restored struct {
	fenced
	Before string `json:"database-before,omitempty"`
}

func newStoreRestore(c *console) *cobra.Command {
	var config, from string
	var replace bool
	var req nodedecrypt.FenceRequest
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Put a copy of the claims in the place of the database, behind a fence",
		Long: `Restore puts a copy that 'latchkey store backup' made in the place of the database of latchkey-decryptd. It
reads the copy whole, has its audit log fit the checkpoint-file, and puts the fence that 'latchkey store fence'
would put, before the copy is in its place: the service cannot start without it. The copy itself is not
changed. Stop the service first.

--ordinals is counted as for 'latchkey store fence'. A copy that lacks what the checkpoint-file vouches for is refused:
look for a newer one first; with --accept-loss it is taken, the audit log says what was lost, and the checkpoint
is set aside. A database that is in the place is refused too: with --replace it is kept beside, under another name.

When the command is killed there is the database from before, the new one, or none; the service makes no
empty one then. Run the command again.`,
		Example: `  latchkey store restore --config pos/decryptd.yaml --from /backup/decryptd-2026-11-01.db --ordinals 500
  latchkey store restore --config pos/decryptd.yaml --from /backup/decryptd-2026-11-01.db --ordinals 9999 --replace --accept-loss`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from == "" {
				return exit.Errorf(exit.Usage, "--from is required: a copy that latchkey store backup made")
			}
			if err := checkOrdinals(req.Ordinals, false); err != nil {
				return err
			}
			conf, err := nodedecrypt.LoadConfig(config)
			if err != nil {
				return exit.With(exit.Usage, err, "name the configuration of latchkey-decryptd with --config")
			}
			bar := newBar(c.stderr, "copying")
			done, err := nodedecrypt.Restore(cmd.Context(), conf, from, replace, req, bar.show)
			bar.end()
			if err != nil {
				return explainCopy(err)
			}
			return c.show(restored{fenced{done.Known, req.Ordinals, done.Lost, done.SetAside}, done.Before},
				field{"counters known", done.Known}, field{"ordinals", req.Ordinals}, field{"lost", done.Lost},
				field{"checkpoint set aside", done.SetAside}, field{"database before", done.Before})
		},
	}
	cmd.Flags().StringVar(&config, "config", "decryptd.yaml", "configuration of latchkey-decryptd")
	cmd.Flags().StringVar(&from, "from", "", "the copy (required)")
	cmd.Flags().Uint32Var(&req.Ordinals, "ordinals", 0, "how far beyond all that is known of a counter (required)")
	cmd.Flags().BoolVar(&req.Accept, "accept-loss", false, "the copy lacks what the checkpoint vouches for, and there is no newer one")
	cmd.Flags().BoolVar(&replace, "replace", false, "there is a database, which is to be kept under another name")
	return cmd
}

// explainCopy gives errors of copies and databases their exit codes.
func explainCopy(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	explained, known := exit.Explain(err,
		exit.When(nodedecrypt.ErrElsewhere, exit.Refused, elsewhere),
		exit.When(sqlite.ErrThere, exit.Refused, "name a new file for a copy; for a database, --replace keeps it under another name"),
		exit.When(os.ErrExist, exit.Refused, "name a new file"),
		exit.When(sqlite.ErrMissing, exit.NotFound, "name the file with --from; for a copy, --config names the configuration of the service"))
	if known {
		return explained
	}
	return explainFence(err)
}
