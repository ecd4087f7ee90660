package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

func quiet(int, int) {}

// TestBackup copies a database that is written to. The copy has all that was acknowledged before, whole, and is not begun anew with each
// commit.
func TestBackup(t *testing.T) {
	t.Parallel()
	db, path := openNew(t)
	big := 0 // enough pages that copying them takes several steps
	for big < 3000 {
		err := db.Update(t.Context(), func(tx *Tx) error {
			for range 500 {
				big++
				if err := take(tx, big); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := big + 1; ctx.Err() == nil; n++ {
			if err := db.Update(ctx, func(tx *Tx) error { return take(tx, n) }); err != nil && ctx.Err() == nil {
				t.Errorf("note %d beside the copy: %v", n, err)
			}
		}
	})
	to := filepath.Join(t.TempDir(), "copy.db")
	steps, pages, before := 0, 0, db.Stats().Commits
	err := Backup(t.Context(), path, to, Registry, func(done, of int) {
		steps, pages = steps+1, of
		for commits := db.Stats().Commits; db.Stats().Commits == commits; { // each step sees another state
		}
		if done > of {
			t.Errorf("%d of %d pages", done, of)
		}
	})
	during := db.Stats().Commits - before
	stop()
	wg.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if steps < 2 || steps > pages/step+1 || during < uint64(steps) {
		t.Errorf("%d steps for %d pages beside %d commits, want more than one and no second time", steps, pages, during)
	}
	info := must(os.Stat(to))
	if entries := must(os.ReadDir(filepath.Dir(to))); len(entries) != 1 || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, beside %v", info.Mode(), entries)
	}
	taken, records := notes(t, reopen(t, to))
	if len(taken) < big || len(taken) != records || taken[len(taken)-1] != len(taken) {
		t.Errorf("%d notes to %d, %d records, want the first %d at least, and as many records", len(taken), taken[len(taken)-1], records, big)
	}
}

// TestBackupRefuses leaves nothing where there is no whole copy.
func TestBackupRefuses(t *testing.T) {
	t.Parallel()
	db, path := openNew(t)
	mustTake(t, db, 1)
	dir := t.TempDir()
	to := filepath.Join(dir, "copy.db")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	text := filepath.Join(t.TempDir(), "text")
	occupied := filepath.Join(t.TempDir(), "occupied.db")
	for _, name := range []string{text, occupied} {
		if err := os.WriteFile(name, []byte("what somebody wrote"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		ctx      context.Context
		from, to string
		kind     Kind
		want     error
	}{
		"missing":      {t.Context(), path + "x", to, Registry, ErrMissing},
		"no database":  {t.Context(), text, to, Registry, ErrDamaged},
		"another kind": {t.Context(), path, to, Claims, ErrDamaged},
		"occupied":     {t.Context(), path, occupied, Registry, ErrThere},
		"over itself":  {t.Context(), path, path, Registry, ErrThere},
		"cancelled":    {cancelled, path, to, Registry, context.Canceled},
		"no folder":    {t.Context(), path, filepath.Join(dir, "none", "copy.db"), Registry, fs.ErrNotExist},
	} {
		if err := Backup(c.ctx, c.from, c.to, c.kind, quiet); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if entries := must(os.ReadDir(dir)); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
	if string(must(os.ReadFile(occupied))) != "what somebody wrote" {
		t.Error("a file was written over")
	}
	if taken, _ := notes(t, db); !slices.Equal(taken, []int{1}) {
		t.Errorf("the database has %v", taken)
	}
}

// TestRestore puts a copy in the place of a database. Whatever goes wrong before leaves both as they were.
func TestRestore(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "latchkey.db")
	to := filepath.Join(t.TempDir(), "copy.db")
	db := openAt(t, path)
	mustTake(t, db, 1)
	if err := Backup(t.Context(), path, to, Registry, quiet); err != nil {
		t.Fatal(err)
	}
	mustTake(t, db, 2)
	accept := func(string) error { return nil }
	restore := func(from string, replace bool, ready func(string) error) (string, error) {
		return Restore(t.Context(), path, from, Registry, replace, quiet, ready)
	}
	if _, err := restore(to, true, accept); !errors.Is(err, ErrLocked) {
		t.Errorf("beside a service: %v, want %v", err, ErrLocked)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	damaged := filepath.Join(t.TempDir(), "damaged.db")
	b := must(os.ReadFile(to))
	for i := 4096; i < 3*4096; i++ {
		b[i] ^= 0x55
	}
	short := filepath.Join(t.TempDir(), "short.db")
	if err := errors.Join(os.WriteFile(damaged, b, 0o600), os.WriteFile(short, must(os.ReadFile(to))[:3*4096], 0o600)); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("not this one")
	for name, c := range map[string]struct {
		from    string
		replace bool
		ready   func(string) error
		want    error
	}{
		"no word of replacing": {to, false, accept, ErrThere},
		"no copy":              {to + "x", true, accept, ErrMissing},
		"a damaged copy":       {damaged, true, accept, ErrDamaged},
		"half a copy":          {short, true, accept, ErrDamaged},
		"one that is refused":  {to, true, func(string) error { return refused }, refused},
	} {
		if aside, err := restore(c.from, c.replace, c.ready); !errors.Is(err, c.want) || aside != "" {
			t.Errorf("%s: %q, %v, want %v", name, aside, err, c.want)
		}
		if entries := must(os.ReadDir(filepath.Dir(path))); len(entries) != 2 {
			t.Errorf("%s leaves %v", name, entries)
		}
		db := openAt(t, path)
		if taken, _ := notes(t, db); !slices.Equal(taken, []int{1, 2}) {
			t.Errorf("after %s the database has %v", name, taken)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}

	for round := 1; round <= 2; round++ {
		aside, err := restore(to, true, func(coming string) error {
			db := openAt(t, coming)
			mustTake(t, db, 7)
			return db.Close()
		})
		if err != nil || aside != fmt.Sprintf("%s.before-%d", path, round) {
			t.Fatalf("restore: %q, %v", aside, err)
		}
	}
	for file, want := range map[string][]int{path: {1, 7}, path + ".before-1": {1, 2}, path + ".before-2": {1, 7}, to: {1}} {
		if taken, _ := notes(t, reopen(t, file)); !slices.Equal(taken, want) {
			t.Errorf("%s has %v, want %v", file, taken, want)
		}
	}
}

// TestRestoreUnfinished ends a restore where there is no database: none is made until it has run again.
func TestRestoreUnfinished(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "latchkey.db")
	to := filepath.Join(t.TempDir(), "copy.db")
	db := openAt(t, path)
	mustTake(t, db, 1)
	if err := Backup(t.Context(), path, to, Registry, quiet); err != nil {
		t.Fatal(err)
	}
	mustTake(t, db, 2)
	log := must(os.ReadFile(path + "-wal"))
	if err := errors.Join(db.Close(), os.Rename(path, restoring(path)), os.WriteFile(path+"-wal", log, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, options()); !errors.Is(err, ErrUnfinished) {
		t.Errorf("open: %v, want %v", err, ErrUnfinished)
	}
	accept := func(string) error { return nil }
	if _, err := Restore(t.Context(), path, restoring(path), Registry, false, quiet, accept); !errors.Is(err, ErrThere) {
		t.Errorf("from what is on its way: %v, want %v", err, ErrThere)
	}
	if _, err := Restore(t.Context(), path, to, Registry, false, quiet, accept); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(path + ".before-1-wal"); err != nil {
		t.Errorf("the log of the database that has gone before: %v", err)
	}
	if taken, _ := notes(t, reopen(t, path)); !slices.Equal(taken, []int{1}) {
		t.Errorf("after the restore: %v", taken)
	}
}

// TestRestoreOverJournal restores where a process died: its write-ahead log is not that of the copy.
func TestRestoreOverJournal(t *testing.T) {
	t.Parallel()
	taken, aside, err := restoreOverJournal(t)
	if err != nil || !slices.Equal(taken, []int{1}) || !slices.Equal(aside, []int{1, 2, 3}) {
		t.Errorf("restored %v, set aside %v, %v, want the copy's 1 and what the process had written, 1 to 3", taken, aside, err)
	}
}

// restoreOverJournal returns the notes of the database in place and of the one that was set aside.
func restoreOverJournal(t *testing.T) (taken, before []int, err error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "latchkey.db")
	to := filepath.Join(t.TempDir(), "copy.db")
	live := filepath.Join(t.TempDir(), "live.db")
	db := openAt(t, live)
	mustTake(t, db, 1)
	if err := Backup(t.Context(), live, to, Registry, quiet); err != nil {
		t.Fatal(err)
	}
	mustTake(t, db, 2)
	mustTake(t, db, 3)
	for _, suffix := range []string{"", "-wal"} { // as the power cut leaves them
		if err := os.WriteFile(path+suffix, must(os.ReadFile(live+suffix)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	aside, err := Restore(t.Context(), path, to, Registry, true, quiet, func(string) error { return nil })
	if err != nil {
		return nil, nil, err
	}
	for file, out := range map[string]*[]int{path: &taken, aside: &before} {
		db, err := Open(file, options())
		if err != nil {
			return nil, nil, err
		}
		*out, _ = notes(t, db)
		if err := db.Close(); err != nil {
			return nil, nil, err
		}
	}
	return taken, before, nil
}
