package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// newest is the version of the tables of claims of this release: that of the last file in migrations.
const newest = 3

// Tables are those of one kind of service, in a schema of their own.
type Tables struct {
	Migrations fs.FS  // goose files in the folder migrations
	Newest     int64  // version of this release: that of the last file
	Schema     string // where they are unless the options say something else: not where those of other services are
}

// claimTables are those of decryption services.
var claimTables = Tables{Migrations: migrations, Newest: newest, Schema: "latchkey"}

// kind are those that the options are for.
func (o Options) kind() Tables {
	if o.tables == nil {
		return claimTables
	}
	return *o.tables
}

// MigrateTables is Migrate for other tables than those of claims.
func MigrateTables(ctx context.Context, o Options, t Tables, progress func(done, of int)) (from, to int64, err error) {
	o.tables = &t
	return Migrate(ctx, o, progress)
}

// Migrate makes the tables, or brings them up to date, each version in a transaction. It calls progress, if not nil, before the
// first step and after each with how many of how many are done. Two at once wait for each other. It returns the versions before and
// after.
func Migrate(ctx context.Context, o Options, progress func(done, of int)) (from, to int64, err error) {
	if err := o.Check(); err != nil {
		return 0, 0, err
	}
	var errs []error
	for _, server := range o.Servers {
		from, to, err = o.migrate(ctx, server, progress)
		if err == nil || ctx.Err() != nil {
			return from, to, err
		}
		errs = append(errs, fmt.Errorf("%v: %w", server, fault(err)))
	}
	return 0, 0, errors.Join(errs...)
}

func (o Options) migrate(ctx context.Context, server Server, progress func(done, of int)) (from, to int64, err error) {
	config, err := o.config(server)
	if err != nil {
		return 0, 0, err
	}
	config.RuntimeParams["statement_timeout"], config.RuntimeParams["lock_timeout"] = "0", "0"
	config.RuntimeParams["idle_in_transaction_session_timeout"] = "0"
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return 0, 0, err
	}
	_, _, err = o.look(ctx, conn)
	if err == nil {
		_, err = conn.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+pgx.Identifier{o.schema()}.Sanitize())
	}
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return 0, 0, err
	}
	db := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, db.Close()) }()
	p, err := provider(db, o)
	if err != nil {
		return 0, 0, err
	}
	return up(ctx, p, progress)
}

func provider(db *sql.DB, o Options) (*goose.Provider, error) {
	files, err := fs.Sub(o.kind().Migrations, "migrations")
	if err != nil {
		return nil, err
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(number(o.schema(), "migration", nil)))
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectPostgres, db, files, goose.WithDisableGlobalRegistry(true), goose.WithSessionLocker(locker))
}

func up(ctx context.Context, p *goose.Provider, progress func(done, of int)) (from, to int64, err error) {
	from, to, err = p.GetVersions(ctx)
	if err != nil {
		return 0, 0, err
	}
	if from > to {
		return 0, 0, fmt.Errorf("%w: they have version %d, this release knows %d", ErrNewer, from, to)
	}
	for done := int64(0); ; done++ {
		if progress != nil {
			progress(int(done), int(to-from))
		}
		if _, err := p.UpByOne(ctx); errors.Is(err, goose.ErrNoNextVersion) {
			return from, to, nil
		} else if err != nil {
			return 0, 0, err
		}
	}
}

// hasTables refuses a database without the tables of this release.
func (o Options) hasTables(ctx context.Context, conn *pgx.Conn) error {
	newest := o.kind().Newest
	var there bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass('goose_db_version') IS NOT NULL`).Scan(&there); err != nil {
		return fault(err)
	}
	if !there {
		return ErrMissing
	}
	var version int64
	if err := conn.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&version); err != nil {
		return fault(err)
	}
	switch {
	case version < newest:
		return fmt.Errorf("%w: they have version %d, this release wants %d", ErrMissing, version, newest)
	case version > newest:
		return fmt.Errorf("%w: they have version %d, this release knows %d", ErrNewer, version, newest)
	}
	return nil
}
