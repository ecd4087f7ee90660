package deliveries

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite/sqlitetest"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/keydist"
	"github.com/latchkey-pos/latchkey/tls/keydist/keydisttest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	keydisttest.Run(t, keydisttest.Harness{
		Open:   func(t testing.TB, dir string) keydist.Store { return openAt(t, filepath.Join(dir, "keyd.db")) },
		Leaves: func(t testing.TB, s keydist.Store) []audit.Record { return sqlitetest.Leaves(t, s.(*Store).db) },
	})
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func openAt(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path, Options{Create: true})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}

func openNew(t testing.TB) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keyd.db")
	s := openAt(t, path)
	t.Cleanup(func() { _ = s.Close() })
	return s, path
}

func keyID(n int) dukpt.KeyID {
	var id dukpt.KeyID
	if err := id.UnmarshalBinary([]byte{0x12, 0x34, 0x56, 0x78, 0, 0, byte(n >> 8), byte(n)}); err != nil {
		panic(err)
	}
	return id
}

func issued(n int) keydist.Issued {
	return keydist.Issued{
		KeySet: "PINS", KeyID: keyID(n), Terminal: "T-1", Slot: 1, Delivery: keyset.Code, State: keyset.SlotPending,
		Agreement: [32]byte{byte(n)}, IssuedAt: noon,
	}
}

func record(n int) audit.Record {
	return audit.Record{Time: noon, Instance: "kdh-1", Action: "deliver", Object: keyID(n).String(), Result: "ALLOCATED"}
}

// issue gives out the n-th key id as the host does.
func issue(s *Store, t testing.TB, n int) error {
	return s.Update(t.Context(), func(tx keydist.Tx) error {
		return errors.Join(tx.SetLast("PINS", keyID(n)), tx.Issue(issued(n)), tx.Audit(record(n)))
	})
}

// TestSchemaHolds tries what no code of ours does, and what would give out a key id again.
func TestSchemaHolds(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	for n := range 3 {
		if err := issue(s, t, n+1); err != nil {
			t.Fatal(err)
		}
	}
	err := s.Update(t.Context(), func(tx keydist.Tx) error {
		certify := func(terminal keyset.TerminalID, serial string) error {
			return tx.Certify(keydist.Certified{Terminal: terminal, SPKI: [32]byte{1}, Serial: serial, Chain: [][]byte{{1}}, IssuedAt: noon})
		}
		return errors.Join(tx.Settle("PINS", keyID(1), keyset.SlotActive, noon), tx.Settle("PINS", keyID(2), keyset.SlotRetired, noon),
			certify("T-1", "01"), certify("T-2", "02"))
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		bad  string
		want error
	}{
		{`DELETE FROM issued WHERE n = 1`, sqlite.ErrUnavailable},
		{`UPDATE issued SET key_id = x'1234567800000009' WHERE n = 1`, sqlite.ErrUnavailable},
		{`UPDATE issued SET terminal = 'T-2' WHERE n = 3`, sqlite.ErrUnavailable},
		{`UPDATE issued SET state = 'active', settled_at = 0 WHERE n = 1`, sqlite.ErrUnavailable},
		{`UPDATE issued SET state = 'pending', settled_at = NULL WHERE n = 1`, sqlite.ErrUnavailable},
		{`UPDATE issued SET state = 'active' WHERE n = 2`, sqlite.ErrUnavailable},
		{`UPDATE issued SET state = 'draining', settled_at = 0 WHERE n = 3`, sqlite.ErrUnavailable},
		{`UPDATE issued SET state = 'active' WHERE n = 3`, sqlite.ErrUnavailable}, // without a time
		{`INSERT INTO issued SELECT 99, v, key_set, key_id, 'T-3', slot, replaces, delivery, agreement, 'pending', 0, NULL FROM issued WHERE n = 1`, sqlite.ErrExists},
		{`INSERT OR REPLACE INTO issued SELECT 99, v, key_set, key_id, 'T-3', slot, replaces, delivery, agreement, 'pending', 0, NULL FROM issued WHERE n = 1`, sqlite.ErrUnavailable},
		{`UPDATE highest SET key_id = x'1234567800000002'`, sqlite.ErrUnavailable},
		{`UPDATE highest SET key_set = 'OTHER', key_id = x'1234567800000009'`, sqlite.ErrUnavailable},
		{`DELETE FROM highest`, sqlite.ErrUnavailable},
		{`UPDATE certified SET serial = '01'`, sqlite.ErrExists},
		{`UPDATE certified SET spki = x'00'`, sqlite.ErrUnavailable},
	} {
		if err := s.db.Update(t.Context(), func(tx *sqlite.Tx) error { return tx.Exec(c.bad) }); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.bad, err, c.want)
		}
	}
	if err := s.db.Update(t.Context(), func(tx *sqlite.Tx) error {
		return tx.Exec(`UPDATE issued SET state = 'retired', settled_at = 1 WHERE n = 1`)
	}); err != nil {
		t.Errorf("a move that is permitted: %v", err)
	}
}

