//go:build cgo

package main

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/testvec"
)

// machine is a processor that libraries are built for, and how a program for it is built and run here.
type machine struct {
	arch     string
	compiler string
	emulator []string // none: it is the processor of this machine
}

// machines are those that firmware runs on. The tests build on amd64.
var machines = []machine{
	{"amd64", "gcc", nil},
	{"arm64", "aarch64-linux-gnu-gcc", []string{"qemu-aarch64-static", "-L", "/usr/aarch64-linux-gnu"}},
	{"arm", "arm-linux-gnueabihf-gcc", []string{"qemu-arm-static", "-L", "/usr/arm-linux-gnueabihf"}},
}

// needs demands what building and running take.
func (m machine) needs(t *testing.T) {
	t.Helper()
	testvec.Program(t, m.compiler)
	if m.emulator != nil {
		testvec.Program(t, m.emulator[0])
	}
}

// work is where libraries are built, once for all tests.
var work struct {
	sync.Mutex
	dir   string
	built map[string]string
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "liblatchkey-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	work.dir, work.built = dir, make(map[string]string)
	status := m.Run()
	_ = os.RemoveAll(dir) // the tests have their verdict
	os.Exit(status)
}

// library builds a flavour as `make lib` does and returns its folder.
func library(t *testing.T, flavour, arch string, environment ...string) string {
	t.Helper()
	work.Lock()
	defer work.Unlock()
	key := strings.Join(append([]string{flavour, arch}, environment...), " ")
	if work.built[key] != "" {
		return work.built[key]
	}
	dir := filepath.Join(work.dir, fmt.Sprint(len(work.built)))
	cmd := exec.CommandContext(t.Context(), "../../.ci/lib", dir, flavour, arch)
	cmd.Env = append(os.Environ(), environment...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s for %s: %v\n%s", flavour, arch, err, out)
	}
	work.built[key] = dir
	return dir
}

// strict has a compiler refuse what is not C99 or looks like a mistake.
var strict = []string{"-std=c99", "-pedantic", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-Werror", "-O1", "-g"}

// program compiles C and links it with what stands in the arguments.
func (m machine) program(t *testing.T, source string, args ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "program")
	args = append(append(append([]string{}, strict...), "-o", out, source), args...)
	if text, err := exec.CommandContext(t.Context(), m.compiler, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", m.compiler, strings.Join(args, " "), err, text)
	}
	return out
}

// command runs a program of this machine, or of another one under its emulator.
func (m machine) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	line := append(append(append([]string{}, m.emulator...), program), args...)
	return exec.CommandContext(ctx, line[0], line[1:]...)
}

// run gives a program its input and returns what it says.
func (m machine) run(t *testing.T, input, program string, args ...string) string {
	t.Helper()
	cmd := m.command(t.Context(), program, args...)
	var said, complained bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &said, &complained
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s on %s: %v\n%s%s", filepath.Base(program), m.arch, err, said.String(), complained.String())
	}
	return said.String()
}

// mostCore is how large the stripped shared library of the core may be. docs/decisions/0017 says what is in the way of less.
const mostCore = 2_450_000

// checkSize holds the shared library of the core to its size, and shows that it is stripped.
func checkSize(t *testing.T, dir, arch string) {
	t.Helper()
	const name = "liblatchkey-core.so.1"
	info, err := os.Stat(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Section(".symtab") != nil || f.Section(".debug_info") != nil {
		t.Errorf("%s for %s is not stripped", name, arch)
	}
	t.Logf("size: %s for %s has %d bytes", name, arch, info.Size())
	if info.Size() > mostCore {
		t.Errorf("%s for %s has %d bytes, %d at most", name, arch, info.Size(), mostCore)
	}
}
