package decrypt

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// TestRestore copies the database beside the service and puts the copy back later. It has a fence when it is in its place: what was
// released since the copy is not released again.
func TestRestore(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	quiet := func(int, int) {}
	ask := func(r *running, raw []byte) *api.TransactionResponse {
		return must[*api.TransactionResponse](t)(r.api().Transaction(t.Context(), api.TransactionRequest{Message: raw}))
	}
	r := start(t, p, c)
	first := r.sale(1, 100)
	ask(r, first)
	copied := filepath.Join(t.TempDir(), "copy.db")
	if err := sqlite.Backup(t.Context(), c.Database, copied, sqlite.Claims, quiet); err != nil {
		t.Fatalf("beside the service: %v", err)
	}
	lost := r.sale(2, 200)
	ask(r, lost)
	accept := FenceRequest{Ordinals: 10, Accept: true}
	if _, err := Restore(t.Context(), c, copied, true, accept, quiet); !errors.Is(err, sqlite.ErrLocked) {
		t.Errorf("beside the service: %v, want %v", err, sqlite.ErrLocked)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}

	whole := must[[]byte](t)(os.ReadFile(c.Database))
	vouched := must[[]byte](t)(os.ReadFile(c.CheckpointFile))
	for name, refused := range map[string]struct {
		replace bool
		req     FenceRequest
		want    error
	}{
		"an old copy":     {true, FenceRequest{Ordinals: 10}, sqlite.ErrBehind},
		"over a database": {false, accept, sqlite.ErrThere},
		"no fence":        {true, FenceRequest{Accept: true}, nil},
		"a fence too far": {true, FenceRequest{Ordinals: keyset.DefaultJump, Accept: true}, nil},
	} {
		done, err := Restore(t.Context(), c, copied, refused.replace, refused.req, quiet)
		if err == nil || refused.want != nil && !errors.Is(err, refused.want) || done.Before != "" || done.SetAside != "" {
			t.Errorf("%s: %+v, %v, want %v", name, done, err, refused.want)
		}
		if !bytes.Equal(must[[]byte](t)(os.ReadFile(c.Database)), whole) || !bytes.Equal(must[[]byte](t)(os.ReadFile(c.CheckpointFile)), vouched) {
			t.Fatalf("%s: the database or its checkpoint has changed", name)
		}
	}

	done, err := Restore(t.Context(), c, copied, true, accept, quiet)
	if err != nil || done.Known != 2 || done.Lost == "" || !bytes.Equal(must[[]byte](t)(os.ReadFile(done.Before)), whole) {
		t.Fatalf("restore: %+v, %v", done, err)
	}
	if _, err := os.Stat(c.CheckpointFile); !errors.Is(err, fs.ErrNotExist) || !bytes.Equal(must[[]byte](t)(os.ReadFile(done.SetAside)), vouched) {
		t.Errorf("the checkpoint: %v", err)
	}
	r = start(t, p, c)
	if tx := ask(r, first); tx.CounterStatus != api.Resend {
		t.Errorf("what the copy has: %+v", tx)
	}
	for name, raw := range map[string][]byte{"what was lost": lost, "another content under its KSN": r.sale(2, 999), "the fence": r.sale(11, 1)} {
		if tx := ask(r, raw); len(tx.Fields) != 0 || tx.Code != "KsnFenced" {
			t.Errorf("%s: %+v", name, tx)
		}
	}
	if tx := ask(r, r.sale(12, 1)); tx.CounterStatus != api.Fresh {
		t.Errorf("beyond the fence: %+v", tx)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}

	// A copy that nothing vouches against: still, it may lack what was answered since the last checkpoint.
	if err := os.Remove(c.Database); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(c.CheckpointFile); err != nil {
		t.Fatal(err)
	}
	done, err = Restore(t.Context(), c, copied, false, FenceRequest{Ordinals: 3}, quiet)
	if err != nil || done.Known != 2 || done.Lost != "" || done.Before != "" || done.SetAside != "" {
		t.Errorf("where nothing is: %+v, %v", done, err)
	}
	if _, err := Fence(t.Context(), c, FenceRequest{Ordinals: 1}, slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("the database that was restored: %v", err)
	}
}
