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
func (db *DB) Checkpoint(ctx context.Context, s *audit.Signer) ([]byte, error) {
	var out []byte
	err := db.Update(ctx, func(t *Tx) (err error) {
		out, err = t.checkpoint(s)
		return err
	})
	return out, err
}

func (t *Tx) checkpoint(s *audit.Signer) ([]byte, error) {
	signed, err := s.Sign(t.tree) // Ed25519 signs the same alike
	if err != nil {
		return nil, err
	}
	var count int
	size := int64(t.tree.Size())
	_, err = t.One(`SELECT count(*) FROM audit_checkpoints WHERE size = ? AND note = ?`, []any{size, signed}, &count)
	if err != nil || count > 0 {
		return signed, err
	}
	return signed, t.Exec(`INSERT INTO audit_checkpoints (size, note) VALUES (?, ?)`, size, signed)
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
		return splitHashes(b)
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
	if checkpoint.Size > log.Size() {
		return fmt.Errorf("%w: it holds %d records, the checkpoint vouches for %d", ErrBehind, log.Size(), checkpoint.Size)
	}
	then, err := treeAt(ctx, conn, checkpoint.Size)
	if err != nil {
		return fault(err)
	}
	if then.Root() != checkpoint.Root {
		return fmt.Errorf("%w: its first %d records are not those that the checkpoint vouches for", ErrBehind, checkpoint.Size)
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
	rows, err := l.db.QueryContext(ctx, `SELECT n, record, hashes FROM audit_leaves ORDER BY n`)
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
		if leaf.Hashes, err = splitHashes(hashes); err != nil {
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

func joinHashes(hashes []audit.Hash) []byte {
	out := make([]byte, 0, len(hashes)*audit.HashSize)
	for _, h := range hashes {
		out = append(out, h[:]...)
	}
	return out
}

func splitHashes(b []byte) ([]audit.Hash, error) {
	if len(b)%audit.HashSize != 0 {
		return nil, fmt.Errorf("hashes of %d bytes", len(b))
	}
	var out []audit.Hash
	for ; len(b) > 0; b = b[audit.HashSize:] {
		out = append(out, audit.Hash(b[:audit.HashSize]))
	}
	return out, nil
}
