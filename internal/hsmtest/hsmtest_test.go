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
	for demands, fails := range map[string]string{
		"": "", "postgres": "", "softhsm": "softhsm", "vault,softhsm": "softhsm", "all": "softhsm pkcs11-spy", "softhsmx": "", "pkcs11-spy": "pkcs11-spy",
	} {
		t.Setenv("LATCHKEY_REQUIRE", demands)
		for component, look := range map[string]func(testing.TB){
			"softhsm":    func(tb testing.TB) { Absent(tb, errors.New("it is not there")) },
			"pkcs11-spy": func(tb testing.TB) { spyAt(tb, "/nowhere/*.so") },
		} {
			j := &judge{TB: t}
			func() {
				defer func() { _ = recover() }()
				look(j)
			}()
			if want := strings.Contains(fails, component); j.failed != want || j.skipped == want {
				t.Errorf("LATCHKEY_REQUIRE=%q without %s: failed %v, skipped %v", demands, component, j.failed, j.skipped)
			}
		}
	}
}

func TestSpy(t *testing.T) {
	if name := Spy(t); !strings.HasSuffix(name, "/pkcs11-spy.so") {
		t.Errorf("found %q", name)
	}
}
