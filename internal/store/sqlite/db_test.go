package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

func TestOpenMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := options()
	o.Create = false
	_, err := Open(filepath.Join(dir, "none.db"), o)
	if !errors.Is(err, ErrMissing) {
		t.Errorf("open: %v, want %v", err, ErrMissing)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("opening left %v behind", entries)
	}
	if _, err := OpenAudit(filepath.Join(dir, "none.db")); !errors.Is(err, ErrMissing) {
		t.Errorf("open audit: %v, want %v", err, ErrMissing)
	}
	if _, err := Open(filepath.Join(dir, "no", "folder.db"), options()); err == nil {
		t.Error("a database without a folder opens")
	}
}

func TestOpenUnfinishedOptions(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "latchkey.db")
	for name, spoil := range map[string]func(*Options){
		"no kind":       func(o *Options) { o.Kind = 0 },
		"a new kind":    func(o *Options) { o.Kind = 0x41424344 },
		"no migrations": func(o *Options) { o.Migrations = nil },
	} {
		o := options()
		spoil(&o)
		if _, err := Open(path, o); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func TestOpenLocked(t *testing.T) {
	t.Parallel()
	db, path := openNew(t)
	if _, err := Open(path, options()); !errors.Is(err, ErrLocked) {
		t.Errorf("second open: %v, want %v", err, ErrLocked)
	}
	if err := db.Check(t.Context()); err != nil {
		t.Errorf("the first one no longer works: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	if err := openAt(t, path).Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func TestFilesAreForTheOwnerAlone(t *testing.T) {
	t.Parallel()
	db, path := openNew(t)
	if err := db.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + "-wal", path + ".lock"} {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v, want mode 0600", name, info.Mode(), err)
		}
	}
}

func TestPathsWithSpecialCharacters(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a b?c#d%41&e.db")
	db := openAt(t, path)
	defer func() { _ = db.Close() }()
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		t.Errorf("the database is somewhere else: %v %v", info, err)
	}
}

func TestOpenDamaged(t *testing.T) {
	t.Parallel()
	good := filepath.Join(t.TempDir(), "good.db")
	db := openAt(t, good)
	for n := range 150 {
		mustTake(t, db, n+1)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	spoil := func(f func(b []byte) []byte) []byte { return f(append([]byte(nil), whole...)) }
	for name, c := range map[string]struct {
		bytes []byte
		want  error
	}{
		"another file":         {[]byte(strings.Repeat("not a database. ", 100)), ErrDamaged},
		"empty":                {nil, ErrDamaged},
		"a few bytes":          {whole[:10], ErrDamaged},
		"half of it":           {whole[:len(whole)/2/4096*4096], ErrDamaged},
		"pages overwritten":    {spoil(func(b []byte) []byte { clear(b[4096*2 : 4096*9]); return b }), ErrDamaged},
		"of another program":   {spoil(func(b []byte) []byte { copy(b[68:], "ABCD"); return b }), ErrDamaged},
		"of no program":        {spoil(func(b []byte) []byte { clear(b[68:72]); return b }), ErrDamaged},
		"of another kind":      {spoil(func(b []byte) []byte { copy(b[68:], "LKEY"); return b }), ErrDamaged},
		"nothing wrong at all": {whole, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "copy.db")
			if err := os.WriteFile(path, c.bytes, 0o600); err != nil {
				t.Fatal(err)
			}
			o := options()
			o.Create = false
			db, err := Open(path, o)
			if !errors.Is(err, c.want) {
				t.Errorf("open: %v, want %v", err, c.want)
			}
			if err == nil {
				_ = db.Close()
			}
			if after, _ := os.ReadFile(path); c.want != nil && string(after) != string(c.bytes) {
				t.Error("opening changed the damaged file")
			}
		})
	}
}

