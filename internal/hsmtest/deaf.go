package hsmtest

import (
	_ "embed"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

//go:embed testdata/deaf.c
var deaf []byte

// Deaf is a module in front of a token of SoftHSM that does not answer when it is told not to: a device that has lost its line, or
// whose daemon waits for something. Its SoftHSM is a copy, which the other tests of the process do not share.
type Deaf struct {
	Token
	tb  testing.TB
	dir string
}

// NewDeaf puts such a module in front of a token. It is made of testdata/deaf.c by the C compiler that the bridge needs as well.
func NewDeaf(tb testing.TB, t Token) *Deaf {
	tb.Helper()
	t, dir := inFront(tb, t, deaf)
	if err := os.WriteFile(filepath.Join(dir, "calls"), nil, 0o600); err != nil {
		tb.Fatal(err)
	}
	return &Deaf{t, tb, dir}
}

// Hang has calls of a name not return until release is called, which the end of the test does. Names are those of PKCS#11 from
// C_Initialize to C_Login, C_GenerateKey, and dlopen for the module's being loaded.
func (d *Deaf) Hang(call string) (release func()) {
	d.tb.Helper()
	file := filepath.Join(d.dir, "hang-"+call)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		d.tb.Fatal(err)
	}
	release = sync.OnceFunc(func() { _ = os.Remove(file) }) // what is left in the folder goes with it
	d.tb.Cleanup(release)
	return release
}

// Calls returns how often a call was made, those that do not return among them.
func (d *Deaf) Calls(call string) int {
	d.tb.Helper()
	text, err := os.ReadFile(filepath.Join(d.dir, "calls"))
	if err != nil {
		d.tb.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(text)) {
		if strings.TrimSuffix(line, "\n") == call {
			n++
		}
	}
	return n
}

// Link returns another path of the module.
func (d *Deaf) Link() string {
	d.tb.Helper()
	link := filepath.Join(d.tb.TempDir(), "link.so")
	if err := os.Symlink(d.Module, link); err != nil {
		d.tb.Fatal(err)
	}
	return link
}
