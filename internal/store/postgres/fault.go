package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/store/rows"
)

// What can be wrong with a database. The text around them is for the log.
var (
	// ErrMissing says that the database has no tables of this program, or older ones: Migrate makes them.
	ErrMissing = rows.Class("postgres: the database has no tables for this release: latchkey store migrate makes them", rows.ErrUnavailable)
	// ErrNewer says that a newer release of this program has made the tables.
	ErrNewer = rows.Class("postgres: the tables are those of a newer release", rows.ErrUnavailable)
	// ErrLocked says that another process is at work under the name of this instance.
	ErrLocked = rows.Class("postgres: another process has this instance", rows.ErrUnavailable)
	// ErrUnsafe says that the server is set to forget what it has acknowledged.
	ErrUnsafe = rows.Class("postgres: unsafe settings", rows.ErrUnavailable)
	// ErrBehind says that the database does not have what it had acknowledged, or what a checkpoint of the audit log vouches for.
	ErrBehind = rows.Class("postgres: the database is behind", rows.ErrDamaged)
	// ErrDamaged says that the database holds what no code of this program can have written.
	ErrDamaged = rows.Class("postgres: the database is damaged or not one of this program", rows.ErrDamaged)
	// ErrFull says that the database cannot grow. Nothing was changed.
	ErrFull = rows.Class("postgres: no room for the database to grow", rows.ErrFull)
	// ErrUnavailable says that the database cannot be used now, or was closed.
	ErrUnavailable = rows.Class("postgres: the database cannot be used", rows.ErrUnavailable)
)

// refused makes of a failure of the database a refusal that tells nothing, around a cause for the log. Other errors are those of
// a call, or of its context, and stay.
func refused(err error) error {
	for _, class := range []struct {
		of   error
		code decrypt.Code
	}{
		{ErrFull, decrypt.CodeStoreFull}, {ErrDamaged, decrypt.CodeStoreDamaged}, {ErrBehind, decrypt.CodeStoreDamaged},
		{ErrUnavailable, decrypt.CodeStoreUnavailable}, {ErrUnsafe, decrypt.CodeStoreUnavailable},
		{ErrLocked, decrypt.CodeStoreUnavailable}, {ErrMissing, decrypt.CodeStoreUnavailable}, {ErrNewer, decrypt.CodeStoreUnavailable},
	} {
		if errors.Is(err, class.of) {
			return fmt.Errorf("claims: %w: %w", &decrypt.Refusal{Code: class.code}, err)
		}
	}
	return err
}

// fault gives an error of the driver its meaning.
func fault(err error) error {
	for _, known := range []error{nil, ErrMissing, ErrNewer, ErrLocked, ErrUnsafe, ErrBehind, ErrDamaged, ErrFull, ErrUnavailable} {
		if errors.Is(err, known) {
			return err
		}
	}
	return fmt.Errorf("%w: %v", meaning(err), err)
}

func meaning(err error) error {
	switch state := sqlState(err); {
	case state == "53100": // disk_full
		return ErrFull
	case len(state) == 5 && state[:2] == "XX" && state != "XX000": // data_corrupted, index_corrupted
		return ErrDamaged
	default:
		return ErrUnavailable
	}
}

// sqlState returns the class of an error that the server has reported, and nothing of another one.
func sqlState(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// again reports a failure that comes of meeting other services or of losing the connection, and of which nothing stays. A row
// that was not there when it was looked for is one: what is judged once more finds it.
func again(err error) bool {
	switch sqlState(err) {
	case "40001", "40P01", "23505": // serialization_failure, deadlock_detected, unique_violation
		return true
	default:
		return errors.Is(err, errNotMade)
	}
}

// personal reports a failure that may come of one call of a batch: of its data, or of their size.
func personal(err error) bool {
	state := sqlState(err)
	return len(state) == 5 && (state[:2] == "22" || state[:2] == "23" || state[:2] == "53" || state[:2] == "54")
}

// unreadable is the error of a stored value that this package cannot have written.
func unreadable(what string, err error) error {
	return fmt.Errorf("%w: stored %s: %v", ErrDamaged, what, err)
}

// ended tells the end of a caller's context from failures of the database.
func ended(ctx context.Context, err error) error {
	if over := ctx.Err(); over != nil && err != nil {
		return over
	}
	return err
}
