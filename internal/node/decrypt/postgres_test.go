package decrypt

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/internal/pgtest"
	"github.com/latchkey-pos/latchkey/internal/store/postgres"
)

// onPostgres has a configuration keep its claims in a new database of the cluster, over TCP with a password.
func onPostgres(t testing.TB, c Config, cluster *pgtest.Cluster, database string) Config {
	t.Helper()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(cluster.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Postgres = &PostgresConfig{
		Servers: []string{fmt.Sprintf("127.0.0.1:%d", cluster.Port)}, Name: database, User: pgtest.Superuser, PasswordFile: password,
	}
	c.Postgres.Defaults()
	return c
}

// TestTwoInstances has two services over one database: what one has released, the other repeats and refuses as itself, and each
// has its own audit log.
func TestTwoInstances(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Own(t)
	database := cluster.Database(t)
	p, first := testConfig(t)
	_, second := testConfig(t)
	first, second = onPostgres(t, first, cluster, database), onPostgres(t, second, cluster, database)
	second.Instance = "DECRYPT-2"
	if err := Check(t.Context(), first, slog.New(slog.DiscardHandler)); !errors.Is(err, postgres.ErrMissing) {
		t.Fatalf("check without tables: %v, want %v", err, postgres.ErrMissing)
	}
	if from, to, err := Migrate(t.Context(), first, daemon.PostgresUser{}, nil, nil); err != nil || from != 0 || to < 1 {
		t.Fatalf("migrate: %d %d %v", from, to, err)
	}
	a, b := start(t, p, first), start(t, p, second)
	ctx := t.Context()
	raw := a.sale(1, 1234)
	tx := must[*api.TransactionResponse](t)(a.api().Transaction(ctx, api.TransactionRequest{Message: raw}))
	if tx.CounterStatus != api.Fresh {
		t.Fatalf("transaction %+v", tx)
	}
	answered := must[*api.AnswerResponse](t)(b.api().Answer(ctx, api.AnswerRequest{RequestDigest: tx.RequestDigest, Result: api.Approved}))
	again := must[*api.TransactionResponse](t)(b.api().Transaction(ctx, api.TransactionRequest{Message: raw}))
	if again.CounterStatus != api.Resend || again.RecordedResult == nil || !bytes.Equal(again.RecordedResult.Ack, answered.Ack) || again.Fields[1].PINBlock != tx.Fields[1].PINBlock {
		t.Errorf("the same at the other instance: %+v", again)
	}
	if _, err := b.api().Transaction(ctx, api.TransactionRequest{Message: a.sale(1, 99)}); !api.IsCode(err, string(decrypt.CodeKSNReplayed)) {
		t.Errorf("another amount at the other instance: %v", err)
	}
	_, metrics := b.admin("/metrics")
	for _, want := range []string{
		`latchkey_store_promise{promise="single-server"} 1`, `latchkey_store_promise{promise="synchronous-standby"} 0`,
		"latchkey_store_connections_total 1", "latchkey_store_resolved_total 0", `latchkey_transactions_total{result="RESEND"} 1`,
	} {
		if !strings.Contains(string(metrics), want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	if status, body := b.admin("/readyz"); status != 200 {
		t.Errorf("ready: %d %s", status, body)
	}
	for _, c := range []Config{first, second} {
		var actions []string
		log := must[auditSource](t)(OpenAudit(ctx, c))
		err := log.Leaves(ctx, func(l audit.Leaf) error {
			r, err := audit.ParseRecord(l.Record)
			if r.Instance != c.Instance {
				t.Errorf("the log of %s has a record of %s", c.Instance, r.Instance)
			}
			actions = append(actions, r.Action+" "+r.Result)
			return err
		})
		if err := errors.Join(err, log.Close()); err != nil || len(actions) == 0 {
			t.Errorf("log of %s: %q %v", c.Instance, actions, err)
		}
	}
	cluster.Kill()
	if status, body := b.admin("/readyz"); status != 503 || !strings.Contains(string(body), "store") {
		t.Errorf("ready without the database: %d %s", status, body)
	}
	if _, err := a.api().Transaction(ctx, api.TransactionRequest{Message: a.sale(3, 1)}); !api.IsCode(err, string(decrypt.CodeStoreUnavailable)) {
		t.Errorf("without the database: %v", err)
	}
	if err := cluster.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		status, body := a.admin("/readyz")
		if status == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("ready with the database back: %d %s", status, body)
		}
	}
	if tx, err := a.api().Transaction(ctx, api.TransactionRequest{Message: raw}); err != nil || tx.CounterStatus != api.Resend {
		t.Errorf("when it is back: %+v %v", tx, err)
	}
}

type auditSource = interface {
	audit.Source
	Close() error
}
