package registry

import (
	"embed"

	"github.com/latchkey-pos/latchkey/internal/store/registry"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Options says how to open a store.
type Options struct {
	Create bool            // make a new database when there is none; false: sqlite.ErrMissing
	Kept   []byte          // a checkpoint of its audit log: a database that does not contain it is sqlite.ErrBehind; nil: none
	Batch  func(calls int) // called after each commit with the calls that shared it, by one goroutine; nil: not called
}

// Store is a provision.Store in a file. It is safe for concurrent use. Close it.
type Store struct {
	*registry.Store
	db *sqlite.DB
}

// Open opens the database at path and keeps every other process out of it. It fails as sqlite.Open does.
func Open(path string, o Options) (*Store, error) {
	db, err := sqlite.Open(path, sqlite.Options{Kind: sqlite.Registry, Migrations: migrations, Create: o.Create, Kept: o.Kept, Batch: o.Batch})
	if err != nil {
		return nil, err
	}
	return &Store{registry.New(db.Rows()), db}, nil
}
