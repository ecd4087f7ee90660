//go:build unix

package e2e

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/testvec"
)

// ownServer tells the commands that talk to the registration authority where it is, because the page relies on a port.
const ownServer = `latchkey() {
	case $1 in (terminal|cert|approve) set -- "$@" --server https://localhost:8446 ;; esac
	command latchkey "$@"
}
`

// TestDeploymentPage runs the scripts of docs/deployment.md one after the other in one shell, as somebody would who follows
// the page. Only the ports are others, because those of the page may be taken, and the acquirer is not compiled again.
func TestDeploymentPage(t *testing.T) {
	for _, program := range []string{"bash", "curl"} {
		testvec.Program(t, program)
	}
	start := time.Now()
	page, err := os.ReadFile("../../docs/deployment.md")
	check(t, err)
	const compiled = "\ngo run github.com/latchkey-pos/latchkey/examples/acquirer/cmd/acquirer "
	if strings.Count(string(page), compiled) != 1 {
		t.Fatalf("docs/deployment.md does not start the acquirer with %q", compiled)
	}
	text := strings.Replace(string(page), compiled, "\nacquirer -listen 127.0.0.1:8444 -decrypt https://127.0.0.1:8443 ", 1)
	p := &ports{t: t, own: make(map[string]string)}
	t.Cleanup(p.release)
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(p.in(text), -1)
	s := newShell(t, p.in(ownServer))
	steps := []struct {
		name   string
		before func()
		wants  []string // regular expressions of what comes on standard output
	}{
		{"a deployment", func() {}, []string{`tenant +SHOP-1`, `environment +test`}},
		{"keys and key sets", func() { p.inFiles(filepath.Join(s.dir, "pos", "*d.yaml"), 3) }, []string{
			`(?m)^alias/bdk-data `, `(?m)^alias/zone-1 `, `(?m)^DATA-1 `, `(?m)^PIN-1 `,
		}},
		{"the services", p.release, []string{`(?s)"store":"ok".*"store":"ok".*"registry":"ok"`}},
		{"a terminal on paper", func() {}, []string{`T-0001 +pending +none yet`}},
		{"the acquirer", func() {}, []string{`listening on https://127\.0\.0\.1:`}},
		{"the terminal", func() {}, []string{`sale +APPROVED`, `(?s)unanswered +0\n.*trust list +version 1.*\nstarts +3\n`}},
		{"its life", func() {}, []string{
			`status +blocked\nreason +till under repair\n`, `next 1234567800000002`, `\n[0-9a-f]+ +T-0001 +agreement .* current\n`,
			`status +revoked\nreason +stolen\n`, `BEGIN X509 CRL`, `id +DATA-1\nrevision +2\n`,
		}},
		{"afterwards", func() {}, []string{`(?s)SHOP-1/decryptd\nverdict +as written\n.*SHOP-1/provisiond\nverdict +as written\n.*SHOP-1/keyd\nverdict +as written\n`}},
		{"other keys in the keyring", func() {}, []string{`name +alias/zone-1\n(?s:.*)version +2\n`, `keys wrapped +[1-9][0-9]*\nsecrets wrapped +4\n`}},
	}
	if len(blocks) != len(steps) {
		t.Fatalf("docs/deployment.md has %d scripts, want %d", len(blocks), len(steps))
	}
	for i, step := range steps {
		step.before()
		s.run(t, step.name, blocks[i][1], step.wants)
	}
	took := time.Since(start)
	if took > time.Minute {
		t.Errorf("the page took %s, want less than a minute", took)
	}
	t.Logf("the page: %d scripts in %.1f s", len(blocks), took.Seconds())
}

// ports has a free port for each one that a text names, and keeps them until services are to listen there.
type ports struct {
	t     *testing.T
	own   map[string]string
	doors []net.Listener
}

var namedPort = regexp.MustCompile(`\b[89][0-9]{3}\b`)

// in returns a text with free ports for those that it names.
func (p *ports) in(text string) string {
	return namedPort.ReplaceAllStringFunc(text, func(named string) string {
		if p.own[named] == "" {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			check(p.t, err)
			p.doors = append(p.doors, l)
			_, p.own[named], err = net.SplitHostPort(l.Addr().String())
			check(p.t, err)
		}
		return p.own[named]
	})
}

// inFiles is the same for files, of which there are count.
func (p *ports) inFiles(pattern string, count int) {
	p.t.Helper()
	files, err := filepath.Glob(pattern)
	check(p.t, err)
	if len(files) != count {
		p.t.Fatalf("%q are there, want %d files", files, count)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		check(p.t, err)
		check(p.t, os.WriteFile(name, []byte(p.in(string(text))), 0o600))
	}
}

func (p *ports) release() {
	for _, l := range p.doors {
		_ = l.Close()
	}
	p.doors = nil
}

// shell is a bash that reads its script from a pipe, block by block. When the pipe ends, which the end of this process
// sees to at the latest, it ends what it has started and waits for it.
type shell struct {
	dir      string
	script   io.WriteCloser
	out, log *lines
	read     int // of out
	exited   chan error
}

func newShell(t *testing.T, prelude string) *shell {
	t.Helper()
	s := &shell{dir: t.TempDir(), out: newLines(), log: newLines(), exited: make(chan error, 1)}
	r, w, err := os.Pipe()
	check(t, err)
	s.script = w
	cmd := exec.Command("bash", "-eu", "/dev/fd/3")
	cmd.Dir, cmd.Env = s.dir, append(os.Environ(), "PATH="+binaries.shipped+":"+os.Getenv("PATH"))
	cmd.ExtraFiles = []*os.File{r}
	cmd.Stdout, cmd.Stderr = s.out, s.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	check(t, cmd.Start())
	check(t, r.Close())
	go func() { s.exited <- cmd.Wait() }()
	t.Cleanup(func() { s.end(t, cmd.Process.Pid) })
	_, err = io.WriteString(w, "trap 'kill $(jobs -p) || true; wait' EXIT\n"+prelude)
	check(t, err)
	return s
}

// run runs a block, and waits for its end and until everything that is wanted has come on standard output.
func (s *shell) run(t *testing.T, name, block string, wants []string) {
	t.Helper()
	end := "the end of " + name + "\n"
	_, err := io.WriteString(s.script, block+"\necho '"+strings.TrimSpace(end)+"'\n")
	check(t, err)
	deadline := time.After(time.Minute)
	for {
		said := s.out.String()[s.read:]
		missing := missing(said, append(wants, end))
		if missing == "" {
			s.read += len(said)
			return
		}
		select {
		case err := <-s.exited:
			s.exited <- err
			t.Fatalf("%s: the script ends: %v\n%s%s", name, err, said, s.log)
		case <-deadline:
			t.Fatalf("%s: it does not say %s\n%s%s", name, missing, said, s.log)
		case <-s.out.more:
		}
	}
}

func missing(said string, wants []string) string {
	for _, want := range wants {
		if !regexp.MustCompile(want).MatchString(said) {
			return want
		}
	}
	return ""
}

// end closes the pipe and waits until everything has ended in order, and kills it when it has not.
func (s *shell) end(t *testing.T, group int) {
	_ = s.script.Close()
	select {
	case err := <-s.exited:
		if err != nil && !t.Failed() {
			t.Errorf("the shell ends: %v\n%s", err, s.log)
		}
	case <-time.After(20 * time.Second):
		_ = syscall.Kill(-group, syscall.SIGKILL) // somebody of it lives, so that the number is nobody else's
		t.Errorf("not everything has ended in order\n%s", s.log)
		<-s.exited
	}
}
