package registry

import (
	"errors"
	"fmt"
	"math"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/store/rows"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// version is the version of every row.
const version = 1

// tx is a provision.Tx.
type tx struct{ db rows.Tx }

// Audit implements provision.Tx.
func (t tx) Audit(r audit.Record) error { return meaning(t.db.Audit(r)) }

// exec carries out a statement that writes.
func (t tx) exec(query string, args ...any) error {
	_, err := t.removed(query, args...)
	return err
}

// meaning says in the words of package provision what is no failure of the database.
func meaning(err error) error {
	switch {
	case errors.Is(err, rows.ErrReadOnly):
		return provision.ErrReadOnly
	case errors.Is(err, rows.ErrExists):
		return fmt.Errorf("%w: %v", provision.ErrExists, err)
	default:
		return err
	}
}

// removed carries out a statement and returns how many rows it has changed.
func (t tx) removed(query string, args ...any) (int, error) {
	n, err := t.db.Exec(query, args...)
	return n, meaning(err)
}

// body returns the one row whose body a query selects.
func body[R any](t tx, unmarshal func([]byte) (*R, error), query string, args ...any) (*R, bool, error) {
	var b []byte
	ok, err := t.db.One(query, args, &b)
	if err != nil || !ok {
		return nil, false, err
	}
	row, err := unmarshal(b)
	if err != nil {
		return nil, false, rows.Unreadable("row", err)
	}
	return row, true, nil
}

// bodies calls yield for each row whose body a query selects.
func bodies[R any](t tx, unmarshal func([]byte) (*R, error), yield func(*R) error, query string, args ...any) error {
	return t.db.Each(query, args, func(scan func(...any) error) error {
		var b []byte
		if err := scan(&b); err != nil {
			return err
		}
		row, err := unmarshal(b)
		if err != nil {
			return rows.Unreadable("row", err)
		}
		return yield(row)
	})
}

// collect returns the rows whose bodies a query selects.
func collect[R any](t tx, unmarshal func([]byte) (*R, error), query string, args ...any) (out []*R, err error) {
	err = bodies(t, unmarshal, func(row *R) error {
		out = append(out, row)
		return nil
	}, query, args...)
	return out, err
}

// most is how many rows a query gives at most for a limit, of which 0 is none.
func most(limit int) int64 {
	if limit == 0 {
		return math.MaxInt64
	}
	return int64(limit)
}

// number is n as a column holds it. What is beyond is beyond every row.
func number(n uint64) int64 { return int64(min(n, math.MaxInt64)) }
