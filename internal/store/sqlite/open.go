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
	"path/filepath"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

// What can be wrong with a database when it is opened.
var (
	// ErrMissing says that there is no database and that none was to be created.
	ErrMissing = errors.New("sqlite: there is no database")
	// ErrLocked says that another process has the database open.
	ErrLocked = errors.New("sqlite: another process is using the database")
	// ErrDamaged says that the file is not a whole database of this program.
	ErrDamaged = errors.New("sqlite: the database is damaged or not one of this program")
	// ErrNewer says that a newer release of this program has written the database.
	ErrNewer = errors.New("sqlite: the database was written by a newer release")
)

// applicationID stands in the header of every database of this program: "LKEY".
const applicationID = 0x4c4b4559

//go:embed migrations/*.sql
var migrations embed.FS

// dsn names a database file for the driver. Pragmas hold for each connection.
func dsn(path, mode string, pragmas ...string) string {
	q := url.Values{"mode": {mode}, "_pragma": append([]string{"busy_timeout(5000)", "foreign_keys(1)"}, pragmas...)}
	u := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	return u.String()
}

// openWriter opens the connection that writes, after checking that the file is a sound one of ours.
func openWriter(ctx context.Context, path string, create bool) (*sql.DB, error) {
	fresh, err := prepare(path, create)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", dsn(path, "rw", "journal_mode(WAL)", "synchronous(FULL)"))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if err := ready(ctx, db, fresh); err != nil {
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
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// ready checks that the database is whole and of this program, and brings its tables up to date.
func ready(ctx context.Context, db *sql.DB, fresh bool) error {
	if !fresh {
		if err := sound(ctx, db); err != nil {
			return err
		}
	}
	if err := pragmasHold(ctx, db); err != nil {
		return err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	if err := notNewer(ctx, p); err != nil {
		return err
	}
	if _, err := p.Up(ctx); err != nil {
		return fault(err)
	}
	_, err = db.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID))
	return fault(err)
}

// sound refuses files of other programs and files whose pages do not fit together.
func sound(ctx context.Context, db *sql.DB) error {
	var id int64
	if err := db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return opening(err)
	}
	if id != applicationID {
		return fmt.Errorf("%w: application id %#x, want %#x", ErrDamaged, id, applicationID)
	}
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return opening(err)
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
			return opening(err)
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
		return opening(err)
	}
	if current > target {
		return fmt.Errorf("%w: it has version %d, this release knows %d", ErrNewer, current, target)
	}
	return nil
}
