package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

func TestFlags(t *testing.T) {
	t.Parallel()
	o, err := parse([]string{"-passphrase-file", "p", "-feed", "https://a,https://b", "-feed", "https://c", "-feed-cache", "f"}, io.Discard)
	if err != nil || !slices.Equal(o.feed, []string{"https://a", "https://b", "https://c"}) || o.feedCache != "f" {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := parse([]string{"-passphrase-file", "p"}, io.Discard); err != nil || o.feed != nil {
		t.Errorf("without a feed: %+v, %v", o, err)
	}
	for _, args := range [][]string{{}, {"-passphrase-file", "p", "-feed-cache", "f"}, {"-passphrase-file", "p", "more"}, {"-nonsense"}} {
		if _, err := parse(args, io.Discard); exit.CodeOf(err) != exit.Usage {
			t.Errorf("%v: %v, want a usage error", args, err)
		}
	}
	if _, err := parse([]string{"-help"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-help: %v", err)
	}
}

// TestRun starts the host over a new deployment, with and without a feed, and ends it.
func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const words = "a passphrase for a test"
	pass := secret.From([]byte(words))
	defer pass.Wipe()
	d, err := deploy.Create(filepath.Join(dir, "site"), deploy.Options{Tenant: "ACME", Environment: keyset.Test, Passphrase: pass})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	file := filepath.Join(dir, "passphrase")
	if err := os.WriteFile(file, []byte(words), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-dir", filepath.Join(dir, "site"), "-passphrase-file", file, "-listen", "127.0.0.1:0", "-ledger", filepath.Join(dir, "ledger")}
	for name, more := range map[string][]string{
		"without a feed": nil, "with a feed": {"-feed", "https://127.0.0.1:1", "-feed-cache", filepath.Join(dir, "feed")},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		r, w := io.Pipe()
		done := make(chan error, 1)
		go func() {
			err := run(ctx, slices.Concat(args, more), w, io.Discard)
			_ = w.Close()
			done <- err
		}()
		line, err := bufio.NewReader(r).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "listening on https://127.0.0.1:") {
			t.Errorf("%s: it says %q, %v", name, line, err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := run(t.Context(), slices.Concat(args, []string{"-feed", "http://127.0.0.1:1"}), io.Discard, io.Discard); err == nil {
		t.Error("a feed over plain HTTP is followed")
	}
}
