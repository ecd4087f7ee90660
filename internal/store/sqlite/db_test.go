package sqlite

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/storetest"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Harness{
		Open:    func(t testing.TB, dir string) decrypt.Store { return openAt(t, filepath.Join(dir, "latchkey.db")) },
		Dump:    func(t testing.TB, s decrypt.Store) storetest.Contents { return dump(t, s.(*DB)) },
		Commits: func(s decrypt.Store) uint64 { return s.(*DB).Stats().Commits },
	})
}

func openAt(t testing.TB, path string) *DB {
	t.Helper()
	db, err := Open(path, Options{Create: true})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return db
}

// openNew opens an empty database that is closed at the end of the test.
func openNew(t testing.TB) (*DB, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "latchkey.db")
	db := openAt(t, path)
	t.Cleanup(func() { _ = db.Close() })
	return db, path
}

// dump reads every table.
func dump(t testing.TB, db *DB) storetest.Contents {
	t.Helper()
	c := storetest.Contents{
		States: make(map[decrypt.CounterKey]decrypt.KeyIDState), Rows: make(map[decrypt.RowKey][]decrypt.Entry),
		Requests: make(map[message.Digest]decrypt.Request), Answers: make(map[message.Digest]decrypt.Answer),
		Acks: make(map[message.Digest]storetest.Ack),
	}
	q := pool{t.Context(), db.read}
	each(t, db, `SELECT base_key, key_id FROM counters`, func(scan func(...any) error) error {
		var base, id []byte
		if err := scan(&base, &id); err != nil {
			return err
		}
		key := decrypt.CounterKey{BaseKey: parseFingerprint(t, base), KeyID: parseKeyID(t, id)}
		s, _, err := lookupState(q, key)
		c.States[key] = s
		return err
	})
	each(t, db, `SELECT base_key, key_id, counter, purpose, `+entryColumns+` FROM claims ORDER BY base_key, key_id, counter, purpose, n`,
		func(scan func(...any) error) error {
			var base, id []byte
			var counter uint32
			var purpose uint8
			e, err := scanEntry(func(dest ...any) error { return scan(append([]any{&base, &id, &counter, &purpose}, dest...)...) })
			if err != nil {
				return err
			}
			k, err := parseKeyID(t, id).KSN(counter)
			key := decrypt.RowKey{BaseKey: parseFingerprint(t, base), KSN: k, Purpose: decrypt.Purpose(purpose)}
			c.Rows[key] = append(c.Rows[key], e)
			return err
		})
	each(t, db, `SELECT digest FROM requests`, func(scan func(...any) error) error {
		var d []byte
		if err := scan(&d); err != nil {
			return err
		}
		r, _, err := lookupRequest(q, message.Digest(d))
		c.Requests[message.Digest(d)] = r
		return err
	})
	each(t, db, `SELECT original FROM answers`, func(scan func(...any) error) error {
		var d []byte
		if err := scan(&d); err != nil {
			return err
		}
		a, _, err := lookupDecision(q, message.Digest(d))
		c.Answers[message.Digest(d)] = a
		return err
	})
	each(t, db, `SELECT digest FROM acks`, func(scan func(...any) error) error {
		var d []byte
		if err := scan(&d); err != nil {
			return err
		}
		a := decrypt.Answer{Digest: message.Digest(d)}
		err := lookupAck(q, &a)
		c.Acks[a.Digest] = storetest.Ack{Ack: a.Ack, KSN: a.KSN, Content: a.Content}
		return err
	})
	each(t, db, `SELECT record FROM audit_leaves ORDER BY n`, func(scan func(...any) error) error {
		var b []byte
		if err := scan(&b); err != nil {
			return err
		}
		r, err := audit.ParseRecord(b)
		c.Leaves = append(c.Leaves, r)
		return err
	})
	return c
}

