package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/storetest"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/pgtest"
	"github.com/latchkey-pos/latchkey/internal/store/columns"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/message"
)

func TestMain(m *testing.M) {
	code := pgtest.Binary(m)
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// claimSet is a message with a MAC and card data under the n-th key of a terminal, of a set without windows.
func claimSet(name string, terminal int, n uint32) decrypt.ClaimSet {
	id := must(dukpt.ParseKeyID(fmt.Sprintf("12345678%08X", terminal)))
	claim := func(p decrypt.Purpose) decrypt.Claim {
		return decrypt.Claim{
			BaseKey: must(keys.ParseFingerprint("000102030405060708090a0b0c0d0e0f")),
			KSN:     must(id.AtOrdinal(n)), Purpose: p,
			Content:   sha256.Sum256([]byte(name + p.String())),
			Treatment: must(decrypt.Treatment{Operation: "decrypt-data"}.Encode()), MaxContents: 1,
			Horizon: noon.Add(-24 * time.Hour),
		}
	}
	d := message.DigestOf([]byte(name))
	return decrypt.ClaimSet{
		Digest: d, Original: d, Tenant: "SHOP", Time: noon,
		Claims: []decrypt.Claim{claim(decrypt.PurposeMAC), claim(decrypt.PurposeData)},
		Audit:  audit.Record{Time: noon, Instance: "decrypt-1", Action: "transaction/sale", Object: name},
	}
}

// options reach the tables of a test in a cluster, whatever is in a schema of that name.
func options(c *pgtest.Cluster, database, schema, instance string) Options {
	return Options{
		Servers: []Server{{Host: c.Socket, Port: uint16(c.Port)}}, Database: database, User: pgtest.Superuser,
		Schema: schema, Instance: instance,
	}
}

var shared struct {
	sync.Mutex
	database string
	made     map[string]bool // schemas
}

// inFolder are the options of a schema of the shared cluster that stands for a folder; its tables are made the first time.
func inFolder(t testing.TB, dir string) Options {
	t.Helper()
	c := pgtest.Shared(t)
	sum := sha256.Sum256([]byte(dir))
	schema := "s" + hex.EncodeToString(sum[:10])
	shared.Lock()
	if shared.made == nil {
		shared.database, shared.made = c.Database(t), make(map[string]bool)
	}
	o := options(c, shared.database, schema, "DECRYPT-1")
	first, made := len(shared.made) == 0, shared.made[schema]
	shared.made[schema] = true
	shared.Unlock()
	switch {
	case made:
	case first:
		migrate(t, o)
	default:
		quickly(t, o)
	}
	return o
}

// quickly makes the tables as Migrate does, in one transaction: that takes a fifth of the time, and the histories need many.
func quickly(t testing.TB, o Options) {
	t.Helper()
	script := fmt.Sprintf("BEGIN; CREATE SCHEMA %s; SET LOCAL search_path TO %[1]s;", o.Schema)
	for _, f := range must(fs.Glob(migrations, "migrations/*.sql")) {
		script += string(must(migrations.ReadFile(f)))
	}
	script += fmt.Sprintf(`CREATE TABLE goose_db_version AS SELECT %d::bigint AS version_id, true AS is_applied; COMMIT`, newest)
	conn, err := raw(t, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.PgConn().Exec(t.Context(), script).ReadAll(); err != nil {
		t.Fatal(err)
	}
}

func migrate(t testing.TB, o Options) {
	t.Helper()
	if _, _, err := Migrate(t.Context(), o, nil); err != nil {
		t.Fatalf("migrate: %v", err)
	}
}

// openNew opens a store over empty tables, which is closed at the end of the test.
func openNew(t testing.TB) (*Store, Options) {
	t.Helper()
	o := inFolder(t, t.TempDir())
	return open(t, o), o
}

// open opens a store that is closed at the end of the test.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	s := mustOpen(t, o)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func mustOpen(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return s
}

// exec carries out a statement behind the back of the stores.
func exec(t testing.TB, o Options, query string) error {
	t.Helper()
	conn, err := raw(t, o)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(t.Context()) }()
	_, err = conn.Exec(t.Context(), query)
	return err
}

// dump reads every table. Of audit logs it reads that of the instance.
func dump(t testing.TB, o Options) storetest.Contents {
	t.Helper()
	conn, err := raw(t, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	l := newLedger(audit.Tree{})
	for query, scanned := range map[string]func(columns.Scan) error{
		`SELECT ` + stateColumns + ` FROM counters c`:                                                        l.scanCounter,
		`SELECT ` + claimColumns + ` FROM claims c ORDER BY c.base_key, c.key_id, c.counter, c.purpose, c.n`: l.scanClaim,
		`SELECT digest, original, tenant, context FROM requests`:                                             l.scanRequest,
		`SELECT digest, ack, ksn, content FROM acks`:                                                         l.scanAck,
		`SELECT original, tenant, result, body, at FROM answers`:                                             l.scanAnswer,
		`SELECT digest FROM accused`:                                                                         l.scanAccused,
		`SELECT grant_id, used FROM drains`:                                                                  l.scanDrain,
		`SELECT ordinals FROM fence`:                                                                         func(scan columns.Scan) error { return scan(&l.fence) },
	} {
		rows, err := conn.Query(t.Context(), query)
		if err == nil {
			err = each(scanned)(rows)
			rows.Close()
		}
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	c := l.contents()
	log := must(OpenAudit(t.Context(), o))
	defer func() { _ = log.Close() }()
	err = log.Leaves(t.Context(), func(leaf audit.Leaf) error {
		r, err := audit.ParseRecord(leaf.Record)
		c.Leaves = append(c.Leaves, r)
		return err
	})
	if err != nil {
		t.Fatalf("audit log: %v", err)
	}
	return c
}

// contents is what a ledger has read, in the form of the suite.
func (l *ledger) contents() storetest.Contents {
	c := storetest.Contents{
		States: make(map[decrypt.CounterKey]decrypt.KeyIDState), Rows: make(map[decrypt.RowKey][]decrypt.Entry),
		Requests: make(map[message.Digest]decrypt.Request), Answers: make(map[message.Digest]decrypt.Answer),
		Acks: make(map[message.Digest]storetest.Ack), Drained: make(map[string]uint32), Accused: make(map[message.Digest]bool),
		Fence: l.fence,
	}
	for k, v := range l.counters {
		c.States[k] = v.state
	}
	for k, v := range l.rows {
		c.Rows[k] = v.entries
	}
	for k, v := range l.requests {
		c.Requests[k] = v.Request
	}
	for k, v := range l.answers {
		c.Answers[k] = v.Answer
	}
	for k, v := range l.acks {
		c.Acks[k] = storetest.Ack{Ack: v.text, KSN: v.ksn, Content: v.content}
	}
	for k, v := range l.drains {
		c.Drained[k] = v.used
	}
	for k := range l.accused {
		c.Accused[k] = true
	}
	return c
}

// passwordFile is a file of ours with a password.
func passwordFile(t testing.TB, password string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
