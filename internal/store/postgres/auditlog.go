package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-pos/latchkey/internal/audit"
)

// readTree restores the right edge of the log of an instance.
func readTree(ctx context.Context, conn *pgx.Conn, instance string) (audit.Tree, error) {
	var last int64
	err := conn.QueryRow(ctx, `SELECT coalesce((SELECT n FROM audit_leaves WHERE instance = $1 ORDER BY n DESC LIMIT 1), -1)`, instance).Scan(&last)
	if err != nil {
		return audit.Tree{}, err
	}
	return treeAt(ctx, conn, instance, uint64(last+1))
}

// treeAt restores the right edge that the log had when it was of that size.
func treeAt(ctx context.Context, conn *pgx.Conn, instance string, size uint64) (audit.Tree, error) {
	var failed error
	tree, err := audit.OpenTree(size, func(n uint64) ([]audit.Hash, error) {
		var b []byte
		err := conn.QueryRow(ctx, `SELECT hashes FROM audit_leaves WHERE instance = $1 AND n = $2`, instance, int64(n)).Scan(&b)
		if err != nil {
			if !errors.Is(err, pgx.ErrNoRows) {
				failed = err
			}
			return nil, err
		}
		return audit.SplitHashes(b)
	})
	if failed != nil {
		return audit.Tree{}, failed
	}
	if err != nil {
		return audit.Tree{}, fmt.Errorf("%w: audit log: %v", ErrDamaged, err)
	}
	return tree, nil
}

// contains reports with ErrBehind a log that a checkpoint was not made of.
func contains(ctx context.Context, conn *pgx.Conn, instance string, log audit.Tree, kept []byte) error {
	checkpoint, err := audit.ReadUnverified(kept) // it guards against an old backup, not against who writes to the database
	if err != nil {
		return err
	}
	why, err := log.Extends(checkpoint.Size, checkpoint.Root, func(size uint64) (audit.Tree, error) { return treeAt(ctx, conn, instance, size) })
	if err != nil {
		return fault(err)
	}
	if why != "" {
		return fmt.Errorf("%w: the log of %s, against the checkpoint that was kept: %s", ErrBehind, instance, why)
	}
	return nil
}

// AuditLog reads the audit log of one instance, which may be running. Close it.
type AuditLog struct {
	conn     *pgx.Conn
	instance string
}

var _ audit.Source = (*AuditLog)(nil)

// OpenAudit opens the audit log of o.Instance for reading, at the first server that can be reached; a standby will do.
func OpenAudit(ctx context.Context, o Options) (*AuditLog, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	var errs []error
	for _, server := range o.Servers {
		l, err := o.openAudit(ctx, server)
		if err == nil {
			return l, nil
		}
		errs = append(errs, fmt.Errorf("%v: %w", server, err))
	}
	return nil, fault(errors.Join(errs...))
}

// OpenTablesAudit is OpenAudit for other tables than those of claims.
func OpenTablesAudit(ctx context.Context, o Options, t Tables) (*AuditLog, error) {
	o.tables = &t
	return OpenAudit(ctx, o)
}

func (o Options) openAudit(ctx context.Context, server Server) (*AuditLog, error) {
	config, err := o.config(server)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["statement_timeout"], config.RuntimeParams["idle_in_transaction_session_timeout"] = "0", "0"
	config.RuntimeParams["default_transaction_read_only"] = "on"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fault(err)
	}
	if err := o.hasTables(ctx, conn); err != nil {
		return nil, errors.Join(err, conn.Close(ctx))
	}
	return &AuditLog{conn, o.Instance}, nil
}

// Leaves implements audit.Source.
func (l *AuditLog) Leaves(ctx context.Context, yield func(audit.Leaf) error) error {
	return l.LeavesFrom(ctx, 0, yield)
}

// Size returns how many leaves there are.
func (l *AuditLog) Size(ctx context.Context) (n uint64, err error) {
	err = l.conn.QueryRow(ctx, `SELECT coalesce(max(n) + 1, 0) FROM audit_leaves WHERE instance = $1`, l.instance).Scan(&n)
	return n, fault(err)
}

// LeavesFrom is Leaves from an index on.
func (l *AuditLog) LeavesFrom(ctx context.Context, first uint64, yield func(audit.Leaf) error) error {
	rows, err := l.conn.Query(ctx, `SELECT n, record, hashes FROM audit_leaves WHERE instance = $1 AND n >= $2 ORDER BY n`, l.instance, int64(first))
	if err != nil {
		return fault(err)
	}
	defer rows.Close()
	for rows.Next() {
		var leaf audit.Leaf
		var n int64
		var hashes []byte
		if err := rows.Scan(&n, &leaf.Record, &hashes); err != nil {
			return fault(err)
		}
		leaf.Index = uint64(n)
		if leaf.Hashes, err = audit.SplitHashes(hashes); err != nil {
			return &audit.LeafError{Index: leaf.Index, Reason: err.Error()}
		}
		if err := yield(leaf); err != nil {
			return err
		}
	}
	return fault(rows.Err())
}

// Checkpoints implements audit.Source.
func (l *AuditLog) Checkpoints(ctx context.Context) ([][]byte, error) {
	rows, err := l.conn.Query(ctx, `SELECT note FROM audit_checkpoints WHERE instance = $1 ORDER BY id`, l.instance)
	if err != nil {
		return nil, fault(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	return out, fault(err)
}

// Close ends the connection.
func (l *AuditLog) Close() error { return l.conn.Close(context.Background()) }
