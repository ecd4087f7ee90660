package postgres

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/store/rows"
)

// rowTx is a rows.Tx.
type rowTx struct {
	ctx        context.Context
	conn       *pgx.Conn
	statements *atomic.Uint64 // nil in a view
	view       bool
	patience   time.Duration // of one statement; not of a view

	tree   audit.Tree // with the leaves of this transaction
	leaves []leaf
	failed error // why nothing of the function may be kept
}

// Exec implements rows.Tx.
func (t *rowTx) Exec(query string, args ...any) (int, error) {
	if t.view {
		return 0, rows.ErrReadOnly
	}
	if t.failed != nil {
		return 0, t.failed
	}
	ctx, done := t.begin()
	defer done()
	tag, err := t.conn.Exec(ctx, numbered(query), args...)
	if sqlState(err) == "23505" { // unique_violation
		err = errors.Join(rows.ErrExists, err)
		t.spoil(err)
		return 0, err
	}
	return int(tag.RowsAffected()), t.fail(err)
}

// Insert implements rows.Tx.
func (t *rowTx) Insert(query string, args ...any) error {
	n, err := t.Exec(query+" ON CONFLICT DO NOTHING", args...)
	if err == nil && n == 0 {
		return rows.ErrExists
	}
	return err
}

// One implements rows.Tx.
func (t *rowTx) One(query string, args []any, dest ...any) (bool, error) {
	if t.failed != nil {
		return false, t.failed
	}
	ctx, done := t.begin()
	defer done()
	err := t.conn.QueryRow(ctx, numbered(query), args...).Scan(dest...)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return err == nil, t.fail(err)
}

// Each implements rows.Tx.
func (t *rowTx) Each(query string, args []any, row func(scan func(dest ...any) error) error) error {
	if t.failed != nil {
		return t.failed
	}
	ctx, done := t.begin()
	defer done()
	found, err := t.conn.Query(ctx, numbered(query), args...)
	if err != nil {
		return t.fail(err)
	}
	defer found.Close()
	scan := func(dest ...any) error { return t.fail(found.Scan(dest...)) }
	for found.Next() {
		if err := row(scan); err != nil {
			return err
		}
	}
	return t.fail(found.Err())
}

// Audit implements rows.Tx.
func (t *rowTx) Audit(r audit.Record) error {
	if t.view {
		return rows.ErrReadOnly
	}
	r.Sequence = t.tree.Size() + 1
	record, err := r.Encode()
	if err != nil {
		t.spoil(err)
		return err
	}
	tree, hashes := t.tree.Append(record)
	t.leaves = append(t.leaves, leaf{t.tree.Size(), record, audit.JoinHashes(hashes)})
	t.tree = tree
	return nil
}

// begin counts a statement, and says how long it may take.
func (t *rowTx) begin() (context.Context, context.CancelFunc) {
	if t.view {
		return t.ctx, func() {}
	}
	t.statements.Add(1)
	return context.WithTimeout(t.ctx, t.patience)
}

// fail gives an error its meaning and remembers it: after one the server refuses everything else of the transaction.
func (t *rowTx) fail(err error) error {
	if err == nil {
		return nil
	}
	err = fault(err)
	t.spoil(err)
	return err
}

func (t *rowTx) spoil(err error) {
	if t.failed == nil {
		t.failed = err
	}
}

// outcome is what became of a function that returned err. One that went on after a failure has failed.
func (t *rowTx) outcome(err error) error {
	if err == nil {
		return t.failed
	}
	return err
}

// spelled keeps queries in the spelling of PostgreSQL.
var spelled sync.Map

// numbered spells the parameters of a query as PostgreSQL does: ? and ?N become $N.
func numbered(query string) string {
	if s, ok := spelled.Load(query); ok {
		return s.(string)
	}
	var b strings.Builder
	n := 0
	for rest := query; ; {
		before, after, found := strings.Cut(rest, "?")
		b.WriteString(before)
		if !found {
			break
		}
		b.WriteByte('$')
		if after == "" || after[0] < '0' || after[0] > '9' {
			n++
			b.WriteString(strconv.Itoa(n))
		}
		rest = after
	}
	spelled.Store(query, b.String())
	return b.String()
}