// each reads all rows before it looks at the first, so that looking may query too.
func each(t testing.TB, db *DB, query string, f func(scan func(...any) error) error) {
	t.Helper()
	rows, err := db.read.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func parseFingerprint(t testing.TB, b []byte) keys.Fingerprint {
	t.Helper()
	f, err := keys.ParseFingerprint(hex.EncodeToString(b))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func parseKeyID(t testing.TB, b []byte) dukpt.KeyID {
	t.Helper()
	var id dukpt.KeyID
	if err := id.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestOpenMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Open(filepath.Join(dir, "none.db"), Options{})
	if !errors.Is(err, ErrMissing) {
		t.Errorf("open: %v, want %v", err, ErrMissing)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("opening left %v behind", entries)
	}
	if _, err := OpenAudit(filepath.Join(dir, "none.db")); !errors.Is(err, ErrMissing) {
		t.Errorf("open audit: %v, want %v", err, ErrMissing)
	}
	if _, err := Open(filepath.Join(dir, "no", "folder.db"), Options{Create: true}); err == nil {
		t.Error("a database without a folder opens")
	}
}

func TestOpenLocked(t *testing.T) {
	t.Parallel()
	db, path := openNew(t)
	if _, err := Open(path, Options{Create: true}); !errors.Is(err, ErrLocked) {
		t.Errorf("second open: %v, want %v", err, ErrLocked)
	}
	if err := db.Check(t.Context()); err != nil {
		t.Errorf("the first one no longer works: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	again, err := Open(path, Options{})
	if err != nil {
		t.Fatalf("open after close: %v", err)
	}
	if err := again.Close(); err != nil {
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
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the database is somewhere else: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		t.Errorf("the database is somewhere else: %v %v", info, err)
	}
}

func TestOpenDamaged(t *testing.T) {
	t.Parallel()
	good := filepath.Join(t.TempDir(), "good.db")
	db := openAt(t, good)
	for n := range uint32(50) {
		if _, err := db.Claim(t.Context(), claimSet(fmt.Sprint("s", n), n+1)); err != nil {
			t.Fatal(err)
		}
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
		"nothing wrong at all": {whole, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "copy.db")
			if err := os.WriteFile(path, c.bytes, 0o600); err != nil {
				t.Fatal(err)
			}
			db, err := Open(path, Options{})
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

func TestOpenNewer(t *testing.T) {
	t.Parallel()
	db, path := openNew(t)
	if _, err := db.conn.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); !errors.Is(err, ErrNewer) {
		t.Errorf("open: %v, want %v", err, ErrNewer)
	}
}

func TestLogWithAHole(t *testing.T) {
	t.Parallel()
	db, path := openNew(t)
	for n := range uint32(4) {
		if _, err := db.Claim(t.Context(), claimSet(fmt.Sprint("s", n), n+1)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.conn.ExecContext(t.Context(), `DELETE FROM audit_leaves WHERE n = 2`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); !errors.Is(err, ErrDamaged) {
		t.Errorf("open: %v, want %v", err, ErrDamaged)
	}
}

// TestSchemaHolds tries what no code of ours does.
func TestSchemaHolds(t *testing.T) {
	t.Parallel()
	db, _ := openNew(t)
	if _, err := db.Claim(t.Context(), claimSet("s1", 1)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		`UPDATE claims SET content = x'00'`, `UPDATE claims SET purpose = 8`, `UPDATE claims SET counter = 0`,
		`UPDATE claims SET authenticated = 2`, `UPDATE claims SET tries = -1`, `UPDATE claims SET v = 2`,
		`UPDATE claims SET first_seen = 'yesterday'`, `DELETE FROM counters`, `UPDATE counters SET high = seen + 1`,
		`UPDATE counters SET status = 1`, `UPDATE counters SET evidence = 1`, `UPDATE audit_leaves SET hashes = x'00'`,
		`INSERT INTO heartbeat (id, beat) VALUES (2, 0)`,
		`INSERT INTO acks (digest, v, original, ack, at) VALUES (zeroblob(32), 1, zeroblob(32), x'00', 0)`,
	} {
		if _, err := db.conn.ExecContext(t.Context(), bad); err == nil {
			t.Errorf("%s: accepted", bad)
		}
	}
	if _, err := db.read.ExecContext(t.Context(), `DELETE FROM claims`); err == nil {
		t.Error("the connections for reading can write")
	}
}

func TestFaultsOfStoredValues(t *testing.T) {
	t.Parallel()
	db, _ := openNew(t)
	set := claimSet("s1", 1)
	if _, err := db.Claim(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ spoil, mend string }{
		{`UPDATE counters SET fences = x'ff'`, `UPDATE counters SET fences = x'80'`},
		{`UPDATE claims SET mac_ksn = x'00'`, `UPDATE claims SET mac_ksn = NULL`},
	} {
		mustExec(t, db, c.spoil)
		_, err := db.Claim(t.Context(), set)
		if r, ok := errors.AsType[*decrypt.Refusal](err); !ok || r.Code != decrypt.CodeStoreDamaged || r.Detail != "" {
			t.Errorf("%s: %v, want %s", c.spoil, err, decrypt.CodeStoreDamaged)
		}
		mustExec(t, db, c.mend)
	}
	if _, err := db.Claim(t.Context(), set); err != nil {
		t.Errorf("after mending: %v", err)
	}
}

// TestRanges stores what is in the format and not written by any code yet.
func TestRanges(t *testing.T) {
	t.Parallel()
	db, _ := openNew(t)
	want := []decrypt.Range{{From: 1, To: 5}, {From: 9, To: 4_000_000_000}}
	set := claimSet("s7", 7)
	if _, err := db.Claim(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	if _, err := db.conn.ExecContext(t.Context(), `UPDATE counters SET spent = ?, floor = 3000000000`, formatRanges(want)); err != nil {
		t.Fatal(err)
	}
	state, err := db.Counters(t.Context(), set.Claims[0].BaseKey, set.Claims[0].KSN.KeyID())
	if err != nil || len(state.Spent) != 2 || state.Spent[1] != want[1] || state.Floor != 3_000_000_000 {
		t.Errorf("state %+v %v", state, err)
	}
	spent := claimSet("s3", 3)
	if _, err := db.Claim(t.Context(), spent); !isCode(err, decrypt.CodeKSNSpent) {
		t.Errorf("claim: %v, want %s", err, decrypt.CodeKSNSpent)
	}
}

func isCode(err error, code decrypt.Code) bool {
	r, ok := errors.AsType[*decrypt.Refusal](err)
	return ok && r.Code == code
}

func mustExec(t testing.TB, db *DB, query string, args ...any) {
	t.Helper()
	err := db.writer.submit(t.Context(), func(tx *tx) error { return tx.exec(query, args...) })
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}
