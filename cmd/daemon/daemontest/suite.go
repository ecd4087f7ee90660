// Package daemontest holds the program of a daemon to what every one of them promises on its command line: its help, which
// setting wins, its exit codes, its line when it is ready, and an orderly end.
package daemontest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/cmd/daemon"
	"github.com/latchkey-pos/latchkey/internal/exit"
)

// Daemon is a program with what it alone knows. Every field is required.
type Daemon[C any] struct {
	Program    daemon.Program[C]
	File       string   // its configuration in a deployment folder
	Database   string   // its database there
	Checkpoint string   // the latest checkpoint of its audit log there
	Instance   string   // its name there
	Doors      []string // flags of its listeners
	Ready      []string // members of the line when it is ready that hold an address
	Readyz     string   // what it says of itself when nothing else runs
	Required   string   // a configuration with what is required and nothing else; its passphrase-file is pass
	Wrong      []string // lines that make Required a configuration to refuse
	Teaches    []string // what the help has to mention
}

// Run runs the suite.
func Run[C any](t *testing.T, d Daemon[C]) {
	t.Helper()
	for _, part := range []struct {
		name string
		test func(Daemon[C], *testing.T)
	}{
		{"help", Daemon[C].help}, {"settings", Daemon[C].settings}, {"lists", Daemon[C].lists}, {"exit codes", Daemon[C].exitCodes}, {"life", Daemon[C].life},
		{"deaf", Daemon[C].deaf},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			part.test(d, t)
		})
	}
}

// typed runs the command as somebody types it, with these variables, and returns what it wrote to standard output.
func (d Daemon[C]) typed(ctx context.Context, vars map[string]string, args ...string) (string, error) {
	var out, log bytes.Buffer
	err := d.Program.Execute(ctx, daemon.Process{Getenv: func(name string) string { return vars[name] }, Stdout: &out, Stderr: &log}, args)
	return out.String(), err
}

// refused wants an exit code, nothing on standard output, and a next step unless the failure is of no kind.
func (d Daemon[C]) refused(t *testing.T, want exit.Code, args ...string) {
	t.Helper()
	out, err := d.typed(t.Context(), nil, args...)
	if exit.CodeOf(err) != want || out != "" {
		t.Errorf("exit code %d (%v), want %d; output %q", exit.CodeOf(err), err, want, out)
	}
	if e, ok := errors.AsType[*exit.Error](err); want != exit.Failure && (!ok || e.Hint == "") {
		t.Errorf("%v: no next step", err)
	}
}

// help wants every flag, every exit code and what the daemon has to mention.
func (d Daemon[C]) help(t *testing.T) {
	if out, err := d.typed(t.Context(), nil, "--version"); err != nil || !strings.HasPrefix(out, d.Program.Name+" version "+exit.Version()) {
		t.Errorf("version: %q, %v", out, err)
	}
	out, err := d.typed(t.Context(), nil, "--help")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range append([]string{
		"latchkey init", d.File, "--check", "/livez, /readyz, /metrics", "LATCHKEY_", "0 ok", "1 failure", "2 usage", "3 not found",
		"4 refused by policy", "5 unreachable", "6 verification failed",
	}, d.Teaches...) {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("help lacks %q", want)
		}
	}
	for _, o := range d.Program.Overrides {
		if !strings.Contains(out, "--"+o.Flag) || o.Variable != "LATCHKEY_"+strings.ToUpper(strings.ReplaceAll(o.Flag, "-", "_")) {
			t.Errorf("override %s: not in the help, or another variable than documented: %s", o.Flag, o.Variable)
		}
	}
	for _, l := range d.Program.Lists {
		if !strings.Contains(out, "--"+l.Flag) || l.Variable != "LATCHKEY_"+strings.ToUpper(strings.ReplaceAll(l.Flag, "-", "_")) {
			t.Errorf("list %s: not in the help, or another variable than documented: %s", l.Flag, l.Variable)
		}
	}
	for _, s := range d.Program.Switches {
		if !strings.Contains(out, "--"+s.Flag) {
			t.Errorf("switch %s: not in the help", s.Flag)
		}
	}
}

