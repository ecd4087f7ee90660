package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	_ "github.com/latchkey-pos/latchkey/internal/seal/sealtest" // many deployments
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
		var log bytes.Buffer
		go func() {
			err := run(ctx, slices.Concat(args, more), w, &log)
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
		if warns := strings.Contains(log.String(), "terminals that were revoked or stolen are let in"); warns != (more == nil) {
			t.Errorf("%s: the log is %s", name, &log)
		}
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }() // nothing was accepted
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, tc := range map[string]struct {
		more []string
		code exit.Code
		hint string
	}{
		"a feed over plain HTTP": {[]string{"-feed", "http://127.0.0.1:1"}, exit.Usage, "-feed https://"},
		"another passphrase":     {[]string{"-passphrase-file", write("other", "another passphrase altogether")}, exit.Verification, "-passphrase-file"},
		"a short passphrase":     {[]string{"-passphrase-file", write("short", "short")}, exit.Usage, "12 bytes or more"},
		"no passphrase file":     {[]string{"-passphrase-file", filepath.Join(dir, "none")}, exit.NotFound, "write the passphrase to it: one line, mode 0600"},
		"no deployment":          {[]string{"-dir", dir}, exit.NotFound, "-dir"},
		"a port in use":          {[]string{"-listen", l.Addr().String()}, exit.Failure, "another program has it"},
	} {
		err := run(t.Context(), slices.Concat(args, tc.more), io.Discard, io.Discard)
		e, ok := errors.AsType[*exit.Error](err)
		if !ok || e.Code != tc.code || !strings.Contains(e.Hint, tc.hint) {
			t.Errorf("%s: %v, want exit code %d with a next line about %q", name, err, tc.code, tc.hint)
		}
	}
}
