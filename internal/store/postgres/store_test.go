package postgres

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/storetest"
	"github.com/latchkey-pos/latchkey/internal/pgtest"
	"github.com/latchkey-pos/latchkey/internal/store/columns"
	"github.com/latchkey-pos/latchkey/message"
)

// raw is a connection for what no code of ours does.
func raw(t testing.TB, o Options) (*pgx.Conn, error) {
	t.Helper()
	config, err := o.config(o.Servers[0])
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(t.Context(), config)
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, storetest.Harness{
		Open:    func(t testing.TB, dir string) decrypt.Store { return mustOpen(t, inFolder(t, dir)) },
		Dump:    func(t testing.TB, s decrypt.Store) storetest.Contents { return dump(t, s.(*Store).options) },
		Commits: func(s decrypt.Store) uint64 { return s.(*Store).Stats().Commits },
	})
}

func isCode(err error, code decrypt.Code) bool {
	r, ok := errors.AsType[*decrypt.Refusal](err)
	return ok && r.Code == code
}

// TestSchemaHolds tries what no code of ours does.
func TestSchemaHolds(t *testing.T) {
	t.Parallel()
	s, o := openNew(t)
	if _, err := s.Claim(t.Context(), claimSet("s1", 1, 1)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		`UPDATE claims SET content = '\x00'`, `UPDATE claims SET purpose = 8`, `UPDATE claims SET counter = 0`,
		`UPDATE claims SET tries = -1`, `UPDATE claims SET v = 2`, `UPDATE claims SET first_seen = 'yesterday'`,
		`UPDATE counters SET high = seen + 1`, `UPDATE counters SET status = 1`, `UPDATE counters SET evidence = 1`,
		`UPDATE counters SET reported = 1`, `INSERT INTO claims SELECT * FROM claims`, `INSERT INTO counters SELECT * FROM counters`,
		`INSERT INTO drains (grant_id, v, used) VALUES ('G', 1, 0)`, `INSERT INTO drains (grant_id, v, used) VALUES ('', 1, 1)`,
		`INSERT INTO acks (digest, v, original, ack, at) VALUES (sha256(''), 1, sha256(''), '\x00', 0)`,
		`UPDATE audit_leaves SET hashes = '\x00'`, `DELETE FROM instances`, `UPDATE instances SET batch = -1`,
	} {
		if err := exec(t, o, bad); sqlState(err) == "" {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestFaultsOfStoredValues reads what no code of ours has written.
func TestFaultsOfStoredValues(t *testing.T) {
	t.Parallel()
	s, o := openNew(t)
	set := claimSet("s1", 1, 1)
	if _, err := s.Claim(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ spoil, mend string }{
		{`UPDATE counters SET fences = '\xff'`, `UPDATE counters SET fences = '\x80'`},
		{`UPDATE claims SET mac_ksn = '\x00'`, `UPDATE claims SET mac_ksn = NULL`},
		{`UPDATE claims SET n = 1`, `UPDATE claims SET n = 0`},
	} {
		if err := exec(t, o, c.spoil); err != nil {
			t.Fatal(err)
		}
		_, err := s.Claim(t.Context(), set)
		if r, ok := errors.AsType[*decrypt.Refusal](err); !ok || r.Code != decrypt.CodeStoreDamaged || r.Detail != "" {
			t.Errorf("%s: %v, want %s", c.spoil, err, decrypt.CodeStoreDamaged)
		}
		if err := exec(t, o, c.mend); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Claim(t.Context(), set); err != nil {
		t.Errorf("after mending: %v", err)
	}
}

// TestRanges stores what is in the format and not written by any code yet.
func TestRanges(t *testing.T) {
	t.Parallel()
	s, o := openNew(t)
	want := []decrypt.Range{{From: 1, To: 5}, {From: 9, To: 4_000_000_000}}
	set := claimSet("s7", 1, 7)
	if _, err := s.Claim(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	if err := exec(t, o, fmt.Sprintf(`UPDATE counters SET spent = '\x%x', floor = 3000000000`, columns.Ranges(want))); err != nil {
		t.Fatal(err)
	}
	state, err := s.Counters(t.Context(), set.Claims[0].BaseKey, set.Claims[0].KSN.KeyID())
	if err != nil || len(state.Spent) != 2 || state.Spent[1] != want[1] || state.Floor != 3_000_000_000 {
		t.Errorf("state %+v %v", state, err)
	}
	if _, err := s.Claim(t.Context(), claimSet("s3", 1, 3)); !isCode(err, decrypt.CodeKSNSpent) {
		t.Errorf("claim: %v, want %s", err, decrypt.CodeKSNSpent)
	}
}

// TestPlans holds the statements to the indexes of their tables, however few rows there are.
func TestPlans(t *testing.T) {
	t.Parallel()
	s, o := openNew(t)
	for n := range 50 {
		if _, err := s.Claim(t.Context(), claimSet(fmt.Sprint(n), n, 1)); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := raw(t, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if _, err := conn.Exec(t.Context(), `SET enable_seqscan = off`); err != nil { // what is few is read whole, and will not stay few
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		`SELECT ` + stateColumns + ` FROM counters c WHERE ` + unreported:                "unreported",
		`SELECT FROM claims WHERE base_key = '\x00' AND key_id = '\x00' AND counter = 1`: "claims_pkey",
	} {
		rows, err := conn.Query(t.Context(), `EXPLAIN `+query)
		if err != nil {
			t.Fatal(err)
		}
		plan := must(pgx.CollectRows(rows, pgx.RowTo[string]))
		if !strings.Contains(strings.Join(plan, "\n"), want) {
			t.Errorf("%s: %q, want %s", query, plan, want)
		}
	}
	var scanned int
	err = conn.QueryRow(t.Context(), `SELECT coalesce(sum(seq_tup_read), 0) FROM pg_stat_user_tables WHERE schemaname = current_schema() AND relname IN ('claims', 'counters', 'audit_leaves')`).Scan(&scanned)
	if err != nil || scanned > 0 {
		t.Errorf("%d rows were read that nobody asked for: %v", scanned, err)
	}
}

// TestRights gives a service the rights that docs/deployment.md names, and no others: it can work, and change no table.
func TestRights(t *testing.T) {
	t.Parallel()
	c := pgtest.Shared(t)
	o := options(c, c.Database(t), "", "DECRYPT-1")
	migrate(t, o)
	role := "r" + strings.ToLower(rand.Text())
	for _, grant := range []string{
		"CREATE ROLE " + role + " LOGIN", "GRANT USAGE ON SCHEMA latchkey TO " + role,
		"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA latchkey TO " + role, "GRANT pg_read_all_stats TO " + role,
	} {
		if err := exec(t, o, grant); err != nil {
			t.Fatal(err)
		}
	}
	o.User = role
	s := open(t, o)
	set := claimSet("s1", 1, 1)
	signer, _ := auditKey(t)
	_, claimed := s.Claim(t.Context(), set)
	_, answered := s.RecordAnswer(t.Context(), answer(set, message.Approved))
	_, signed := s.Checkpoint(t.Context(), signer)
	if err := errors.Join(claimed, answered, signed, s.Check(t.Context())); err != nil {
		t.Errorf("with these rights: %v", err)
	}
	for _, more := range []string{"DROP TABLE claims", "DELETE FROM claims", "TRUNCATE audit_leaves", "CREATE TABLE x ()"} {
		if err := exec(t, o, more); sqlState(err) != "42501" { // insufficient_privilege
			t.Errorf("%s: %v", more, err)
		}
	}
}
