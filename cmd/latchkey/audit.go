package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
)

func newAudit(c *console) *cobra.Command {
	return noun("audit", "The log of every use: verify it", newAuditVerify(c))
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
	var database, keyFile string
	var kept []string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Recompute the audit log and hold it against its signed checkpoints",
		Long: `Verify reads the audit log of a database, offline or while the service runs, recomputes the Merkle tree
from every record, and checks each signed checkpoint. It names the first record that is not as it was
written.

Checkpoints that were kept elsewhere (--checkpoint) also show when the newest records are missing: a
log that was cut short together with its own checkpoints is otherwise consistent.`,
		Example: "  latchkey audit verify --database decryptd.db --key-file audit/checkpoint.pub --checkpoint kept/checkpoint",
		Args:    arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := readVerifier(keyFile)
			if err != nil {
				return err
			}
			notes, err := readNotes(kept)
			if err != nil {
				return err
			}
			r, err := verifyLog(cmd.Context(), database, v, notes)
			if err != nil {
				return err
			}
			if r.Signed < r.Leaves {
				c.note("the newest %d records are not under a checkpoint yet", r.Leaves-r.Signed)
			}
			return c.show(r, field{"records", r.Leaves}, field{"root", r.Root}, field{"checkpoints", r.Checkpoints},
				field{"records under a checkpoint", r.Signed}, field{"key", r.Key}, field{"verdict", r.Verdict})
		},
	}
	cmd.Flags().StringVar(&database, "database", "decryptd.db", "file of claims and audit log")
	cmd.Flags().StringVar(&keyFile, "key-file", "audit/checkpoint.pub", "public key of the checkpoints of this service")
	cmd.Flags().StringArrayVar(&kept, "checkpoint", nil, "a checkpoint that was kept elsewhere; may be given again")
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

func verifyLog(ctx context.Context, database string, v *audit.Verifier, kept [][]byte) (verified, error) {
	log, err := sqlite.OpenAudit(database)
	if errors.Is(err, sqlite.ErrMissing) {
		return verified{}, exit.With(exit.NotFound, err, "name the database of the service with --database")
	}
	if errors.Is(err, sqlite.ErrDamaged) {
		return verified{}, exit.With(exit.Verification, err, "keep the file, and compare it with a copy")
	}
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
