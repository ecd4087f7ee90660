package decrypt

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/internal/node/nodetest"
	"github.com/latchkey-pos/latchkey/internal/pgtest"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// TestFence restores an old copy of the database: the service refuses it, and serves from it behind a fence. What was released
// since the copy is not released again.
func TestFence(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	quiet := slog.New(slog.DiscardHandler)
	if _, err := Fence(t.Context(), c, FenceRequest{Ordinals: 10, Accept: true}, quiet); !errors.Is(err, sqlite.ErrMissing) {
		t.Errorf("without a database: %v, want %v", err, sqlite.ErrMissing)
	}
	r := start(t, p, c)
	first := r.sale(1, 100)
	must[*api.TransactionResponse](t)(r.api().Transaction(t.Context(), api.TransactionRequest{Message: first}))
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	old := must[[]byte](t)(os.ReadFile(c.Database))
	r = start(t, p, c)
	lost := r.sale(2, 200)
	must[*api.TransactionResponse](t)(r.api().Transaction(t.Context(), api.TransactionRequest{Message: lost}))
	if _, err := Fence(t.Context(), c, FenceRequest{Ordinals: 10, Accept: true}, quiet); !errors.Is(err, sqlite.ErrLocked) {
		t.Errorf("beside the service: %v, want %v", err, sqlite.ErrLocked)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	vouched := must[[]byte](t)(os.ReadFile(c.CheckpointFile))
	if err := os.WriteFile(c.Database, old, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), c, quiet); !errors.Is(err, sqlite.ErrBehind) {
		t.Fatalf("an old copy: %v, want %v", err, sqlite.ErrBehind)
	}
	if _, err := Fence(t.Context(), c, FenceRequest{Ordinals: 10}, quiet); !errors.Is(err, sqlite.ErrBehind) {
		t.Errorf("a loss that nobody accepts: %v, want %v", err, sqlite.ErrBehind)
	}
	for _, n := range []uint32{0, keyset.DefaultJump} {
		if _, err := Fence(t.Context(), c, FenceRequest{Ordinals: n, Accept: true}, quiet); !errors.Is(err, ErrOrdinals) {
			t.Errorf("%d ordinals: %v, want %v", n, err, ErrOrdinals)
		}
	}
	if _, err := Fence(t.Context(), c, FenceRequest{Ordinals: 10, Fenced: true}, quiet); err == nil {
		t.Error("a fence where one is: no error")
	}
	done, err := Fence(t.Context(), c, FenceRequest{Ordinals: 10, Accept: true}, quiet)
	if err != nil || done.Known != 2 || done.Lost == "" {
		t.Fatalf("fence: %+v, %v", done, err)
	}
	if _, err := os.Stat(c.CheckpointFile); !errors.Is(err, fs.ErrNotExist) || !bytes.Equal(must[[]byte](t)(os.ReadFile(done.SetAside)), vouched) {
		t.Errorf("the checkpoint: %v", err)
	}

	if err := os.WriteFile(c.CheckpointFile, vouched, 0o644); err != nil { // as if it could not have been set aside
		t.Fatal(err)
	}
	if again, err := Fence(t.Context(), c, FenceRequest{Fenced: true, Accept: true}, quiet); err != nil || again.Known != 0 || again.SetAside == "" {
		t.Errorf("only the checkpoint: %+v, %v", again, err)
	}
	if _, err := Fence(t.Context(), c, FenceRequest{Fenced: true, Accept: true}, quiet); !errors.Is(err, errNothingLost) {
		t.Errorf("with no checkpoint to set aside: %v", err)
	}

	r = start(t, p, c)
	if tx := must[*api.TransactionResponse](t)(r.api().Transaction(t.Context(), api.TransactionRequest{Message: first})); tx.CounterStatus != api.Resend {
		t.Errorf("what the copy has: %+v", tx)
	}
	for name, raw := range map[string][]byte{"what was lost": lost, "another content under its KSN": r.sale(2, 999), "the fence": r.sale(11, 1)} {
		tx := must[*api.TransactionResponse](t)(r.api().Transaction(t.Context(), api.TransactionRequest{Message: raw}))
		if len(tx.Fields) != 0 || tx.Code != "KsnFenced" {
			t.Errorf("%s: %+v", name, tx)
		}
	}
	if tx := must[*api.TransactionResponse](t)(r.api().Transaction(t.Context(), api.TransactionRequest{Message: r.sale(12, 1)})); tx.CounterStatus != api.Fresh {
		t.Errorf("beyond the fence: %+v", tx)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	again, err := Fence(t.Context(), c, FenceRequest{Ordinals: 5}, quiet) // nothing is lost now
	if err != nil || again.Lost != "" || again.SetAside != "" {
		t.Errorf("a fence of a whole database: %+v, %v", again, err)
	}
}

// TestFencePostgres puts a fence that both instances know of.
func TestFencePostgres(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Own(t)
	p, first := testConfig(t)
	_, second := testConfig(t)
	database := cluster.Database(t)
	first, second = onPostgres(t, first, cluster, database), onPostgres(t, second, cluster, database)
	second.Instance = "DECRYPT-2"
	quiet := slog.New(slog.DiscardHandler)
	if _, _, err := Migrate(t.Context(), first, daemon.PostgresUser{}, nil, nil); err != nil {
		t.Fatal(err)
	}
	r := start(t, p, first)
	must[*api.TransactionResponse](t)(r.api().Transaction(t.Context(), api.TransactionRequest{Message: r.sale(1, 100)}))
	done, err := Fence(t.Context(), second, FenceRequest{Ordinals: 10}, quiet) // the other service goes on
	if err != nil || done.Known != 2 {
		t.Fatalf("fence: %+v, %v", done, err)
	}
	tx := must[*api.TransactionResponse](t)(r.api().Transaction(t.Context(), api.TransactionRequest{Message: r.sale(11, 100)}))
	if tx.Code != "KsnFenced" {
		t.Errorf("behind the fence: %+v", tx)
	}
	if text := filepath.Base(second.CheckpointFile); strings.Contains(text, "lost") {
		t.Errorf("a checkpoint was set aside: %s", text)
	}
}

// TestFenceOfNarrowSets has key sets with a J of their own: the smallest decides, whatever the default is.
func TestFenceOfNarrowSets(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "pos")
	d := must[*deploy.Deployment](t)(deploy.Create(dir, deploy.Options{Tenant: "ACME", Environment: keyset.Test, Passphrase: nodetest.Passphrase}))
	defer func() { _ = d.Close() }() // everything is written
	op := must[*deploy.Person](t)(d.Operator(deploy.FirstOperator))
	info := must[engine.KeyInfo](t)(importKey(d, "alias/bdk", keys.UsageBDK, keys.ModeDerive, bdkData))
	c := Config{Folder: dir, Tenant: "ACME", Environment: "test"}
	for i, want := range []struct {
		jump, most uint32
		by         string
	}{{20_000, 19_999, "SET-0"}, {5_000, 4_999, "SET-1"}, {6_000, 4_999, "SET-1"}} {
		set := keyset.NewTDESData()
		set.J = want.jump
		first, last := fmt.Sprintf("FFFF98765433%d0E00000", i), fmt.Sprintf("FFFF98765433%dFE00000", i)
		if err := saveTo(d, op, set, keyset.ID(fmt.Sprint("SET-", i)), info, first, last); err != nil {
			t.Fatal(err)
		}
		if most, by, err := c.maxFence(); err != nil || most != want.most || by != want.by {
			t.Errorf("%d sets: at most %d by %s, %v, want %d by %s", i+1, most, by, err, want.most, want.by)
		}
	}
	if _, err := Fence(t.Context(), c, FenceRequest{Ordinals: 5_000}, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrOrdinals) || !strings.Contains(err.Error(), "SET-1") {
		t.Errorf("as many as J: %v", err)
	}
}
