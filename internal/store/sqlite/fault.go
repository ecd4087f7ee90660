package sqlite

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"

	"github.com/latchkey-pos/latchkey/decrypt"
)

// fault is what a failure of the database means to a caller: a refusal that tells nothing, around a cause for the log.
// A nil err stays nil.
func fault(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*decrypt.Refusal](err); ok {
		return err
	}
	return &Fault{Refusal: decrypt.Refusal{Code: codeOf(err)}, Cause: err}
}

// Fault is a failure of the database. errors.As finds the *decrypt.Refusal in it; the cause is for the log alone.
type Fault struct {
	Refusal decrypt.Refusal
	Cause   error
}

// Error returns the code and the cause.
func (f *Fault) Error() string { return fmt.Sprintf("sqlite: %s: %v", f.Refusal.Code, f.Cause) }

// Unwrap returns the refusal and the cause.
func (f *Fault) Unwrap() []error { return []error{&f.Refusal, f.Cause} }

func codeOf(err error) decrypt.Code {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		if errors.Is(err, errStored) {
			return decrypt.CodeStoreDamaged
		}
		return decrypt.CodeStoreUnavailable
	}
	switch e.Code() & 0xff { // the rest says where it happened
	case sqlitelib.SQLITE_FULL:
		return decrypt.CodeStoreFull
	case sqlitelib.SQLITE_CORRUPT, sqlitelib.SQLITE_NOTADB:
		return decrypt.CodeStoreDamaged
	default:
		return decrypt.CodeStoreUnavailable
	}
}

// opening turns a failure that shows damage into ErrDamaged.
func opening(err error) error {
	if codeOf(err) == decrypt.CodeStoreDamaged {
		return fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	return fault(err)
}

// errStored is wrapped by errors about stored values that this package cannot have written.
var errStored = errors.New("a stored value is not one")

func unreadable(what string, err error) error { return fmt.Errorf("%w: %s: %v", errStored, what, err) }
