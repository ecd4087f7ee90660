package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	driver "modernc.org/sqlite"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// What can be wrong with the place of a copy.
var (
	// ErrThere says that there is a file where a copy was to go.
	ErrThere = errors.New("sqlite: there is a file already")
	// ErrUnfinished says that a restore was begun and not finished: there is no database, and none is made in its place.
	ErrUnfinished = errors.New("sqlite: a restore was not finished")
)

// step is how many pages are copied between two looks at the context.
const step = 64

// Backup copies the database at path, which is of that kind, to a new file for the owner alone. Another process may be writing
// to it: the copy has every commit from before the call, and nothing of a commit that is under way. It is one file without a journal,
// it has been read back whole, and it is on the disk when Backup returns nil; otherwise there is none. progress counts pages. Backup
// fails with ErrMissing, ErrDamaged or ErrThere.
func Backup(ctx context.Context, path, to string, kind Kind, progress func(done, of int)) (err error) {
	from, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if to, err = filepath.Abs(to); err != nil {
		return err
	}
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%w at %s", ErrThere, to), err)
	}
	partial := to + ".partial"
	if err := copyTo(ctx, from, partial, kind, progress); err != nil {
		return err
	}
	if err := os.Link(partial, to); err != nil { // never over a file that has come meanwhile
		return errors.Join(err, os.Remove(partial))
	}
	return errors.Join(os.Remove(partial), syncFolder(to))
}

// Restore puts a copy in the place of the database at path, and has ready look at the copy, and change it, before it gets there. A
// database that is there is kept under the name that is returned, if replace says so; otherwise it is ErrThere. It fails with ErrLocked while
// a process has the database open, and as Backup does for the copy, which is not changed. After an end in between there is the
// old database, the new one, or none, and then Open makes none: it fails with ErrUnfinished until Restore has run again.
func Restore(
	ctx context.Context, path, from string, kind Kind, replace bool, progress func(done, of int), ready func(path string) error,
) (aside string, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return "", err
	}
	if from, err = filepath.Abs(from); err != nil {
		return "", err
	}
	if same(from, restoring(path)) || same(from, path) {
		return "", fmt.Errorf("%w: %s is no copy, it is on its way into its place", ErrThere, from)
	}
	held, err := keepOut(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, held.Close()) }()
	there := true
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		there = false
	} else if err != nil || !replace {
		return "", errors.Join(fmt.Errorf("%w at %s", ErrThere, path), err)
	}
	coming := restoring(path)
	if err := discard(coming); err != nil { // of a restore that did not get to its end
		return "", err
	}
	if err := copyTo(ctx, from, coming, kind, progress); err != nil {
		return "", err
	}
	if err := ready(coming); err != nil {
		return "", errors.Join(err, discard(coming))
	}
	if err := whole(coming); err != nil {
		return "", errors.Join(err, discard(coming))
	}
	if aside, err = setAside(path, there); err != nil {
		return aside, err
	}
	if err := os.Rename(coming, path); err != nil {
		return aside, err
	}
	_ = os.Remove(coming + ".lock") // an empty file
	return aside, syncFolder(path)
}

// restoring is where a copy waits until it is ready to take the place of the database.
func restoring(path string) string { return path + ".restoring" }

// keepOut keeps every other process out of the database at path.
func keepOut(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s", err, path), f.Close())
	}
	return f, nil
}

