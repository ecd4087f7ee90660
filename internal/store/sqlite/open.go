package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/latchkey-pos/latchkey/internal/store/rows"
)

// What can be wrong with a database when it is opened.
var (
	// ErrMissing says that there is no database and that none was to be created.
	ErrMissing = errors.New("sqlite: there is no database")
	// ErrLocked says that another process has the database open.
	ErrLocked = errors.New("sqlite: another process is using the database")
	// ErrDamaged says that the file is not a whole database of this program and of its kind. A transaction that comes upon
	// damage later wraps it too.
	ErrDamaged = rows.Class("sqlite: the database is damaged or not one of this program", rows.ErrDamaged)
	// ErrNewer says that a newer release of this program has written the database.
	ErrNewer = errors.New("sqlite: the database was written by a newer release")
	// ErrBehind says that the audit log does not contain a checkpoint that was made of it: the database is an older copy,
	// or another one.
	ErrBehind = errors.New("sqlite: the database is behind its checkpoint")
)

//go:embed migrations/*.sql
var migrations embed.FS

// dsn names a database file for the driver. Pragmas hold for each connection.
func dsn(path, mode string, pragmas ...string) string {
	q := url.Values{"mode": {mode}, "_pragma": append([]string{"busy_timeout(5000)", "foreign_keys(1)"}, pragmas...)}
	u := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	return u.String()
}

// openWriter opens the connection that writes, after checking that the file is a sound one of its kind.
func openWriter(ctx context.Context, path string, o Options) (*sql.DB, error) {
	fresh, err := prepare(path, o.Create)
	if err != nil {
		return nil, err
	}
	// With recursive_triggers REPLACE, too, asks the triggers that keep rows.
	db, err := sql.Open("sqlite", dsn(path, "rw", "journal_mode(WAL)", "synchronous(FULL)", "recursive_triggers(1)"))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if err := ready(ctx, db, fresh, o); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// prepare creates an empty file where that is wanted, and looks at the header of one that exists.
func prepare(path string, create bool) (fresh bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if !create {
			return false, fmt.Errorf("%w at %s", ErrMissing, path)
		}
		if _, err := os.Lstat(restoring(path)); err == nil {
			return false, fmt.Errorf("%w: %s waits to take its place", ErrUnfinished, restoring(path))
		}
		return true, createFile(path)
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }() // opened for reading
	header := make([]byte, 16)
	n, err := io.ReadFull(f, header)
	if n == 0 && errors.Is(err, io.EOF) && create { // the process ended between creating and filling it
		return true, nil
	}
	if err != nil || string(header) != "SQLite format 3\x00" {
		return false, fmt.Errorf("%w: %s has no database header", ErrDamaged, path)
	}
	return false, nil
}

// createFile makes an empty file for the owner alone, and its name durable.
func createFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return syncFolder(path)
}

// ready checks that the database is whole and of its kind, and brings its tables up to date.
func ready(ctx context.Context, db *sql.DB, fresh bool, o Options) error {
	if !fresh {
		if err := sound(ctx, db, o); err != nil {
			return err
		}
	}
	if err := pragmasHold(ctx, db); err != nil {
		return err
	}
	// First of all, so that a process that ends in between leaves a database of this kind.
	if _, err := db.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", o.Kind)); err != nil {
		return fault(err)
	}
	return migrate(ctx, db, o.Migrations)
}

// migrate brings the tables of the adapter and those of the audit log up to date. Each have versions of their own.
func migrate(ctx context.Context, db *sql.DB, room fs.FS) error {
	var providers []*goose.Provider
	for _, tables := range []struct {
		versions string
		folder   fs.FS
	}{{goose.DefaultTablename, room}, {"goose_log_version", migrations}} {
		files, err := fs.Sub(tables.folder, "migrations")
		if err != nil {
			return err
		}
		p, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithDisableGlobalRegistry(true), goose.WithTableName(tables.versions))
		if err != nil {
			return err
		}
		if err := notNewer(ctx, p); err != nil {
			return err
		}
		providers = append(providers, p)
	}
	for _, p := range providers {
		if _, err := p.Up(ctx); err != nil {
			return fault(err)
		}
	}
	return nil
}

// asker is a database, or one connection to it.
type asker interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// sound refuses files of other programs and kinds, and files whose pages do not fit together.
func sound(ctx context.Context, db asker, o Options) error {
	var id uint32
	var tables int
	err := db.QueryRowContext(ctx, "SELECT application_id, (SELECT count(*) FROM sqlite_schema) FROM pragma_application_id").Scan(&id, &tables)
	if err != nil {
		return fault(err)
	}
	blank := o.Create && id == 0 && tables == 0 // the process ended between creating and filling it
	if Kind(id) != o.Kind && !blank {
		return fmt.Errorf("%w: application id %v, want %v", ErrDamaged, Kind(id), o.Kind)
	}
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return fault(err)
	}
	if verdict != "ok" {
		return fmt.Errorf("%w: %s", ErrDamaged, verdict)
	}
	return nil
}

// pragmasHold makes sure that the connection is as durable as promised: SQLite ignores what it cannot do.
func pragmasHold(ctx context.Context, db *sql.DB) error {
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"} {
		var got string
		if err := db.QueryRowContext(ctx, "PRAGMA "+pragma).Scan(&got); err != nil {
			return fault(err)
		}
		if got != want {
			return fmt.Errorf("sqlite: %s is %s, want %s: the file system does not support it", pragma, got, want)
		}
	}
	return nil
}

func notNewer(ctx context.Context, p *goose.Provider) error {
	current, target, err := p.GetVersions(ctx)
	if err != nil {
		return fault(err)
	}
	if current > target {
		return fmt.Errorf("%w: it has version %d, this release knows %d", ErrNewer, current, target)
	}
	return nil
}
