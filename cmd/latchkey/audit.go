package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	nodedecrypt "github.com/latchkey-pos/latchkey/internal/node/decrypt"
	nodekeydist "github.com/latchkey-pos/latchkey/internal/node/keydist"
	nodeprovision "github.com/latchkey-pos/latchkey/internal/node/provision"
	"github.com/latchkey-pos/latchkey/internal/store/postgres"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
)

func newAudit(c *console) *cobra.Command {
	return noun("audit", "The log of every use: read, verify and export it, and have its checkpoints signed in a token",
		newAuditVerify(c), newAuditTail(c), newAuditExport(c), newAuditKey(c))
}

type verified struct {
	Leaves      uint64 `json:"leaves"`
	Root        string `json:"root"`
	Checkpoints int    `json:"checkpoints"`
	Signed      uint64 `json:"signedLeaves"`
	Key         string `json:"key"`
	Verdict     string `json:"verdict"`
}

func newAuditVerify(c *console) *cobra.Command {
	var from auditSource
	var keyFile, exported string
	var kept []string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Recompute the audit log and hold it against its signed checkpoints",
		Long: `Verify reads the audit log of a database, offline or while the service runs, recomputes the Merkle tree
from every record, and checks each signed checkpoint. It names the first record that is not as it was
written.

Where several services share a PostgreSQL, --config names the configuration of one of them in place of
--database: its log is verified.

Checkpoints that were kept elsewhere (--checkpoint) also show when the newest records are missing: a
log that was cut short together with its own checkpoints is otherwise consistent.

--export reads a file that 'latchkey audit export' wrote, and needs no database.`,
		Example: `  latchkey audit verify --database decryptd.db --key-file audit/checkpoint.pub --checkpoint kept/checkpoint
  latchkey audit verify --config decryptd.yaml --key-file audit/checkpoint.pub
  latchkey audit verify --export audit-2026-11.jsonl --key-file audit/checkpoint.pub`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := readVerifier(keyFile)
			if err != nil {
				return err
			}
			notes, err := readNotes(kept)
			if err != nil {
				return err
			}
			open := func() (closingSource, error) { return from.open(cmd) }
			if exported != "" {
				if cmd.Flags().Changed("database") || from.config != "" {
					return exit.Errorf(exit.Usage, "--export needs no --database and no --config")
				}
				open = func() (closingSource, error) { return openExport(exported) }
			}
			r, err := verifyLog(cmd.Context(), open, v, notes)
			if err != nil {
				return err
			}
			if r.Signed < r.Leaves && exported != "" { // nothing but checkpoints stands for a file that anybody can write
				return exit.With(exit.Verification, fmt.Errorf("%d records are under no checkpoint", r.Leaves-r.Signed),
					"latchkey audit export writes none of those: the file is not as it was written")
			}
			if r.Signed < r.Leaves {
				c.note("the newest %d records are not under a checkpoint yet", r.Leaves-r.Signed)
			}
			return c.show(r, field{"records", r.Leaves}, field{"root", r.Root}, field{"checkpoints", r.Checkpoints},
				field{"records under a checkpoint", r.Signed}, field{"key", r.Key}, field{"verdict", r.Verdict})
		},
	}
	from.flags(cmd)
	cmd.Flags().StringVar(&exported, "export", "", "file that latchkey audit export wrote, in place of a database")
	cmd.Flags().StringVar(&keyFile, "key-file", "audit/checkpoint.pub", "public keys of the checkpoints of this service")
	cmd.Flags().StringArrayVar(&kept, "checkpoint", nil, "a checkpoint that was kept elsewhere; may be given again")
	return cmd
}

// addedKey is what audit key shows.
type addedKey struct {
	Key           string `json:"key"`      // name
	Verifier      string `json:"verifier"` // public text
	File          string `json:"file"`     // where it was added
	Configuration string `json:"configuration"`
	CheckpointKey string `json:"checkpointKey"` // member of it
}

func newAuditKey(c *console) *cobra.Command {
	f, key := &folder{c: c}, &held{element{c: c}, "key"}
	configurations := map[string]string{"decryptd": deploy.DecryptdFile, "provisiond": deploy.ProvisiondFile, "keyd": deploy.KeydFile}
	cmd := &cobra.Command{
		Use:   "key DAEMON",
		Short: "Have the checkpoints of a service signed by a key in a token",
		Long: `Key takes a key pair of Ed25519 in a PKCS#11 token (latchkey key pair --curve Ed25519) for the audit checkpoints of decryptd,
provisiond or keyd: its public half is added to the file that latchkey audit verify reads, beside those of the keys before it,
whose checkpoints go on to count. When the configuration of the service names the key, which is shown, and it is started again,
it signs with it.`,
		Example: "  latchkey audit key decryptd --dir ./pos --pin-file decryptd.pin \\\n" +
			"    --key 'pkcs11:token=decryptd;object=audit?module-path=/usr/lib/softhsm/libsofthsm2.so'",
		Args: arguments("DAEMON"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, ok := configurations[args[0]]
			if !ok {
				return exit.With(exit.Usage, fmt.Errorf("%q keeps no audit log", args[0]), "one of decryptd, provisiond, keyd")
			}
			u, err := key.parse()
			if err != nil {
				return err
			}
			config, err := f.config()
			if err != nil {
				return err
			}
			a := addedKey{Key: deploy.CheckpointName(config.Tenant, args[0]), Configuration: file, CheckpointKey: u.Object().String()}
			err = key.with(cmd.Context(), func(held crypto.Signer) error {
				_, a.Verifier, err = audit.NewSignerOf(a.Key, held)
				return exit.With(exit.Refused, err, "latchkey key pair --curve Ed25519 makes one that is for this")
			})
			if err != nil {
				return err
			}
			if a.File, err = deploy.AddCheckpointVerifier(f.dir, args[0], a.Verifier); errors.Is(err, fs.ErrExist) {
				return exit.With(exit.Refused, err, "name it in the configuration: checkpoint-key: "+a.CheckpointKey)
			}
			if err != nil {
				return err
			}
			return c.show(a, field{"key", a.Key}, field{"verifier", a.Verifier}, field{"added to", a.File}, field{"in " + file, "checkpoint-key: " + a.CheckpointKey})
		},
	}
	cmd.Flags().StringVar(&f.dir, "dir", ".", "folder of the deployment, as latchkey init made it")
	key.flags(cmd)
	required(cmd, "key")
	return cmd
}

