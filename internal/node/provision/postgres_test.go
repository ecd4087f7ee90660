package provision

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/internal/node/keydist"
	"github.com/latchkey-pos/latchkey/internal/node/nodetest"
	"github.com/latchkey-pos/latchkey/internal/pgtest"
	"github.com/latchkey-pos/latchkey/internal/store/postgres"
	"github.com/latchkey-pos/latchkey/tls/feed"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
)

// onPostgres is the section of a new database of the cluster, over TCP with a password.
func onPostgres(t testing.TB, cluster *pgtest.Cluster, database string) *daemon.PostgresConfig {
	t.Helper()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(cluster.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &daemon.PostgresConfig{
		Servers: []string{fmt.Sprintf("127.0.0.1:%d", cluster.Port)}, Name: database, User: pgtest.Superuser, PasswordFile: password,
	}
	p.Defaults()
	return p
}

// shareDatabase starts two registration authorities and their key-distribution host over one database.
func shareDatabase(t *testing.T, cluster *pgtest.Cluster) (first, second *running) {
	t.Helper()
	database := cluster.Database(t)
	first = &running{tb: t, keyd: keydist.DefaultConfig()}
	first.place, first.config = testConfig(t)
	own := t.TempDir()
	k := &first.keyd
	k.Folder, k.Tenant, k.Environment, k.PassphraseFile = first.place.dir, "ACME", "test", first.config.PassphraseFile
	k.Listen, k.Admin, k.CheckpointFile = "127.0.0.1:0", "127.0.0.1:0", filepath.Join(own, "keyd.checkpoint")
	k.Postgres = onPostgres(t, cluster, database)
	first.config.Postgres = k.Postgres
	quiet := slog.New(slog.DiscardHandler)
	if err := Check(t.Context(), first.config, quiet); !errors.Is(err, postgres.ErrMissing) {
		t.Fatalf("check without tables: %v, want %v", err, postgres.ErrMissing)
	}
	for name, migrate := range map[string]func() (int64, int64, error){
		"registry": func() (int64, int64, error) {
			return Migrate(t.Context(), first.config, daemon.PostgresUser{}, quiet, nil)
		},
		"deliveries": func() (int64, int64, error) {
			return keydist.Migrate(t.Context(), *k, daemon.PostgresUser{}, quiet, nil)
		},
	} {
		if from, to, err := migrate(); err != nil || from != 0 || to < 1 {
			t.Fatalf("migrate %s: %d %d %v", name, from, to, err)
		}
	}
	first.host = nodetest.Start(t, func(ctx context.Context, log *slog.Logger, ready func(keydist.Addrs)) error {
		return keydist.Run(ctx, *k, log, ready)
	})
	first.config.Keyd = "https://" + first.host.Addrs.Service
	second = &running{tb: t, place: first.place, config: first.config, keyd: first.keyd, host: first.host}
	second.config.Instance, second.config.CheckpointFile = "RA-2", filepath.Join(own, "second.checkpoint")
	first.again()
	second.again()
	return first, second
}

// TestTwoAuthorities has two authorities over one database: a code is redeemed at both at once and accepted once, and what one
// revokes is in the feed of the other, and at its door.
func TestTwoAuthorities(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Own(t)
	first, second := shareDatabase(t, cluster)
	ticket := first.ticket("T-1", true)
	both := []*running{first, second}
	dirs, errs := []string{t.TempDir(), t.TempDir()}, make([]error, len(both))
	var enrolling sync.WaitGroup
	for i, r := range both {
		enrolling.Go(func() { errs[i] = r.enrol(dirs[i], "T-1", ticket) })
	}
	enrolling.Wait()
	winner := 0
	if errs[0] != nil {
		winner = 1
	}
	if errs[winner] != nil || errs[1-winner] == nil {
		t.Fatalf("one code with two keys, at both at once: %v and %v", errs[0], errs[1])
	}
	first.confirm(dirs[winner], "T-1")
	gate := second.follower(t)
	id := must[identity.Identity](t)(identity.New("ACME", identity.Terminal, "T-1"))
	serial := must[*admin.Terminal](t)(first.operator().Terminal(t.Context(), "T-1")).Serial
	if err := gate.Admit(id, serial); err != nil {
		t.Fatalf("before it is revoked: %v", err)
	}
	begun := time.Now()
	must[*admin.Outcome](t)(first.operator().Do(t.Context(), admin.Operation{Action: "revoke", Terminal: "T-1", Reason: "stolen"}))
	for gate.Admit(id, serial) == nil {
		if time.Since(begun) > 30*time.Second {
			t.Fatal("the other authority does not tell its followers")
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("revoked at one authority, refused by a follower of the other after %v", time.Since(begun).Round(time.Millisecond))
	for _, c := range []Config{first.config, second.config} {
		log := must[*postgres.AuditLog](t)(OpenAudit(t.Context(), c))
		n := 0
		err := log.Leaves(t.Context(), func(l audit.Leaf) error {
			r, err := audit.ParseRecord(l.Record)
			if n++; r.Instance != c.Instance {
				t.Errorf("the log of %s has a record of %s", c.Instance, r.Instance)
			}
			return err
		})
		if err := errors.Join(err, log.Close()); err != nil || n == 0 {
			t.Errorf("log of %s: %d records, %v", c.Instance, n, err)
		}
	}
	cluster.Kill()
	if status, body := nodetest.Get(t, "http://"+second.ra.Addrs.Admin+"/readyz"); status != 503 || !strings.Contains(body, "store") {
		t.Errorf("ready without the database: %d %s", status, body)
	}
	if err := cluster.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		_, err := second.operator().Terminal(t.Context(), "T-1")
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("with the database back: %v", err)
		}
	}
}

// follower follows the feed of the authority, and knows what is in it by now.
func (r *running) follower(t *testing.T) *feed.Follower {
	t.Helper()
	f := must[*feed.Follower](t)(feed.New(feed.Options{
		URLs: []string{"https://" + r.ra.Addrs.Services}, Client: nodetest.Client(t, r.place.decrypt, r.place.trust, identity.RA),
		Services: r.place.trust.Services, Tenant: "ACME", Logger: slog.New(slog.DiscardHandler),
	}))
	ctx, end := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = f.Run(ctx) }) // ends with ctx
	t.Cleanup(func() { end(); running.Wait() })
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, sequence := f.Position(); sequence > 0 {
			return f
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing is heard of the authority")
		}
	}
}