// settings wants flags to win over variables and those over the file, each in its own member.
func (d Daemon[C]) settings(t *testing.T) {
	var got C
	d.Program.Verify = func(*C, daemon.Process) error { return nil }
	d.Program.Check = func(_ context.Context, c C, _ *slog.Logger) error { got = c; return nil }
	vars, args := make(map[string]string), []string{"--check", "--config"}
	var text strings.Builder
	for i, o := range d.Program.Overrides {
		text.WriteString(o.Flag + ": /file/" + o.Flag + "\n")
		if i > 0 {
			vars[o.Variable] = "/variable/" + o.Flag
		}
	}
	args = append(args, write(t, t.TempDir(), "settings.yaml", text.String()))
	for _, o := range d.Program.Overrides[2:] {
		args = append(args, "--"+o.Flag, "/flag/"+o.Flag)
	}
	if _, err := d.typed(t.Context(), vars, args...); err != nil {
		t.Fatal(err)
	}
	for i, o := range d.Program.Overrides {
		from := []string{"/file/", "/variable/", "/flag/"}[min(i, 2)]
		if v := *o.Member(&got); v != from+o.Flag {
			t.Errorf("%s is %s, want %s", o.Flag, v, from+o.Flag)
		}
	}
}

// lists wants the flag of a list to win over its variable, each with one value or several.
func (d Daemon[C]) lists(t *testing.T) {
	var got []string
	d.Program.Lists = slices.Clone(d.Program.Lists)
	for i := range d.Program.Lists {
		d.Program.Lists[i].Set = func(_ *C, values []string) { got = values }
	}
	d.Program.Verify = func(*C, daemon.Process) error { return nil }
	d.Program.Check = func(context.Context, C, *slog.Logger) error { return nil }
	file := write(t, t.TempDir(), "settings.yaml", "")
	for _, l := range d.Program.Lists {
		for _, c := range []struct {
			vars map[string]string
			args []string
			want []string
		}{
			{nil, nil, nil},
			{map[string]string{l.Variable: "a"}, nil, []string{"a"}},
			{map[string]string{l.Variable: "a,b"}, nil, []string{"a", "b"}},
			{map[string]string{l.Variable: "a,b"}, []string{"--" + l.Flag, "c"}, []string{"c"}},
			{nil, []string{"--" + l.Flag, "c,d", "--" + l.Flag, "e"}, []string{"c", "d", "e"}},
		} {
			got = nil
			if _, err := d.typed(t.Context(), c.vars, append([]string{"--check", "--config", file}, c.args...)...); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("%s with %v and %v is %v, want %v", l.Flag, c.vars, c.args, got, c.want)
			}
		}
	}
}

// exitCodes has a case for each way of not starting that takes no deployment.
func (d Daemon[C]) exitCodes(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "pass", "short")
	open := write(t, dir, "open", "a passphrase of some length")
	if err := os.Chmod(open, 0o640); err != nil {
		t.Fatal(err)
	}
	fine := write(t, dir, "fine.yaml", d.Required)
	type refusal struct {
		name string
		want exit.Code
		args []string
	}
	cases := []refusal{
		{"no configuration named", exit.Usage, nil},
		{"unknown flag", exit.Usage, []string{"--colour"}},
		{"argument", exit.Usage, []string{"--config", fine, "now"}},
		{"no such file", exit.NotFound, []string{"--config", filepath.Join(dir, "none.yaml")}},
		{"nothing in the file", exit.Usage, []string{"--config", write(t, dir, "empty.yaml", "")}},
		{"no passphrase file", exit.NotFound, []string{"--config", fine, "--check", "--passphrase-file", "none"}},
		{"short passphrase", exit.Usage, []string{"--config", fine, "--check"}},
		{"passphrase that others can read", exit.Usage, []string{"--config", fine, "--check", "--passphrase-file", open}},
	}
	for _, flag := range d.Doors {
		cases = append(cases, refusal{"no address for " + flag, exit.Usage, []string{"--config", fine, "--" + flag, "nowhere"}})
	}
	for _, line := range append([]string{"colour: red"}, d.Wrong...) {
		file := write(t, t.TempDir(), "wrong.yaml", d.Required+line+"\n")
		cases = append(cases, refusal{line, exit.Usage, []string{"--config", file}})
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d.refused(t, c.want, c.args...)
		})
	}
	_, err := d.typed(t.Context(), map[string]string{"LATCHKEY_ADMIN": "nowhere"}, "--config", fine, "--check")
	if exit.CodeOf(err) != exit.Usage || !strings.Contains(err.Error(), "admin") {
		t.Errorf("a variable that cannot be right: %v", err)
	}
}

// readyLine wants the line to say what it has to and nothing else, and returns its members.
func (d Daemon[C]) readyLine(t *testing.T, line []byte) map[string]string {
	t.Helper()
	said := make(map[string]string)
	if err := json.Unmarshal(line, &said); err != nil {
		t.Fatalf("ready line %s: %v", line, err)
	}
	want := slices.Sorted(slices.Values(append([]string{"time", "level", "msg", "instance"}, d.Ready...)))
	if got := slices.Sorted(maps.Keys(said)); !slices.Equal(got, want) || said["msg"] != "ready" || said["instance"] != d.Instance {
		t.Errorf("ready line %s, want the members %v and instance %s", line, want, d.Instance)
	}
	return said
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
