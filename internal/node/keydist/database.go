package keydist

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/internal/store/postgres"
	inpostgres "github.com/latchkey-pos/latchkey/internal/store/postgres/deliveries"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite/deliveries"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

// store is what keeps key ids and audit log: a file, or a database that other instances use too.
type store interface {
	keydist.Store
	Checkpoint(context.Context, *audit.Signer) ([]byte, error)
}

// openDatabase opens what the configuration names. kept is the last checkpoint of the audit log, nil when there was none: only then
// a file is made.
func (n *node) openDatabase(ctx context.Context, kept []byte) (store, error) {
	if n.config.Postgres == nil {
		db, err := deliveries.Open(n.path(n.config.Database), deliveries.Options{Create: kept == nil, Kept: kept, Batch: n.metrics.Batch})
		if err != nil {
			return nil, fmt.Errorf("database: %w", err)
		}
		return db, nil
	}
	o, err := n.config.Postgres.Options(n.config.Folder, n.config.Instance)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	o.Kept, o.Batch, o.Logger = kept, n.metrics.Batch, n.log
	db, err := inpostgres.Open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	n.db = db // closed whatever follows
	return db, daemon.WatchPostgres(n.metrics.Registry, db)
}

// Migrate makes the tables of the database of a configuration, or brings them up to date, and returns their versions before and
// after. Another user than that of the service may have the right to. It calls progress, if not nil, with how many steps of how many
// are done.
func Migrate(ctx context.Context, c Config, as daemon.PostgresUser, log *slog.Logger, progress func(done, of int)) (from, to int64, err error) {
	o, err := c.Postgres.OptionsAs(c.Folder, c.Instance, as)
	if err != nil {
		return 0, 0, err
	}
	o.Logger = log
	return inpostgres.Migrate(ctx, o, progress)
}

// OpenAudit opens the audit log of the instance of a configuration that has a section postgres, for reading; the service may be
// running. Close it.
func OpenAudit(ctx context.Context, c Config) (*postgres.AuditLog, error) {
	o, err := c.Postgres.Options(c.Folder, c.Instance)
	if err != nil {
		return nil, err
	}
	return inpostgres.OpenAudit(ctx, o)
}