// TestOpenUnfinished opens what a process leaves that ends while it makes a database.
func TestOpenUnfinished(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]string{
		"nothing in it":     `PRAGMA journal_mode = WAL`,
		"its kind":          `PRAGMA application_id = 1280004673`,
		"a table of goose":  `PRAGMA application_id = 1280004673; CREATE TABLE goose_db_version (id INTEGER PRIMARY KEY AUTOINCREMENT, version_id INTEGER NOT NULL, is_applied INTEGER NOT NULL, tstamp TIMESTAMP DEFAULT (datetime('now'))); INSERT INTO goose_db_version (version_id, is_applied) VALUES (0, 1)`,
		"a file of 0 bytes": ``,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "latchkey.db")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			raw(t, path, leave)
			db := openAt(t, path)
			mustTake(t, db, 1)
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			if taken, records := notes(t, reopen(t, path)); len(taken) != 1 || records != 1 {
				t.Errorf("%d notes and %d records after opening again", len(taken), records)
			}
		})
	}
	path := filepath.Join(t.TempDir(), "latchkey.db")
	raw(t, path, `CREATE TABLE theirs (x)`)
	if _, err := Open(path, options()); !errors.Is(err, ErrDamaged) {
		t.Errorf("a database of nobody with a table: %v, want %v", err, ErrDamaged)
	}
}

func TestOpenNewer(t *testing.T) {
	t.Parallel()
	for _, versions := range []string{"goose_db_version", "goose_log_version"} {
		db, path := openNew(t)
		if _, err := db.conn.ExecContext(t.Context(), `INSERT INTO `+versions+` (version_id, is_applied) VALUES (9999, 1)`); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, options()); !errors.Is(err, ErrNewer) {
			t.Errorf("open: %v, want %v", err, ErrNewer)
		}
	}
}

// TestOpenOlder brings a database up to date that an earlier release has written.
func TestOpenOlder(t *testing.T) {
	t.Parallel()
	db, path := openNew(t)
	mustTake(t, db, 1)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	o := options()
	o.Migrations.(fstest.MapFS)["migrations/00002_more.sql"] = &fstest.MapFile{Data: []byte(
		"-- +goose Up\nALTER TABLE notes ADD COLUMN more TEXT NOT NULL DEFAULT 'none';\n")}
	db, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	var more string
	err = db.View(t.Context(), func(tx *Tx) error {
		_, err := tx.One(`SELECT more FROM notes WHERE n = 1`, nil, &more)
		return err
	})
	if err != nil || more != "none" {
		t.Errorf("the new column holds %q: %v", more, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, options()); !errors.Is(err, ErrNewer) {
		t.Errorf("the earlier release opens it: %v, want %v", err, ErrNewer)
	}
}

func TestLogWithAHole(t *testing.T) {
	t.Parallel()
	db, path := openNew(t)
	for n := range 4 {
		mustTake(t, db, n+1)
	}
	if _, err := db.conn.ExecContext(t.Context(), `DELETE FROM audit_leaves WHERE n = 2`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, options()); !errors.Is(err, ErrDamaged) {
		t.Errorf("open: %v, want %v", err, ErrDamaged)
	}
}

// TestSchemaHolds tries what no code of ours does.
func TestSchemaHolds(t *testing.T) {
	t.Parallel()
	db, _ := openNew(t)
	mustTake(t, db, 1)
	for _, bad := range []string{
		`UPDATE audit_leaves SET hashes = x'00'`, `UPDATE audit_leaves SET n = -1`,
		`INSERT INTO audit_checkpoints (size, note) VALUES (-1, x'00')`, `INSERT INTO heartbeat (id, beat) VALUES (2, 0)`,
	} {
		if _, err := db.conn.ExecContext(t.Context(), bad); err == nil {
			t.Errorf("%s: accepted", bad)
		}
	}
	if _, err := db.read.ExecContext(t.Context(), `DELETE FROM notes`); err == nil {
		t.Error("the connections for reading can write")
	}
}

func TestKind(t *testing.T) {
	t.Parallel()
	for kind, want := range map[Kind]string{Claims: "LKEY", Registry: "LKRA", Deliveries: "LKKD", 0: "0x0"} {
		if got := kind.String(); got != want {
			t.Errorf("kind %#x is %s, want %s", uint32(kind), got, want)
		}
	}
}
