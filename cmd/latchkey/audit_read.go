package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/exit"
)

// followEvery is how often audit tail --follow looks for more.
const followEvery = 500 * time.Millisecond

// recordFilter is what a reader wants to see. Empty members want everything.
type recordFilter struct{ action, object, actor, result string }

func (f recordFilter) takes(r audit.Record) bool {
	return strings.HasPrefix(r.Action, f.action) && strings.Contains(r.Object, f.object) &&
		(f.actor == "" || r.Actor == f.actor) && (f.result == "" || r.Result == f.result || r.Reason == f.result)
}

func newAuditTail(c *console) *cobra.Command {
	var from auditSource
	var f recordFilter
	var last uint64
	var follow bool
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Show the newest records, and those that come",
		Long: `Tail shows the newest records of an audit log, oldest first: when, what came of it, what was done to what, by whom, from
where. The service may be running; with --follow the records that it adds are shown as they come, until the
command is interrupted. With -o json each record is one line of JSON.

--lines counts records before the filters choose. Tail reads what is stored; 'latchkey audit verify' says whether it
is what was written.`,
		Example: `  latchkey audit tail --database decryptd.db
  latchkey audit tail --config decryptd.yaml --follow --result REFUSED
  latchkey audit tail --database decryptd.db --lines 100000 --object FFFF9876543210E00001 -o json`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			log, err := from.open(cmd)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, log.Close()) }()
			size, err := log.Size(cmd.Context())
			if err != nil {
				return err
			}
			next := size - min(size, last)
			for {
				if next, err = c.records(cmd.Context(), log, next, f); err != nil || !follow {
					return interrupted(cmd.Context(), err)
				}
				select {
				case <-cmd.Context().Done():
					return nil
				case <-time.After(followEvery):
				}
			}
		},
	}
	from.flags(cmd)
	cmd.Flags().Uint64VarP(&last, "lines", "n", 20, "how many of the newest records are looked at")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes")
	cmd.Flags().StringVar(&f.action, "action", "", "only actions that begin so, such as transaction/")
	cmd.Flags().StringVar(&f.object, "object", "", "only objects that have this in them, such as a KSN")
	cmd.Flags().StringVar(&f.actor, "actor", "", "only what this one did")
	cmd.Flags().StringVar(&f.result, "result", "", "only this result or code, such as REFUSED or KsnReplayed")
	return cmd
}

// records writes the records from an index on that a filter takes, and returns the index after the last one.
func (c *console) records(ctx context.Context, log auditLog, next uint64, f recordFilter) (uint64, error) {
	err := log.LeavesFrom(ctx, next, func(l audit.Leaf) error {
		r, err := audit.ParseRecord(l.Record)
		if err != nil {
			return exit.With(exit.Verification, fmt.Errorf("record %d: %w", l.Index+1, err), "latchkey audit verify says more")
		}
		next = l.Index + 1
		if !f.takes(r) {
			return nil
		}
		if c.format == "json" {
			return json.NewEncoder(c.stdout).Encode(r)
		}
		_, err = fmt.Fprintln(c.stdout, r.Line())
		return err
	})
	return next, err
}

// interrupted is no error of a command that runs until then.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

type exportedLog struct {
	File    string `json:"file"`
	Records uint64 `json:"records"`
}

func newAuditExport(c *console) *cobra.Command {
	var from auditSource
	var to string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write the whole log as JSON Lines, which can be verified without the database",
		Long: `Export writes an audit log to a new file: a first line, each signed checkpoint, each record up to the newest
checkpoint, a last line with their number. A record stands there twice: as JSON for people and programs, and as the
bytes that the Merkle tree is made of. 'latchkey audit verify --export' recomputes the tree from the file: it refuses one in
which a record is not as it was signed. That newer records were cut off together with their checkpoints is shown by a checkpoint
that was kept elsewhere (--checkpoint). The service may be running.`,
		Example: `  latchkey audit export --database decryptd.db --to audit-2026-11.jsonl
  latchkey audit export --config decryptd.yaml --to audit-2026-11.jsonl
  latchkey audit verify --export audit-2026-11.jsonl --key-file audit/checkpoint.pub`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to == "" {
				return exit.Errorf(exit.Usage, "--to is required: the new file")
			}
			log, err := from.open(cmd)
			if err != nil {
				return err
			}
			n, err := exportTo(cmd.Context(), log, to, newBar(c.stderr, "exporting"))
			if err = errors.Join(err, log.Close()); err != nil {
				return err
			}
			return c.show(exportedLog{to, n}, field{"file", to}, field{"records", n})
		},
	}
	from.flags(cmd)
	cmd.Flags().StringVar(&to, "to", "", "the new file (required)")
	return cmd
}

// exportTo writes a log to a new file, and leaves none behind when it fails.
func exportTo(ctx context.Context, log auditLog, to string, bar bar) (n uint64, err error) {
	size, err := log.Size(ctx)
	if err != nil {
		return 0, err
	}
	file, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return 0, exit.With(exit.Refused, err, "name a new file")
	}
	if err != nil {
		return 0, err
	}
	n, err = audit.Export(ctx, log, file, func(n uint64) {
		if n%1000 == 0 || n >= size {
			bar.show(int(n), int(max(n, size)))
		}
	})
	bar.end()
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		err = errors.Join(err, os.Remove(to))
	}
	if errors.Is(err, audit.ErrUnsigned) {
		err = exit.With(exit.NotFound, err, "a service signs its log every checkpoint-every, and when it ends")
	}
	if audit.Broken(err) {
		err = exit.With(exit.Verification, err, "latchkey audit verify says more")
	}
	return n, err
}

// exportFile is an export that is read.
type exportFile struct {
	*audit.Exported
	io.Closer
}

func openExport(path string) (closingSource, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, exit.With(exit.NotFound, err, "name a file that latchkey audit export wrote")
	}
	e, err := audit.ReadExport(file)
	if err != nil {
		return nil, exit.With(exit.Verification, errors.Join(err, file.Close()), "is it a file that latchkey audit export wrote, whole?")
	}
	return exportFile{e, file}, nil
}