func readVerifier(path string) (*audit.Verifier, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, exit.With(exit.NotFound, err, "name the public key of the service with --key-file: audit/checkpoint.pub, audit/provisiond.pub or audit/keyd.pub")
	}
	v, err := audit.NewVerifier(string(text))
	return v, exit.With(exit.Usage, err, "the file is audit/checkpoint.pub, audit/provisiond.pub or audit/keyd.pub of the deployment")
}

func readNotes(paths []string) ([][]byte, error) {
	var notes [][]byte
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			return nil, exit.With(exit.NotFound, err, "")
		}
		notes = append(notes, b)
	}
	return notes, nil
}

// closingSource is a log that can be verified.
type closingSource interface {
	audit.Source
	Close() error
}

// auditLog is the log of one service, in its database.
type auditLog interface {
	closingSource
	Size(ctx context.Context) (uint64, error)
	LeavesFrom(ctx context.Context, first uint64, yield func(audit.Leaf) error) error
}

// auditSource says where a log is.
type auditSource struct{ database, config, service string }

func (s *auditSource) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.database, "database", "decryptd.db", "file of claims and audit log")
	cmd.Flags().StringVar(&s.config, "config", "", "configuration of a service with a section postgres, in place of --database")
	cmd.Flags().StringVar(&s.service, "service", "decryptd", "whose configuration it is: decryptd, provisiond or keyd")
}

func (s *auditSource) open(cmd *cobra.Command) (auditLog, error) {
	if s.config == "" {
		return openFile(s.database)
	}
	if cmd.Flags().Changed("database") {
		return nil, exit.Errorf(exit.Usage, "--database or --config, not both")
	}
	return openShared(cmd.Context(), s.service, s.config)
}

func openFile(database string) (auditLog, error) {
	log, err := sqlite.OpenAudit(database)
	if err != nil {
		err, _ = exit.Explain(err,
			exit.When(sqlite.ErrMissing, exit.NotFound, "name the database of the service with --database"),
			exit.When(sqlite.ErrDamaged, exit.Verification, "keep the file, and compare it with a copy"))
		return nil, err
	}
	return log, nil
}

// openShared opens the log of one of several services in a PostgreSQL.
func openShared(ctx context.Context, service, config string) (auditLog, error) {
	switch service {
	case "decryptd":
		return logOf(ctx, config, nodedecrypt.LoadConfig, nodedecrypt.OpenAudit)
	case "provisiond":
		return logOf(ctx, config, nodeprovision.LoadConfig, nodeprovision.OpenAudit)
	case "keyd":
		return logOf(ctx, config, nodekeydist.LoadConfig, nodekeydist.OpenAudit)
	}
	return nil, exit.With(exit.Usage, fmt.Errorf("%q keeps no audit log", service), "--service is one of decryptd, provisiond, keyd")
}

func logOf[C any](
	ctx context.Context, path string, load func(string) (C, error), open func(context.Context, C) (*postgres.AuditLog, error),
) (auditLog, error) {
	c, err := load(path)
	if err != nil {
		return nil, exit.With(exit.Usage, err, "name the configuration of the service with --config, and the service with --service")
	}
	log, err := open(ctx, c)
	if err != nil {
		return nil, explainPostgres(err)
	}
	return log, nil
}

func verifyLog(ctx context.Context, open func() (closingSource, error), v *audit.Verifier, kept [][]byte) (verified, error) {
	log, err := open()
	if err != nil {
		return verified{}, err
	}
	r, err := audit.Verify(ctx, log, v, kept...)
	if cerr := log.Close(); err == nil {
		err = cerr
	}
	if audit.Broken(err) {
		return verified{}, exit.With(exit.Verification, err, "is --key-file that of this service? If so, the log is not as it was written: keep the file and find out who had access to it")
	}
	if err != nil {
		return verified{}, err
	}
	return verified{
		Leaves: r.Size, Root: fmt.Sprint(r.Root), Checkpoints: r.Checkpoints, Signed: r.Signed, Key: v.Name(), Verdict: "as written",
	}, nil
}
