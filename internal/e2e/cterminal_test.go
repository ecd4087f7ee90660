//go:build unix

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/testvec"
)

// mostLink is how large the shared library of a whole terminal may be, stripped. docs/c.md says why it is no smaller.
const mostLink = 10_600_000

// processor is one that firmware runs on: how the C terminal is built for it, and run here.
type processor struct {
	arch, compiler string
	emulator       []string // none: it is the one of this machine
}

var processors = []processor{
	{"amd64", "gcc", nil},
	{"arm64", "aarch64-linux-gnu-gcc", []string{"qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu"}},
	{"arm", "arm-linux-gnueabihf-gcc", []string{"qemu-arm-static", "-L", "/usr/arm-linux-gnueabihf"}},
}

// TestCTerminal follows docs/deployment.md up to the terminal, and has the one in C enrol and sell, on each processor.
func TestCTerminal(t *testing.T) {
	testvec.Program(t, "bash")
	testvec.Program(t, "curl")
	page, err := os.ReadFile("../../docs/deployment.md")
	check(t, err)
	text := strings.Replace(string(page), "\ngo run github.com/latchkey-pos/latchkey/examples/acquirer/cmd/acquirer ",
		"\nacquirer -listen 127.0.0.1:8444 -decrypt https://127.0.0.1:8443 ", 1)
	p := &ports{t: t, own: make(map[string]string)}
	t.Cleanup(p.release)
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(p.in(text), -1)
	if len(blocks) < 5 || !strings.Contains(blocks[4][1], "acquirer") {
		t.Fatal("docs/deployment.md has other scripts than it had")
	}
	s := newShell(t, p.in(ownServer))
	s.run(t, "a deployment", blocks[0][1], nil)
	s.run(t, "keys and key sets", blocks[1][1], nil)
	p.inFiles(filepath.Join(s.dir, "pos", "*d.yaml"), 3)
	p.release()
	s.run(t, "the services", blocks[2][1], nil)
	s.run(t, "the acquirer", blocks[4][1], []string{`listening on https://127\.0\.0\.1:`})
	for _, c := range processors {
		id := "T-" + strings.ToUpper(c.arch)
		s.run(t, "the C terminal on "+c.arch, c.script(p.in, c.build(t), id), []string{
			`(?s)sign-in +SIGNED-IN\nterminal +SHOP-1/` + id + `\nstarts +1\nunanswered +0\nslot 1 +\d+ keys left\nslot 2 +\d+ keys left\n`,
			`(?s)sale +APPROVED\nsequence +\d+\nKSN +12345678[0-9A-F]{16}\n.*terminal +SHOP-1/` + id + `\nstarts +3\nunanswered +0\n`,
			`run ended: .*closed.*\n`,
			`HTTP/1\.1 404 Not Found\r\n`,
			`(?s)ok\tstate\t.*\nok\tclock\t[^\n]*\ndoctor 0\nwithout a terminal 1\n`,
		})
	}
}

// build builds library and program, and holds the library to its size.
func (c processor) build(t *testing.T) string {
	t.Helper()
	testvec.Program(t, c.compiler)
	if c.emulator != nil {
		testvec.Program(t, c.emulator[0])
	}
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "../../.ci/lib", dir, "link", c.arch).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	info, err := os.Stat(filepath.Join(dir, "liblatchkey.so.1"))
	check(t, err)
	t.Logf("size: liblatchkey.so.1 for %s has %d bytes", c.arch, info.Size())
	if info.Size() > mostLink {
		t.Errorf("it has %d bytes, %d at most", info.Size(), mostLink)
	}
	program := filepath.Join(dir, "c-terminal")
	out, err := exec.CommandContext(t.Context(), c.compiler, "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-D_POSIX_C_SOURCE=200809L",
		"-I", dir, "-o", program, "../../examples/c-terminal/main.c", "-L", dir, "-llatchkey", "-Wl,-rpath,"+dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// script enrols a terminal, sells with a PIN and without, and looks at it.
func (c processor) script(in func(string) string, program, id string) string {
	run := strings.Join(append(append([]string{}, c.emulator...), program), " ")
	return in(strings.NewReplacer("TERMINAL", id, "RUN", run, "DIR", "c-"+c.arch).Replace(`
latchkey terminal register $P --id TERMINAL --slot 1=DATA-1 --slot 2=PIN-1 --endpoint https://localhost:8444
latchkey terminal code TERMINAL $P --ticket-file TERMINAL.ticket
RUN enrol DIR https://localhost:8445 http://localhost:8447 SHOP-1 TERMINAL < TERMINAL.ticket
printf '4111111111111111\n1234\n' | RUN sale DIR 1234
RUN status DIR
RUN run DIR 1
printf 'GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' | RUN talk DIR https://localhost:8444
RUN doctor DIR; echo "doctor $?"
RUN status nowhere || echo "without a terminal $?"
`))
}
