package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/exit"
	node "github.com/latchkey-pos/latchkey/internal/node/decrypt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// program runs the command as a user types it, with these variables.
func program(t *testing.T, vars map[string]string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, log bytes.Buffer
	d := &daemon{getenv: func(name string) string { return vars[name] }, stdout: &out, stderr: &log}
	err = run(t.Context(), d, args)
	return out.String(), log.String(), err
}

// deployment is a folder as latchkey init makes it, with its passphrase file.
func deployment(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "pos")
	pass := secret.From([]byte("correct horse battery staple"))
	d, err := deploy.Create(dir, deploy.Options{Tenant: "ACME", Environment: keyset.Test, Passphrase: pass})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "passphrase"), pass.Expose(), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestFirstStart goes the way of the documentation: init, check, run, ask, end. No registration authority runs, so the service
// starts, and waits for one.
func TestFirstStart(t *testing.T) {
	t.Parallel()
	dir := deployment(t)
	config := filepath.Join(dir, deploy.DecryptdFile)
	out, _, err := program(t, nil, "--config", config, "--check")
	if err != nil || !strings.Contains(out, `"msg":"checked"`) {
		t.Fatalf("check: %q, %v", out, err)
	}

	r, w := io.Pipe()
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		d := &daemon{getenv: func(string) string { return "" }, stdout: w, stderr: io.Discard}
		err := run(ctx, d, []string{"--config", config, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"})
		_ = w.Close() // a pipe's Close does not fail
		ended <- err
	}()
	line, err := bufio.NewReader(r).ReadBytes('\n')
	if err != nil {
		t.Fatal(err, <-ended)
	}
	var ready struct{ Msg, Service, Admin, Instance string }
	if err := json.Unmarshal(line, &ready); err != nil || ready.Msg != "ready" || ready.Service == "" || ready.Instance != "DECRYPT-1" {
		t.Fatalf("ready line %s: %v", line, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ready.Admin+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close() // it was read
	const want = `{"catalog":"ok","keys":"ok","registry":"failed","store":"ok"}`
	if err != nil || res.StatusCode != http.StatusServiceUnavailable || strings.TrimSpace(string(body)) != want {
		t.Errorf("readyz: %d %s, want %s", res.StatusCode, body, want)
	}
	end()
	if err := <-ended; err != nil {
		t.Errorf("end: %v", err)
	}
}

// TestExitCodes has a case for each way of not starting.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := "tenant: ACME\nenvironment: test\npassphrase-file: pass\ncallers: [{name: ACQ-1}]\n"
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("pass", "short")
	fine := write("fine.yaml", good)
	cases := []struct {
		name string
		args []string
		want exit.Code
	}{
		{"no configuration named", nil, exit.Usage},
		{"unknown flag", []string{"--colour"}, exit.Usage},
		{"argument", []string{"--config", fine, "now"}, exit.Usage},
		{"no such file", []string{"--config", filepath.Join(dir, "none.yaml")}, exit.NotFound},
		{"unknown member", []string{"--config", write("unknown.yaml", good+"colour: red\n")}, exit.Usage},
		{"missing member", []string{"--config", write("missing.yaml", "environment: test\n")}, exit.Usage},
		{"bad flag value", []string{"--config", fine, "--listen", "nowhere"}, exit.Usage},
		{"no passphrase file", []string{"--config", fine, "--check", "--passphrase-file", "none"}, exit.NotFound},
		{"short passphrase", []string{"--config", fine, "--check"}, exit.Failure},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, _, err := program(t, nil, c.args...)
			if got := exit.CodeOf(err); got != c.want || out != "" {
				t.Errorf("exit code %d (%v), want %d; output %q", got, err, c.want, out)
			}
		})
	}
}

// TestFlagsWinOverVariablesWinOverTheFile looks at what is in force.
func TestFlagsWinOverVariablesWinOverTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "d.yaml")
	text := "tenant: ACME\nenvironment: test\npassphrase-file: pass\ncallers: [{name: ACQ-1}]\nlisten: 127.0.0.1:1\nadmin: 127.0.0.1:1\ninstance: FILE\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	vars := map[string]string{"LATCHKEY_ADMIN": "127.0.0.1:2", "LATCHKEY_INSTANCE": "VARIABLE"}
	d := &daemon{getenv: func(name string) string { return vars[name] }}
	c, err := d.config(path, func(i int) (string, bool) { return "FLAG", overrides[i].flag == "instance" })
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:1" || c.Admin != "127.0.0.1:2" || c.Instance != "FLAG" {
		t.Errorf("in force: %s %s %s", c.Listen, c.Admin, c.Instance)
	}
}

// TestHelpTeaches wants every override, every exit code and the endpoints in the help.
func TestHelpTeaches(t *testing.T) {
	t.Parallel()
	out, _, err := program(t, nil, "--help")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"POST /transactions", "/readyz", "Exit codes", "latchkey init", "HUP", "pin-keys"} {
		if !strings.Contains(out, want) {
			t.Errorf("help lacks %q", want)
		}
	}
	seen := map[*string]bool{}
	var c node.Config
	for _, o := range overrides {
		if !strings.Contains(out, "--"+o.flag) || o.variable != "LATCHKEY_"+strings.ToUpper(strings.ReplaceAll(o.flag, "-", "_")) {
			t.Errorf("override %s: not in the help, or another variable than documented: %s", o.flag, o.variable)
		}
		if seen[o.member(&c)] {
			t.Errorf("override %s sets what another one sets", o.flag)
		}
		seen[o.member(&c)] = true
	}
}
