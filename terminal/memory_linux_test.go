package terminal_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
)

// The memory of a process is searched by the process itself, and that must be one which has seen the secrets nowhere but
// where the test looks: a child. It is told the secrets with every bit flipped, so that it has no copy of its own.
var (
	memoryWork = flag.String("memory-work", "", "what the child of TestMemory does: open, member, bundle or import")
	memoryDir  = flag.String("memory-dir", "", "folder with a terminal and a bundle")
	memoryFor  = flag.String("memory-for", "", "hex of the flipped secrets, by commas")
)

const memoryCode = "a code of the operator"

// spy sees the highest register of a slot when that is opened.
type spy struct {
	terminal.Sealer
	register []byte
}

func (s *spy) Open(label string, sealed []byte) (secret.Bytes, error) {
	plain, err := s.Sealer.Open(label, sealed)
	if b := plain.Expose(); err == nil && strings.Contains(label, "slot-1,") {
		s.register = bytes.Clone(b[len(b)-32 : len(b)-16])
	}
	return plain, err
}

// TestMemory has a child open a terminal, make one, and handle a bundle; afterwards no key may be left in its memory.
func TestMemory(t *testing.T) {
	t.Parallel()
	if *memoryWork != "" {
		t.Skip("this is the child")
	}
	lab := terminaltest.NewLab(t, dukpt.AES)
	dir := t.TempDir()
	b := lab.Bundle(t)
	der := bytes.Clone(b.PrivateKey.Expose()[20:44]) // from the outer structure into the number: of no inner copy
	kbpk := bytes.Clone(b.Slots[0].KBPK.Expose()[:16])
	sealed, err := terminal.SealBundleCheaply(secret.From([]byte(memoryCode)), b)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(dir, "bundle"), sealed, 0o600))
	check(t, os.Mkdir(filepath.Join(dir, "terminal"), 0o700))
	medium := terminal.OSFS(filepath.Join(dir, "terminal"))
	sealer, err := terminal.CreateInsecureFile(medium)
	check(t, err)
	check(t, terminal.Import(medium, sealer, b))
	s := &spy{Sealer: sealer}
	term, err := terminal.Open(terminal.Options{FS: medium, Sealer: s})
	check(t, err)
	check(t, term.Close())
	tls, agreement := enrolledForMemory(t, filepath.Join(dir, "member"))
	for _, c := range []struct {
		work    string
		secrets [][]byte
	}{
		{"open", [][]byte{s.register, der}},
		{"member", [][]byte{tls[20:44], agreement[20:44]}},
		{"bundle", [][]byte{kbpk, der}},
		{"import", [][]byte{der}},
	} {
		var flipped []string
		for _, s := range c.secrets {
			flipped = append(flipped, hex.EncodeToString(flip(s)))
		}
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMemoryChild$", "-memory-work="+c.work,
			"-memory-dir="+dir, "-memory-for="+strings.Join(flipped, ","))
		// A signal saves the vector registers of whatever it interrupts, and the last copy of a secret may be in them still.
		child.Env = append(child.Environ(), "GODEBUG=asyncpreemptoff=1")
		if out, err := child.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", c.work, err, out)
		}
	}
}

// enrolledForMemory makes a folder with an enrolled terminal and returns its keys.
func enrolledForMemory(t *testing.T, dir string) (tls, agreement []byte) {
	t.Helper()
	check(t, os.Mkdir(dir, 0o700))
	medium := terminal.OSFS(dir)
	sealer, err := terminal.CreateInsecureFile(medium)
	check(t, err)
	ra := terminaltest.NewRA(t, terminaltest.NewLab(t, dukpt.AES))
	ra.Before = func(string) error {
		_, a, b, err := terminal.Enrolment(medium, sealer)
		tls, agreement = []byte(a), []byte(b)
		return err
	}
	check(t, terminal.Enroll(t.Context(), medium, sealer, options(t, ra)))
	return tls, agreement
}

// TestMemoryChild is what the children of TestMemory run.
func TestMemoryChild(t *testing.T) {
	if *memoryWork == "" {
		t.Skip("TestMemory starts it")
	}
	var flipped [][]byte
	for _, text := range strings.Split(*memoryFor, ",") {
		f, err := hex.DecodeString(text)
		check(t, err)
		flipped = append(flipped, f)
	}
	search := func(when string, left bool) {
		for i, n := range inMemory(t, flipped) {
			if (n > 0) != left {
				t.Errorf("%s: %d copies of secret %d, want some: %v", when, n, i, left)
			}
		}
	}
	switch *memoryWork {
	case "open", "member":
		medium := terminal.OSFS(filepath.Join(*memoryDir, map[string]string{"open": "terminal", "member": "member"}[*memoryWork]))
		sealer, err := terminal.OpenInsecureFile(medium)
		check(t, err)
		term, err := terminal.Open(terminal.Options{FS: medium, Sealer: sealer})
		check(t, err)
		search("open", true)
		check(t, term.Close())
	case "bundle":
		b := memoryBundle(t)
		search("open", true)
		_, err := terminal.SealBundleCheaply(secret.From([]byte(memoryCode)), b)
		check(t, err)
		b.Wipe()
	case "import":
		b := memoryBundle(t)
		search("open", true)
		medium := terminal.OSFS(t.TempDir())
		sealer, err := terminal.CreateInsecureFile(medium)
		check(t, err)
		check(t, terminal.Import(medium, sealer, b))
	}
	search("closed", false)
}

func memoryBundle(t *testing.T) *terminal.Bundle {
	t.Helper()
	sealed, err := os.ReadFile(filepath.Join(*memoryDir, "bundle"))
	check(t, err)
	b, err := terminal.OpenBundle(secret.From([]byte(memoryCode)), sealed)
	check(t, err)
	return b
}

func flip(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[i] = ^b[i]
	}
	return out
}

// inMemory counts the copies of each secret in the writable memory of this process.
func inMemory(t *testing.T, flipped [][]byte) []int {
	t.Helper()
	maps, err := os.Open("/proc/self/maps")
	check(t, err)
	defer maps.Close()
	memory, err := os.Open("/proc/self/mem")
	check(t, err)
	defer memory.Close()
	found := make([]int, len(flipped))
	chunk := make([]byte, 1<<20)
	defer clear(chunk)
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to int64
		var access string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &access); err != nil {
			continue // beyond the numbers that a file offset can have
		}
		if !strings.HasPrefix(access, "rw") || strings.Contains(lines.Text(), "[v") || to-from > 1<<29 {
			continue
		}
		for at := from; at < to; at += int64(len(chunk)) - 64 {
			n, err := memory.ReadAt(chunk[:min(int64(len(chunk)), to-at)], at)
			if err != nil && !errors.Is(err, io.EOF) && n == 0 {
				break // gone meanwhile
			}
			for i, f := range flipped {
				found[i] += count(chunk[:n], f)
			}
		}
	}
	return found
}

// count counts a secret in b and holds no more than four bytes of it at once.
func count(b, flipped []byte) (n int) {
	start := flip(flipped[:4])
	for {
		i := bytes.Index(b, start)
		if i < 0 || len(b)-i < len(flipped) {
			return n
		}
		same := true
		for j, f := range flipped {
			same = same && b[i+j] == ^f
		}
		if same {
			n++
		}
		b = b[i+1:]
	}
}
