package claims

import (
	"encoding/hex"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/storetest"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/store/columns"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite/sqlitetest"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Harness{
		Open:    func(t testing.TB, dir string) decrypt.Store { return openAt(t, filepath.Join(dir, "latchkey.db")) },
		Dump:    func(t testing.TB, s decrypt.Store) storetest.Contents { return dump(t, s.(*Store)) },
		Commits: func(s decrypt.Store) uint64 { return s.(*Store).Stats().Commits },
	})
}

func openAt(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path, Options{Create: true})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}

// openNew opens an empty database that is closed at the end of the test.
func openNew(t testing.TB) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "latchkey.db")
	s := openAt(t, path)
	t.Cleanup(func() { _ = s.Close() })
	return s, path
}

// dump reads every table.
func dump(t testing.TB, s *Store) storetest.Contents {
	t.Helper()
	c := storetest.Contents{
		States: make(map[decrypt.CounterKey]decrypt.KeyIDState), Rows: make(map[decrypt.RowKey][]decrypt.Entry),
		Requests: make(map[message.Digest]decrypt.Request), Answers: make(map[message.Digest]decrypt.Answer),
		Acks: make(map[message.Digest]storetest.Ack), Drained: make(map[string]uint32), Accused: make(map[message.Digest]bool),
	}
	if err := s.view(t.Context(), func(q tx) error {
		return errors.Join(dumpCounters(t, q, &c), dumpMessages(q, &c), dumpDrains(q, &c), dumpFence(q, &c))
	}); err != nil {
		t.Fatalf("dump: %v", err)
	}
	c.Leaves = sqlitetest.Leaves(t, s.db)
	return c
}

func dumpCounters(t testing.TB, q tx, c *storetest.Contents) error {
	t.Helper()
	err := q.Each(`SELECT base_key, key_id FROM counters`, nil, func(scan func(...any) error) error {
		var base, id []byte
		if err := scan(&base, &id); err != nil {
			return err
		}
		key := decrypt.CounterKey{BaseKey: parseFingerprint(t, base), KeyID: parseKeyID(t, id)}
		state, _, err := lookupState(q, key)
		c.States[key] = state
		return err
	})
	return errors.Join(err, q.Each(
		`SELECT base_key, key_id, counter, purpose, `+entryColumns+` FROM claims ORDER BY base_key, key_id, counter, purpose, n`, nil,
		func(scan func(...any) error) error {
			var base, id []byte
			var counter uint32
			var purpose uint8
			e, err := read.Entry(scan, &base, &id, &counter, &purpose)
			if err != nil {
				return err
			}
			k, err := parseKeyID(t, id).KSN(counter)
			key := decrypt.RowKey{BaseKey: parseFingerprint(t, base), KSN: k, Purpose: decrypt.Purpose(purpose)}
			c.Rows[key] = append(c.Rows[key], e)
			return err
		}))
}

func dumpFence(q tx, c *storetest.Contents) (err error) {
	c.Fence, err = q.fenced()
	return err
}

func dumpDrains(q tx, c *storetest.Contents) error {
	return q.Each(`SELECT grant_id, used FROM drains`, nil, func(scan func(...any) error) error {
		var grant string
		var used uint32
		err := scan(&grant, &used)
		c.Drained[grant] = used
		return err
	})
}

func dumpMessages(q tx, c *storetest.Contents) error {
	each := func(query string, f func(d message.Digest) error) error {
		return q.Each(query, nil, func(scan func(...any) error) error {
			var b []byte
			if err := scan(&b); err != nil {
				return err
			}
			return f(message.Digest(b))
		})
	}
	return errors.Join(
		each(`SELECT digest FROM requests`, func(d message.Digest) (err error) {
			c.Requests[d], _, err = lookupRequest(q, d)
			return err
		}),
		each(`SELECT digest FROM accused`, func(d message.Digest) error {
			c.Accused[d] = true
			return nil
		}),
		each(`SELECT original FROM answers`, func(d message.Digest) (err error) {
			c.Answers[d], _, err = lookupDecision(q, d)
			return err
		}),
		each(`SELECT digest FROM acks`, func(d message.Digest) error {
			a := decrypt.Answer{Digest: d}
			err := lookupAck(q, &a)
			c.Acks[d] = storetest.Ack{Ack: a.Ack, KSN: a.KSN, Content: a.Content}
			return err
		}),
	)
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
		`UPDATE counters SET status = 1`, `UPDATE counters SET evidence = 1`, `UPDATE counters SET reported = 1`,
		`INSERT INTO drains (grant_id, v, used) VALUES ('G', 1, 0)`, `INSERT INTO drains (grant_id, v, used) VALUES ('', 1, 1)`,
		`INSERT INTO acks (digest, v, original, ack, at) VALUES (zeroblob(32), 1, zeroblob(32), x'00', 0)`,
	} {
		if err := db.db.Update(t.Context(), func(tx *sqlite.Tx) error { return tx.Exec(bad) }); !errors.Is(err, sqlite.ErrUnavailable) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestUnreportedHasAnIndex holds what is asked every other second to an index of few rows.
func TestUnreportedHasAnIndex(t *testing.T) {
	t.Parallel()
	db, _ := openNew(t)
	var plan string
	err := db.view(t.Context(), func(q tx) error {
		var id, parent, unused int
		_, err := q.One(`EXPLAIN QUERY PLAN SELECT `+stateColumns+` FROM counters WHERE `+unreported, nil, &id, &parent, &unused, &plan)
		return err
	})
	if err != nil || !strings.Contains(plan, "INDEX unreported") {
		t.Errorf("plan %q %v", plan, err)
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
	mustExec(t, db, `UPDATE counters SET spent = ?, floor = 3000000000`, columns.Ranges(want))
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

func mustExec(t testing.TB, db *Store, query string, args ...any) {
	t.Helper()
	err := db.db.Update(t.Context(), func(tx *sqlite.Tx) error { return tx.Exec(query, args...) })
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}
