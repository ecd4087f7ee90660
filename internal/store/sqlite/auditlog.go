package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"

	"github.com/latchkey-pos/latchkey/internal/audit"
)

// Checkpoint signs the log as it stands, stores the checkpoint and returns it as a signed note. When nothing was appended
// since the last one of this key, that one is returned again.
//
// Nobody waits for the key: it may be in a token that never answers. ctx bounds all of it.
func (db *DB) Checkpoint(ctx context.Context, s *audit.Signer) ([]byte, error) {
	var tree audit.Tree
	err := db.Update(ctx, func(t *Tx) error {
		tree = t.tree
		return nil
	})
	if err != nil {
		return nil, err
	}
	signed, err := s.SignWithin(ctx, tree) // Ed25519 signs the same alike
	if err != nil {
		return nil, err
	}
	if err := db.Update(ctx, func(t *Tx) error { return t.keep(tree.Size(), signed) }); err != nil {
		return nil, err
	}
	return signed, nil
}

// keep stores a checkpoint that is not there yet.
func (t *Tx) keep(size uint64, signed []byte) error {
	var count int
	_, err := t.One(`SELECT count(*) FROM audit_checkpoints WHERE size = ? AND note = ?`, []any{int64(size), signed}, &count)
	if err != nil || count > 0 {
		return err
	}
	return t.Exec(`INSERT INTO audit_checkpoints (size, note) VALUES (?, ?)`, int64(size), signed)
}

// readTree restores the right edge of the log.
func readTree(ctx context.Context, conn *sql.Conn) (audit.Tree, error) {
	var count, last int64
	err := conn.QueryRowContext(ctx, `SELECT count(*), coalesce(max(n), -1) FROM audit_leaves`).Scan(&count, &last)
	if err != nil {
		return audit.Tree{}, err
	}
	if count != last+1 {
		return audit.Tree{}, fmt.Errorf("%w: audit log of %d leaves, the last is %d", ErrDamaged, count, last)
	}
	return treeAt(ctx, conn, uint64(count))
}

// treeAt restores the right edge that the log had when it was of that size.
func treeAt(ctx context.Context, conn *sql.Conn, size uint64) (audit.Tree, error) {
	tree, err := audit.OpenTree(size, func(n uint64) ([]audit.Hash, error) {
		var b []byte
		if err := conn.QueryRowContext(ctx, `SELECT hashes FROM audit_leaves WHERE n = ?`, int64(n)).Scan(&b); err != nil {
			return nil, err
		}
		return audit.SplitHashes(b)
	})
	if err != nil {
		return audit.Tree{}, fmt.Errorf("%w: audit log: %v", ErrDamaged, err)
	}
	return tree, nil
}

// contains reports with ErrBehind a log that a checkpoint was not made of.
func contains(ctx context.Context, conn *sql.Conn, log audit.Tree, kept []byte) error {
	checkpoint, err := audit.ReadUnverified(kept) // it guards against an old backup, not against who writes to this disk
	if err != nil {
		return err
	}
	why, err := log.Extends(checkpoint.Size, checkpoint.Root, func(size uint64) (audit.Tree, error) { return treeAt(ctx, conn, size) })
	if err != nil {
		return fault(err)
	}
	if why != "" {
		return fmt.Errorf("%w: against the checkpoint that was kept, %s", ErrBehind, why)
	}
	return nil
}

// AuditLog reads the audit log of a database of any kind. It takes no lock, so a daemon may be running. Close it.
type AuditLog struct{ db *sql.DB }

var _ audit.Source = (*AuditLog)(nil)

// OpenAudit opens the audit log of the database at path for reading. It fails with ErrMissing or ErrDamaged.
func OpenAudit(path string) (*AuditLog, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if _, err := prepare(path, false); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", dsn(path, "ro", "query_only(1)"))
	if err != nil {
		return nil, err
	}
	var id uint32
	if err := db.QueryRow("PRAGMA application_id").Scan(&id); err != nil || !Kind(id).known() {
		_ = db.Close() // the first error counts
		return nil, fmt.Errorf("%w: %s", ErrDamaged, path)
	}
	return &AuditLog{db}, nil
}

// Leaves implements audit.Source.
func (l *AuditLog) Leaves(ctx context.Context, yield func(audit.Leaf) error) error {
	return l.LeavesFrom(ctx, 0, yield)
}

// Size returns how many leaves there are.
func (l *AuditLog) Size(ctx context.Context) (n uint64, err error) {
	err = l.db.QueryRowContext(ctx, `SELECT coalesce(max(n) + 1, 0) FROM audit_leaves`).Scan(&n)
	return n, fault(err)
}

// LeavesFrom is Leaves from an index on.
func (l *AuditLog) LeavesFrom(ctx context.Context, first uint64, yield func(audit.Leaf) error) error {
	rows, err := l.db.QueryContext(ctx, `SELECT n, record, hashes FROM audit_leaves WHERE n >= ? ORDER BY n`, int64(first))
	if err != nil {
		return fault(err)
	}
	defer func() { _ = rows.Close() }() // its error is that of Err
	for rows.Next() {
		var leaf audit.Leaf
		var hashes []byte
		if err := rows.Scan(&leaf.Index, &leaf.Record, &hashes); err != nil {
			return fault(err)
		}
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
	rows, err := l.db.QueryContext(ctx, `SELECT note FROM audit_checkpoints ORDER BY id`)
	if err != nil {
		return nil, fault(err)
	}
	defer func() { _ = rows.Close() }() // its error is that of Err
	var out [][]byte
	for rows.Next() {
		var b []byte
		if err := rows.Scan(&b); err != nil {
			return nil, fault(err)
		}
		out = append(out, b)
	}
	return out, fault(rows.Err())
}

// Close closes the file.
func (l *AuditLog) Close() error { return l.db.Close() }
