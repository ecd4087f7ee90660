// Package rows says what a store of rows asks of its database, and what the failures of one mean, whichever it is.
//
// Rooms that keep rows are written once, in the words that SQLite and PostgreSQL share; each database runs them in
// transactions of its own.
package rows

import (
	"context"
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/audit"
)

// The classes of failures. Each error of a database wraps one of them, but for those of functions and of contexts.
var (
	// ErrExists says that a row with that key is there already.
	ErrExists = errors.New("rows: there is a row with that key")
	// ErrReadOnly is the error of everything that writes inside of View.
	ErrReadOnly = errors.New("rows: a view does not write")
	// ErrFull says that the database cannot grow. Nothing was changed.
	ErrFull = errors.New("rows: no room for the database to grow")
	// ErrDamaged says that the database holds what no code of this program can have written, or lacks what was acknowledged.
	ErrDamaged = errors.New("rows: the database is damaged")
	// ErrUnavailable says that the database cannot be used now, or was closed.
	ErrUnavailable = errors.New("rows: the database cannot be used")
)

// class is an error of one database, of one of the classes.
type class struct {
	text string
	of   error
}

// Class returns an error with a text of its own that is of a class.
func Class(text string, of error) error { return &class{text, of} }

func (c *class) Error() string { return c.text }

func (c *class) Is(target error) bool { return target == c.of }

// Unreadable is the error of a stored value that the room that reads it cannot have written.
func Unreadable(what string, err error) error {
	return fmt.Errorf("%w: stored %s: %v", ErrDamaged, what, err)
}

// Tx is one transaction. It belongs to the function that it was given to, until that returns. Parameters of queries are written
// ?, or ?N for the N-th argument; no text in a query holds a question mark. After a failure of the database, other than ErrExists
// of Insert, nothing of the transaction is kept, whatever its function returns.
type Tx interface {
	// Exec carries out a statement that writes, and returns how many rows it has changed.
	Exec(query string, args ...any) (int, error)
	// Insert is Exec of an INSERT without a clause for conflicts. It fails with ErrExists when a row with that key is there; then
	// it has changed nothing, and the transaction may go on.
	Insert(query string, args ...any) error
	// One scans the only row of a query, which does not write, into dest, and reports whether there is one.
	One(query string, args []any, dest ...any) (bool, error)
	// Each calls row with the Scan of every row of a query, which does not write. row does not use the transaction. An error of row
	// ends it and is returned.
	Each(query string, args []any, row func(scan func(dest ...any) error) error) error
	// Audit appends a record to the audit log and sets its Sequence. It fails with audit.ErrRecord for one that breaks the format,
	// which spoils the transaction.
	Audit(r audit.Record) error
}

// DB is a database. It is safe for concurrent use.
type DB interface {
	// Update runs f in a transaction, which is durable when Update returns nil. Transactions see what those before them have
	// written, as if they ran one after the other. f may run more than once, in another goroutine, keeps everybody else waiting,
	// and must not call Update. After an error of f nothing was changed; after another one all of it or nothing.
	Update(ctx context.Context, f func(Tx) error) error
	// View runs f over one state of the database, with every commit that was acknowledged before. f cannot write.
	View(ctx context.Context, f func(Tx) error) error
	// Check reports whether the database can be written to.
	Check(ctx context.Context) error
	// Checkpoint signs the audit log as it stands, stores the checkpoint and returns it as a signed note. When nothing was
	// appended since the last one of this key, that one is returned again.
	Checkpoint(ctx context.Context, signer *audit.Signer) ([]byte, error)
	// Close waits for what was accepted, and releases the database. It is called once.
	Close() error
}