// TestSerialOnce certifies a second key under the serial number of a first.
func TestSerialOnce(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	certify := func(terminal keyset.TerminalID) error {
		return s.Update(t.Context(), func(tx keydist.Tx) error {
			return tx.Certify(keydist.Certified{Terminal: terminal, Serial: "01", Chain: [][]byte{{1}}, IssuedAt: noon})
		})
	}
	if err := errors.Join(certify("T-1"), certify("T-1")); err != nil {
		t.Error(err)
	}
	if err := certify("T-2"); !errors.Is(err, keydist.ErrConflict) {
		t.Errorf("certify: %v, want %v", err, keydist.ErrConflict)
	}
}

// TestFaults damages what is stored, fills the disk, and closes: the codes tell which it was, and their text tells nothing.
func TestFaults(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	if err := issue(s, t, 1); err != nil {
		t.Fatal(err)
	}
	exec := func(query string) {
		t.Helper()
		if err := s.db.Update(t.Context(), func(tx *sqlite.Tx) error { return tx.Exec(query) }); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	wants := func(what string, err error, code keydist.Code) {
		t.Helper()
		if r, ok := errors.AsType[*keydist.Refusal](err); !ok || r.Code != code || r.Detail != "" {
			t.Errorf("%s: %v, want %s", what, err, code)
		}
	}
	exec(`UPDATE issued SET state = 'active', delivery = 'by pigeon', settled_at = 0`)
	wants("a delivery that is none", s.View(t.Context(), func(tx keydist.Tx) error {
		_, _, err := tx.Issued("PINS", keyID(1))
		return err
	}), keydist.CodeStoreDamaged)
	exec(`INSERT INTO certified (terminal, spki, v, serial, chain, issued_at) VALUES ('T-1', zeroblob(32), 1, '01', x'ff', 0)`)
	wants("a chain that is none", s.View(t.Context(), func(tx keydist.Tx) error {
		_, _, err := tx.Certified("T-1", [32]byte{})
		return err
	}), keydist.CodeStoreDamaged)
	exec(`PRAGMA max_page_count = 1`)
	var full error
	for n := 2; full == nil && n < 1000; n++ {
		full = issue(s, t, n)
	}
	wants("a full disk", full, keydist.CodeStoreFull)
	exec(`PRAGMA max_page_count = 1000000`)
	if err := issue(s, t, 1000); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wants("closed", issue(s, t, 1001), keydist.CodeStoreUnavailable)
}

func TestOpenNewer(t *testing.T) {
	t.Parallel()
	s, path := openNew(t)
	if err := s.db.Update(t.Context(), func(tx *sqlite.Tx) error {
		return tx.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (2, 1)`)
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, Options{}); !errors.Is(err, sqlite.ErrNewer) {
		t.Errorf("open: %v, want %v", err, sqlite.ErrNewer)
	}
}

func TestCheckpoint(t *testing.T) {
	t.Parallel()
	s, path := openNew(t)
	if err := issue(s, t, 1); err != nil {
		t.Fatal(err)
	}
	sqlitetest.Verify(t, s, path, 1)
	if before := s.db.Stats(); before.Commits == 0 {
		t.Error("no commits are counted")
	}
}

func TestMain(m *testing.M) {
	child()
	goleak.VerifyTestMain(m)
}
