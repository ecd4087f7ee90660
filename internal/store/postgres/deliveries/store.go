// Package deliveries keeps what any number of latchkey-keyd gave out, and their audit logs, in one PostgreSQL database.
//
// [Open] returns a [Store], which is a keydist.Store. Each service is an instance with a name and an audit log of its own; the
// rows are those of all. Their transactions run one after the other.
package deliveries

import (
	"context"
	"embed"

	"github.com/latchkey-pos/latchkey/internal/store/deliveries"
	"github.com/latchkey-pos/latchkey/internal/store/postgres"
)

//go:embed migrations/*.sql
var migrations embed.FS

var tables = postgres.Tables{Migrations: migrations, Newest: 1, Schema: "latchkey_deliveries"}

// Store is a keydist.Store in a database that other services use at the same time. It is safe for concurrent use. Close it.
type Store struct {
	*deliveries.Store
	db *postgres.DB
}

// Open connects to a database that Migrate has made the tables of, and keeps every other process of the same instance out of it.
// It fails as postgres.Open does.
func Open(ctx context.Context, o postgres.Options) (*Store, error) {
	db, err := postgres.OpenDB(ctx, o, tables)
	if err != nil {
		return nil, err
	}
	return &Store{deliveries.New(db), db}, nil
}

// Migrate makes the tables, or brings them up to date, as postgres.Migrate does.
func Migrate(ctx context.Context, o postgres.Options, progress func(done, of int)) (from, to int64, err error) {
	return postgres.MigrateTables(ctx, o, tables, progress)
}

// OpenAudit opens the audit log of one instance for reading, as postgres.OpenAudit does.
func OpenAudit(ctx context.Context, o postgres.Options) (*postgres.AuditLog, error) {
	return postgres.OpenTablesAudit(ctx, o, tables)
}

// Promise returns what the server in use promises.
func (s *Store) Promise() postgres.Promise { return s.db.Promise() }

// Stats returns the counts of the work since the store was opened.
func (s *Store) Stats() postgres.Stats { return s.db.Stats() }