// same reports whether two names are those of one file that exists.
func same(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// companions are the files that SQLite keeps beside a database.
var companions = []string{"-wal", "-shm", "-journal"}

// setAside gives the database at path another name, if it is there, and what belongs to it. The database goes before its write-ahead
// log: without the log it would be a sound one that lacks commits. A log that is left of one that has gone before must not stay either: with
// a log of another database the copy would be none.
func setAside(path string, there bool) (aside string, err error) {
	var left []string
	for _, c := range companions {
		if _, err := os.Lstat(path + c); err == nil {
			left = append(left, c)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	if planted.On(planted.RestoreJournal) {
		left = nil
	}
	if !there && len(left) == 0 {
		return "", nil
	}
	for n := 1; ; n++ {
		name := fmt.Sprintf("%s.before-%d", path, n)
		if taken, err := anyOf(name, append([]string{""}, companions...)); err != nil {
			return "", err
		} else if taken {
			continue
		}
		if there {
			if err := os.Rename(path, name); err != nil {
				return "", err
			}
			aside = name
		}
		for _, c := range left {
			if err := os.Rename(path+c, name+c); err != nil {
				return aside, err
			}
		}
		return aside, syncFolder(path)
	}
}

// anyOf reports whether a name with one of some endings is there.
func anyOf(name string, endings []string) (bool, error) {
	for _, e := range endings {
		if _, err := os.Lstat(name + e); err == nil {
			return true, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return false, nil
}

// discard removes a copy and what belongs to it.
func discard(path string) error {
	for _, c := range append([]string{"", ".lock"}, companions...) {
		if err := os.Remove(path + c); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// whole makes sure that a closed database is all in its file, and on the disk.
func whole(path string) error {
	if info, err := os.Lstat(path + "-wal"); err == nil && info.Size() > 0 {
		return fmt.Errorf("sqlite: %s was not closed", path)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// copyTo copies the database at from to a new file, reads the copy back, and leaves nothing there after an error.
func copyTo(ctx context.Context, from, to string, kind Kind, progress func(done, of int)) (err error) {
	if _, err := prepare(from, false); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = viewed(ctx, err)
		}
	}()
	db, err := sql.Open("sqlite", dsn(from, "ro", "query_only(1)"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return fault(err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	// The transaction holds one state of the database. Without it each commit of a service would have the copy begin anew.
	if _, err := conn.ExecContext(ctx, "BEGIN"); err != nil {
		return fault(err)
	}
	defer func() { _, _ = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK") }() // it has read only
	if err := sound(ctx, conn, Options{Kind: kind}); err != nil {
		return err
	}
	if err := discard(to); err != nil {
		return err
	}
	if err := createFile(to); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, discard(to))
		}
	}()
	if err := pages(ctx, conn, to, progress); err != nil {
		return err
	}
	return readBack(ctx, to, kind)
}

// pages copies page by page.
func pages(ctx context.Context, conn *sql.Conn, to string, progress func(done, of int)) error {
	return conn.Raw(func(c any) error {
		b, err := c.(interface {
			NewBackup(uri string) (*driver.Backup, error)
		}).NewBackup(dsn(to, "rw"))
		if err != nil {
			return fault(err)
		}
		for more := true; more && err == nil; {
			if err = ctx.Err(); err != nil {
				break
			}
			if more, err = b.Step(step); err == nil {
				progress(b.PageCount()-b.Remaining(), b.PageCount())
			}
			err = fault(err)
		}
		return errors.Join(err, fault(b.Finish()))
	})
}

// readBack makes a copy one file, and sees that it is a sound database with a whole audit log, and on the disk.
func readBack(ctx context.Context, path string, kind Kind) (err error) {
	db, err := sql.Open("sqlite", dsn(path, "rw", "journal_mode(DELETE)", "synchronous(FULL)"))
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	closed := false
	defer func() {
		if !closed {
			err = errors.Join(err, db.Close())
		}
	}()
	conn, err := db.Conn(ctx)
	if err != nil {
		return fault(err)
	}
	err = sound(ctx, conn, Options{Kind: kind})
	if err == nil {
		_, err = readTree(ctx, conn)
	}
	if err = errors.Join(fault(err), conn.Close()); err != nil {
		return err
	}
	closed = true
	if err := db.Close(); err != nil {
		return err
	}
	return whole(path)
}

// syncFolder makes the names in the folder of a file durable.
func syncFolder(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
