package sqlite

import (
	"context"

	"github.com/latchkey-pos/latchkey/internal/store/rows"
)

// Rows returns the database as rooms see it that are written for any. It is the same one: whoever closes it closes both.
func (db *DB) Rows() rows.DB { return anyDB{db} }

type anyDB struct{ *DB }

// Update implements rows.DB.
func (db anyDB) Update(ctx context.Context, f func(rows.Tx) error) error {
	return db.DB.Update(ctx, func(t *Tx) error { return f(anyTx{t}) })
}

// View implements rows.DB.
func (db anyDB) View(ctx context.Context, f func(rows.Tx) error) error {
	return db.DB.View(ctx, func(t *Tx) error { return f(anyTx{t}) })
}

type anyTx struct{ *Tx }

// Exec implements rows.Tx.
func (t anyTx) Exec(query string, args ...any) (int, error) {
	n, err := t.exec(query, args...)
	return int(n), err
}

// Insert implements rows.Tx.
func (t anyTx) Insert(query string, args ...any) error { return t.Tx.Exec(query, args...) }
