package daemontest

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/cmd/daemon"
	"github.com/latchkey-pos/latchkey/hsm"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
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
	d.elsewhere(t, dir)
	d.taken(t, args)
	end := d.start(t, args)
	d.refused(t, exit.Failure, check...) // the database is locked
	if err := end(); err != nil {
		t.Errorf("end: %v", err)
	}
	d.behind(t, dir, check)
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

// elsewhere takes the deployment for one of another tenant, and of another environment.
func (d Daemon[C]) elsewhere(t *testing.T, dir string) {
	t.Helper()
	text := string(nodetest.Must[[]byte](t)(os.ReadFile(filepath.Join(dir, d.File))))
	for _, change := range []struct{ from, to string }{
		{"\ntenant: ACME\n", "\ntenant: OTHER\n"}, {"\nenvironment: test\n", "\nenvironment: production\n"},
	} {
		if !strings.Contains(text, change.from) {
			t.Fatalf("%s has no line %q", d.File, change.from)
		}
		other := write(t, dir, "other.yaml", strings.Replace(text, change.from, change.to, 1))
		d.refused(t, exit.Usage, "--config", other, "--check")
	}
}

// taken has another program listen where the daemon wants to, and wants to be told what to do.
func (d Daemon[C]) taken(t *testing.T, args []string) {
	t.Helper()
	l := nodetest.Must[net.Listener](t)((&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0"))
	defer func() { _ = l.Close() }() // nothing was accepted
	for _, flag := range d.Doors[:2] {
		_, err := d.typed(t.Context(), nil, append(args[:len(args):len(args)], "--"+flag, l.Addr().String())...)
		e, ok := errors.AsType[*exit.Error](err)
		if !ok || e.Code != exit.Failure || !strings.Contains(err.Error(), flag) || !strings.Contains(e.Hint, "another program has it") || !strings.Contains(e.Hint, "--"+flag) {
			t.Errorf("the address of %s is taken: %v", flag, err)
		}
	}
}

// deaf has the daemon work with a token whose module does not return from the login, which ends the start.
func (d Daemon[C]) deaf(t *testing.T) {
	if !hsm.Built {
		hsmtest.Absent(t, hsm.ErrNoBridge)
	}
	module, dir := hsmtest.NewDeaf(t, hsmtest.New(t)), deployment(t)
	module.Hang("C_Login")
	write(t, dir, "pin", hsmtest.PIN)
	text := string(nodetest.Must[[]byte](t)(os.ReadFile(filepath.Join(dir, d.File))))
	config := write(t, dir, "deaf.yaml", text+"\nhsm: {uri: '"+module.URI()+"', pin-file: pin}\n")
	for _, args := range [][]string{{"--config", config, "--check"}, {"--config", config}} { // the second is told at once
		_, err := d.typed(t.Context(), nil, args...)
		e, ok := errors.AsType[*exit.Error](err)
		if !ok || e.Code != exit.Unreachable || !errors.Is(err, hsm.ErrStuck) || !strings.Contains(err.Error(), "C_Login") || e.Hint == "" {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// behind lets the database be older than the checkpoint, as after a restore, and wants the daemon not to start with it.
func (d Daemon[C]) behind(t *testing.T, dir string, check []string) {
	t.Helper()
	file := filepath.Join(dir, d.Checkpoint)
	before := nodetest.Must[[]byte](t)(os.ReadFile(file))
	text, _, err := audit.GenerateKey("latchkey/ACME/later")
	if err != nil {
		t.Fatal(err)
	}
	later := audit.Tree{}
	for range 100 {
		later, _ = later.Append([]byte("what the backup does not hold"))
	}
	signer := nodetest.Must[*audit.Signer](t)(audit.NewSigner(text))
	write(t, dir, d.Checkpoint, string(nodetest.Must[[]byte](t)(signer.Sign(later))))
	d.refused(t, exit.Verification, check...)
	write(t, dir, d.Checkpoint, string(before))
	if _, err := d.typed(t.Context(), nil, check...); err != nil {
		t.Errorf("with the checkpoint as it was: %v", err)
	}
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
