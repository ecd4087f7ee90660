package daemontest

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/cmd/daemon"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/node/nodetest"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// deployment is a folder as latchkey init makes it, with its passphrase file.
func deployment(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pos")
	made, err := deploy.Create(dir, deploy.Options{Tenant: "ACME", Environment: keyset.Test, Passphrase: nodetest.Passphrase})
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "passphrase", string(nodetest.Passphrase.Expose()))
	return dir
}

// life goes the way of the documentation: init, check, run, ask, end. Then it takes away what the daemon needs.
func (d Daemon[C]) life(t *testing.T) {
	dir := deployment(t)
	args := []string{"--config", filepath.Join(dir, d.File)}
	for _, flag := range d.Doors {
		args = append(args, "--"+flag, "127.0.0.1:0")
	}
	check := append(args[:len(args):len(args)], "--check")
	out, err := d.typed(t.Context(), nil, check...)
	if err != nil || !strings.Contains(out, `"msg":"checked","tenant":"ACME","folder":"`+dir+`"`) {
		t.Fatalf("check: %q, %v", out, err)
	}
	end := d.start(t, args)
	d.refused(t, exit.Failure, check...) // the database is locked
	if err := end(); err != nil {
		t.Errorf("end: %v", err)
	}
	other := write(t, dir, "other", "another passphrase altogether")
	d.refused(t, exit.Verification, append(check, "--passphrase-file", other)...)
	database := filepath.Join(dir, d.Database)
	if err := os.Remove(database); err != nil {
		t.Fatal(err)
	}
	d.refused(t, exit.NotFound, check...)
	write(t, dir, d.Database, strings.Repeat("no database at all. ", 500))
	d.refused(t, exit.Verification, check...)
}

// start runs the daemon until it is ready, looks at what it says of itself, and returns what ends it.
func (d Daemon[C]) start(t *testing.T, args []string) (end func() error) {
	t.Helper()
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		proc := daemon.Process{Getenv: func(string) string { return "" }, Stdout: w, Stderr: io.Discard}
		err := d.Program.Execute(ctx, proc, args)
		_ = w.Close() // a pipe's Close does not fail
		ended <- err
	}()
	line, err := bufio.NewReader(r).ReadBytes('\n')
	if err != nil {
		t.Fatal(err, <-ended)
	}
	said := d.readyLine(t, line)
	status := http.StatusOK
	if strings.Contains(d.Readyz, "failed") {
		status = http.StatusServiceUnavailable
	}
	if code, body := nodetest.Get(t, "http://"+said["admin"]+"/readyz"); code != status || body != d.Readyz {
		t.Errorf("readyz: %d %s, want %s", code, body, d.Readyz)
	}
	return func() error { cancel(); return <-ended }
}
