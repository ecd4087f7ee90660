package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/audit"
)

func auditKey(t testing.TB) (*audit.Signer, *audit.Verifier) {
	t.Helper()
	s, v, err := audit.GenerateKey("latchkey/SHOP/provisiond")
	if err != nil {
		t.Fatal(err)
	}
	return must(audit.NewSigner(s)), must(audit.NewVerifier(v))
}

// verifyLog makes a checkpoint and verifies the whole log beside the open database.
func verifyLog(t testing.TB, db *DB, path string) {
	t.Helper()
	s, v := auditKey(t)
	if _, err := db.Checkpoint(t.Context(), s); err != nil {
		t.Fatalf("checkpoint: %v", err)
	}
	log, err := OpenAudit(path)
	if err != nil {
		t.Fatalf("open audit: %v", err)
	}
	defer func() { _ = log.Close() }()
	r, err := audit.Verify(t.Context(), log, v)
	if err != nil || r.Signed != r.Size || r.Checkpoints != 1 {
		t.Errorf("verify: %+v %v", r, err)
	}
}

func TestAuditLog(t *testing.T) {
	t.Parallel()
	db, path := openNew(t)
	s, v := auditKey(t)
	var kept [][]byte
	for n := range 23 {
		mustTake(t, db, n+1)
		if n%7 == 3 {
			signed, err := db.Checkpoint(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			again, err := db.Checkpoint(t.Context(), s)
			if err != nil || string(again) != string(signed) {
				t.Errorf("a second checkpoint of the same log differs: %v", err)
			}
			kept = append(kept, signed)
		}
	}
	log, err := OpenAudit(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	r, err := audit.Verify(t.Context(), log, v, kept...)
	if err != nil || r.Size != 23 || r.Signed != 18 || r.Checkpoints != 2*len(kept) {
		t.Fatalf("verify: %+v %v", r, err)
	}

	for name, c := range map[string]struct {
		spoil string
		leaf  bool
	}{
		"a record":                      {`UPDATE audit_leaves SET record = CAST(replace(record, 'take', 'void') AS BLOB) WHERE n = 5`, true},
		"the hashes of a record":        {`UPDATE audit_leaves SET hashes = zeroblob(32) WHERE n = 6`, true},
		"hashes of no length":           {`UPDATE audit_leaves SET hashes = zeroblob(0) WHERE n = 6`, true},
		"a record gone":                 {`DELETE FROM audit_leaves WHERE n = 4`, true},
		"the newest signed record gone": {`DELETE FROM audit_leaves WHERE n >= 17`, false},
		"a checkpoint":                  {`UPDATE audit_checkpoints SET note = CAST(replace(note, '18', '17') AS BLOB)`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			copied := copyFiles(t, path)
			raw(t, copied, c.spoil)
			log := must(OpenAudit(copied))
			defer func() { _ = log.Close() }()
			_, err := audit.Verify(t.Context(), log, v)
			_, leaf := errors.AsType[*audit.LeafError](err)
			if !audit.Broken(err) || leaf != c.leaf {
				t.Errorf("verify: %v", err)
			}
		})
	}
}

// TestLogGoesOn opens the log at every size and appends: the tree is the one of a log that was never closed.
func TestLogGoesOn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "latchkey.db")
	for n := range 10 {
		db := openAt(t, path)
		mustTake(t, db, n+1)
		if n == 9 {
			verifyLog(t, db, path)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLogOfAnother appends behind the back of the database: nothing is recorded over it, and nothing without a record.
func TestLogOfAnother(t *testing.T) {
	t.Parallel()
	db, path := openNew(t)
	mustTake(t, db, 1)
	raw(t, path, `INSERT INTO audit_leaves (n, record, hashes) VALUES (1, x'00', zeroblob(64))`)
	for name, do := range map[string]func(*Tx) error{
		"a record":                       func(tx *Tx) error { return take(tx, 2) },
		"a record whose failure is lost": func(tx *Tx) error { _ = take(tx, 2); return tx.Exec(`INSERT INTO notes (n, text) VALUES (3, 'x')`) },
	} {
		if err := db.Update(t.Context(), do); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, want %v", name, err, ErrDamaged)
		}
	}
	if taken, records := notes(t, db); len(taken) != 1 || records != 2 {
		t.Errorf("%d notes and %d records stayed, want 1 and 2", len(taken), records)
	}
}

// TestOpenAudit opens the logs of every kind, and of no other file.
// TestOpenBehind refuses a copy that is older than a checkpoint, and one that went another way since; it opens every later
// state.
func TestOpenBehind(t *testing.T) {
	t.Parallel()
	s, _ := auditKey(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "latchkey.db")
	db := openAt(t, path)
	var kept [][]byte
	for n := range 9 {
		kept = append(kept, must(db.Checkpoint(t.Context(), s)))
		mustTake(t, db, n+1)
		if n == 4 {
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "old.db"), must(os.ReadFile(path)), 0o600); err != nil {
				t.Fatal(err)
			}
			db = openAt(t, path)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	opens := func(name string, kept []byte) error {
		o := options()
		o.Create, o.Kept = false, kept
		db, err := Open(filepath.Join(dir, name), o)
		if err == nil {
			err = db.Close()
		}
		return err
	}
	for size, c := range kept {
		if err := opens("latchkey.db", c); err != nil {
			t.Errorf("checkpoint of %d: %v", size, err)
		}
		if err := opens("old.db", c); (size <= 5) != (err == nil) || size > 5 && !errors.Is(err, ErrBehind) {
			t.Errorf("checkpoint of %d, the copy holds 5: %v", size, err)
		}
	}
	other := openAt(t, filepath.Join(dir, "old.db"))
	for n := range 5 {
		mustTake(t, other, n+100)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if err := opens("old.db", kept[8]); !errors.Is(err, ErrBehind) {
		t.Errorf("a copy that went another way: %v", err)
	}
	if err := opens("latchkey.db", []byte("nonsense")); !errors.Is(err, audit.ErrCheckpoint) {
		t.Errorf("no checkpoint: %v", err)
	}
}

func TestOpenAudit(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		o, path := options(), filepath.Join(t.TempDir(), "latchkey.db")
		o.Kind = kind
		db, err := Open(path, o)
		if err != nil {
			t.Fatal(err)
		}
		mustTake(t, db, 1)
		verifyLog(t, db, path)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "theirs.db")
	raw(t, path, `PRAGMA application_id = 1094861636; CREATE TABLE audit_leaves (n, record, hashes)`)
	if _, err := OpenAudit(path); !errors.Is(err, ErrDamaged) {
		t.Errorf("the file of another program: %v, want %v", err, ErrDamaged)
	}
}

// copyFiles copies a database as a power cut would leave it.
func copyFiles(t testing.TB, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy.db")
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to+suffix, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}
