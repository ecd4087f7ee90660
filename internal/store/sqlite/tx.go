package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/audit"
)

// Tx is one transaction. It belongs to the function that it was given to, until that returns. A failure of the database,
// other than ErrExists, and a record that cannot be audited end it: whatever the function returns then, nothing is kept.
type Tx struct {
	ctx        context.Context
	conn       preparer
	statements map[string]*sql.Stmt
	tree       audit.Tree // with the leaves of this transaction
	view       bool       // it cannot write
	dirty      bool       // the function has changed something, or the database has failed
	failed     error      // why nothing of the function may be kept
}

// preparer is a connection or a transaction.
type preparer interface {
	PrepareContext(ctx context.Context, query string) (*sql.Stmt, error)
}

// Exec carries out a statement that writes. It fails with ErrExists when a row with that key is there.
func (t *Tx) Exec(query string, args ...any) error {
	_, err := t.exec(query, args...)
	return err
}

// exec is Exec, and returns how many rows were changed.
func (t *Tx) exec(query string, args ...any) (int64, error) {
	if t.view {
		return 0, ErrReadOnly
	}
	s, err := t.statement(query)
	if err != nil {
		return 0, err
	}
	t.dirty = true
	done, err := s.ExecContext(t.ctx, args...)
	if err != nil {
		return 0, t.fail(err)
	}
	n, err := done.RowsAffected()
	return n, t.fail(err)
}

// One scans the only row of a query, which does not write, into dest, and reports whether there is one.
func (t *Tx) One(query string, args []any, dest ...any) (bool, error) {
	s, err := t.statement(query)
	if err != nil {
		return false, err
	}
	err = s.QueryRowContext(t.ctx, args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, t.fail(err)
}

// Each calls row with the Scan of every row of a query, which does not write. An error of row ends it and is returned.
func (t *Tx) Each(query string, args []any, row func(scan func(dest ...any) error) error) error {
	s, err := t.statement(query)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(t.ctx, args...)
	if err != nil {
		return t.fail(err)
	}
	defer func() { _ = rows.Close() }() // its error is that of Err
	scan := func(dest ...any) error { return t.fail(rows.Scan(dest...)) }
	for rows.Next() {
		if err := row(scan); err != nil {
			return err
		}
	}
	return t.fail(rows.Err())
}

// Audit appends a record to the audit log and sets its Sequence. It fails with audit.ErrRecord for one that breaks the
// format.
func (t *Tx) Audit(r audit.Record) error {
	if t.view {
		return ErrReadOnly
	}
	r.Sequence = t.tree.Size() + 1
	leaf, err := r.Encode()
	if err != nil {
		t.spoil(err)
		return err
	}
	tree, hashes := t.tree.Append(leaf)
	err = t.Exec(`INSERT INTO audit_leaves (n, record, hashes) VALUES (?, ?, ?)`, int64(t.tree.Size()), leaf, audit.JoinHashes(hashes))
	if errors.Is(err, ErrExists) {
		err = fmt.Errorf("%w: the audit log goes on beyond its end", ErrDamaged)
	}
	if err != nil {
		t.spoil(err)
		return err
	}
	t.tree = tree
	return nil
}

// statement returns the prepared form of a query.
func (t *Tx) statement(query string) (*sql.Stmt, error) {
	if s, ok := t.statements[query]; ok {
		return s, nil
	}
	s, err := t.conn.PrepareContext(t.ctx, query)
	if err != nil {
		return nil, t.fail(err)
	}
	t.statements[query] = s
	return s, nil
}

// fail gives an error its meaning and remembers it.
func (t *Tx) fail(err error) error {
	err = fault(err)
	if err != nil && !errors.Is(err, ErrExists) {
		t.dirty = true
		t.spoil(err)
	}
	return err
}

func (t *Tx) spoil(err error) {
	if t.failed == nil {
		t.failed = err
	}
}

// outcome is what became of a function that returned err. One that went on after a failure has failed.
func (t *Tx) outcome(err error) error {
	if err == nil {
		return t.failed
	}
	return err
}

func (t *Tx) close() {
	for _, s := range t.statements {
		_ = s.Close() // the connection closes next, or the transaction ends
	}
}
