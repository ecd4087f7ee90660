package sqlite

import (
	"errors"
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/audit"
)

func auditKey(t testing.TB) (*audit.Signer, *audit.Verifier) {
	t.Helper()
	s, v, err := audit.GenerateKey("latchkey/SHOP/decryptd")
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
	for n := range uint32(23) {
		if _, err := db.Claim(t.Context(), claimSet(fmt.Sprint(n), n+1)); err != nil {
			t.Fatal(err)
		}
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
		"a record":                      {`UPDATE audit_leaves SET record = CAST(replace(record, 'sale', 'void') AS BLOB) WHERE n = 5`, true},
		"the hashes of a record":        {`UPDATE audit_leaves SET hashes = zeroblob(32) WHERE n = 6`, true},
		"hashes of no length":           {`UPDATE audit_leaves SET hashes = zeroblob(0) WHERE n = 6`, true},
		"a record gone":                 {`DELETE FROM audit_leaves WHERE n = 4`, true},
		"the newest signed record gone": {`DELETE FROM audit_leaves WHERE n >= 17`, false},
		"a checkpoint":                  {`UPDATE audit_checkpoints SET note = CAST(replace(note, '18', '17') AS BLOB)`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			copied := openAt(t, copyFiles(t, path))
			spoiled := copied.conn
			if _, err := spoiled.ExecContext(t.Context(), c.spoil); err != nil {
				t.Fatal(err)
			}
			log := &AuditLog{copied.read}
			_, err := audit.Verify(t.Context(), log, v)
			_, leaf := errors.AsType[*audit.LeafError](err)
			if !audit.Broken(err) || leaf != c.leaf {
				t.Errorf("verify: %v", err)
			}
			_ = copied.Close()
		})
	}
}

// TestLogGoesOn opens the log at every size and appends: the tree is the one of a log that was never closed.
func TestLogGoesOn(t *testing.T) {
	t.Parallel()
	_, path := func() (*DB, string) {
		db, path := openNew(t)
		_ = db.Close()
		return db, path
	}()
	for n := range uint32(10) {
		db := openAt(t, path)
		if _, err := db.Claim(t.Context(), claimSet(fmt.Sprint(n), n+1)); err != nil {
			t.Fatal(err)
		}
		if n == 9 {
			verifyLog(t, db, path)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
