package decrypt

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/internal/store/postgres"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite/claims"
)

// PostgresConfig says which PostgreSQL keeps claims, answers and audit logs, of this instance and of others.
type PostgresConfig = daemon.PostgresConfig

// store is what keeps claims: a file, or a database that other instances use too.
type store interface {
	decrypt.Store
	Checkpoint(context.Context, *audit.Signer) ([]byte, error)
	Fences(context.Context) (uint32, error)
}

// postgres is how the database of the configuration is reached.
func (c Config) postgres() (postgres.Options, error) { return c.Postgres.Options(c.Folder, c.Instance) }

// openStore makes the database file at the first start only: where there is a checkpoint there was one, and an empty one in
// its place would answer every replay.
func (n *node) openStore(ctx context.Context) error {
	kept, err := daemon.LastCheckpoint(n.path(n.config.CheckpointFile))
	if err != nil {
		return err
	}
	if n.config.Postgres != nil {
		err = n.openPostgres(ctx, kept)
	} else if file, failed := claims.Open(n.path(n.config.Database), claims.Options{Create: kept == nil, Kept: kept, Batch: n.metrics.Batch}); failed == nil {
		n.db = file
	} else {
		err = fmt.Errorf("database: %w", failed)
	}
	n.checkpoints.Log = n.db
	return err
}

// openPostgres opens the database that other instances use, too. The log says what is promised.
func (n *node) openPostgres(ctx context.Context, kept []byte) error {
	o, err := n.config.postgres()
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	o.Kept, o.Batch, o.Logger = kept, n.metrics.Batch, n.log
	db, err := postgres.Open(ctx, o)
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	n.db = db
	return daemon.WatchPostgres(n.metrics.Registry, db)
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
	return postgres.Migrate(ctx, o, progress)
}

// OpenAudit opens the audit log of the instance of a configuration that has a section postgres, for reading; the service may be
// running. Close it.
func OpenAudit(ctx context.Context, c Config) (*postgres.AuditLog, error) {
	o, err := c.postgres()
	if err != nil {
		return nil, err
	}
	return postgres.OpenAudit(ctx, o)
}
