package deliveries

import (
	"context"
	"embed"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Options says how to open a store.
type Options struct {
	Create bool            // make a new database when there is none; false: sqlite.ErrMissing
	Kept   []byte          // a checkpoint of its audit log: a database that does not contain it is sqlite.ErrBehind; nil: none
	Batch  func(calls int) // called after each commit with the calls that shared it, by one goroutine; nil: not called
}

// Store is a keydist.Store in a file. It is safe for concurrent use. Close it.
type Store struct{ db *sqlite.DB }

var _ keydist.Store = (*Store)(nil)

// Open opens the database at path and keeps every other process out of it. It fails as sqlite.Open does.
func Open(path string, o Options) (*Store, error) {
	db, err := sqlite.Open(path, sqlite.Options{Kind: sqlite.Deliveries, Migrations: migrations, Create: o.Create, Kept: o.Kept, Batch: o.Batch})
	if err != nil {
		return nil, err
	}
	return &Store{db}, nil
}

// Update implements keydist.Store.
func (s *Store) Update(ctx context.Context, f func(keydist.Tx) error) error {
	return fault(s.db.Update(ctx, func(t *sqlite.Tx) error { return f(tx{t}) }))
}

// View implements keydist.Store.
func (s *Store) View(ctx context.Context, f func(keydist.Tx) error) error {
	return fault(s.db.View(ctx, func(t *sqlite.Tx) error { return f(tx{t}) }))
}

// Check implements keydist.Store.
func (s *Store) Check(ctx context.Context) error { return fault(s.db.Check(ctx)) }

// Checkpoint signs the audit log as it stands, stores the checkpoint and returns it as a signed note. When nothing was
// appended since the last one of this key, that one is returned again.
func (s *Store) Checkpoint(ctx context.Context, signer *audit.Signer) ([]byte, error) {
	b, err := s.db.Checkpoint(ctx, signer)
	return b, fault(err)
}

// Close implements keydist.Store. It is called once.
func (s *Store) Close() error { return s.db.Close() }
