package hsmtest

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(Binary(m, 3)) }

func TestTokensDiffer(t *testing.T) {
	a, b := New(t), New(t)
	if a.Label == b.Label || a.Module != b.Module {
		t.Fatalf("%v and %v", a, b)
	}
	out, err := exec.CommandContext(t.Context(), "softhsm2-util", "--show-slots").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, token := range []Token{a, b} {
		if !strings.Contains(string(out), token.Label) {
			t.Errorf("there is no token %s", token.Label)
		}
		if !strings.HasPrefix(token.URI(), "pkcs11:token="+token.Label+"?module-path=/") {
			t.Errorf("URI %s", token.URI())
		}
	}
}

// judge records what Absent does to a test.
type judge struct {
	testing.TB
	failed, skipped bool
}

func (j *judge) Helper()               {}
func (j *judge) Fatalf(string, ...any) { j.failed = true; panic(j) }
func (j *judge) Skipf(string, ...any)  { j.skipped = true; panic(j) }

func TestAbsent(t *testing.T) {
	for demands, fails := range map[string]bool{"": false, "postgres": false, "softhsm": true, "vault,softhsm": true, "all": true, "softhsmx": false} {
		t.Setenv("LATCHKEY_REQUIRE", demands)
		j := &judge{TB: t}
		func() {
			defer func() { _ = recover() }()
			Absent(j, errors.New("it is not there"))
		}()
		if j.failed != fails || j.skipped == fails {
			t.Errorf("LATCHKEY_REQUIRE=%q: failed %v, skipped %v", demands, j.failed, j.skipped)
		}
	}
}
