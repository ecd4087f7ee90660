package sqlite

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"

	"github.com/latchkey-pos/latchkey/internal/store/rows"
)

// What a failure of the database means. Each error of a transaction is one that its function returned, that of the context,
// or wraps one of these; the rest of its text is for the log.
var (
	// ErrFull says that the file cannot grow. Nothing was changed, and what fits goes on when there is room again.
	ErrFull = rows.Class("sqlite: no room for the database to grow", rows.ErrFull)
	// ErrUnavailable says that the database cannot be used now, or was closed.
	ErrUnavailable = rows.Class("sqlite: the database cannot be used", rows.ErrUnavailable)
	// ErrExists says that a row with that key is there already. The statement has changed nothing, and its transaction may
	// go on.
	ErrExists = rows.Class("sqlite: there is a row with that key", rows.ErrExists)
	// ErrReadOnly is the error of everything that writes inside of View.
	ErrReadOnly = rows.Class("sqlite: a view does not write", rows.ErrReadOnly)
)

// Unreadable is the error of a stored value that the room that reads it cannot have written.
func Unreadable(what string, err error) error {
	return fmt.Errorf("%w: stored %s: %v", ErrDamaged, what, err)
}

// fault gives an error of the driver its meaning.
func fault(err error) error {
	if err == nil || errors.Is(err, ErrDamaged) { // it has it already
		return err
	}
	return fmt.Errorf("%w: %v", meaning(err), err)
}

func meaning(err error) error {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return ErrUnavailable
	}
	switch e.Code() {
	case sqlitelib.SQLITE_CONSTRAINT_PRIMARYKEY, sqlitelib.SQLITE_CONSTRAINT_UNIQUE, sqlitelib.SQLITE_CONSTRAINT_ROWID:
		return ErrExists
	}
	switch e.Code() & 0xff { // the rest says where it happened
	case sqlitelib.SQLITE_FULL:
		return ErrFull
	case sqlitelib.SQLITE_CORRUPT, sqlitelib.SQLITE_NOTADB:
		return ErrDamaged
	default:
		return ErrUnavailable
	}
}
