package hsmtest

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) { os.Exit(Binary(m, 4)) }

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
		"": "", "postgres": "", "softhsm": "softhsm", "vault,softhsm": "softhsm", "all": "softhsm pkcs11-spy opencryptoki p11-kit", "softhsmx": "", "pkcs11-spy": "pkcs11-spy",
		"opencryptoki": "opencryptoki", "p11-kit": "p11-kit",
	} {
		t.Setenv("LATCHKEY_REQUIRE", demands)
		for component, look := range map[string]func(testing.TB){
			"softhsm":    func(tb testing.TB) { Absent(tb, errors.New("it is not there")) },
			"pkcs11-spy": func(tb testing.TB) { spyAt(tb, "/nowhere/*.so") },
			"opencryptoki": func(tb testing.TB) {
				_, err := opencryptokiAt("/nowhere/*.so")
				absent(tb, "opencryptoki", err)
			},
			"p11-kit": func(tb testing.TB) {
				_, err := clientAt("/nowhere/*.so")
				absent(tb, "p11-kit", err)
			},
		} {
			j := &judge{TB: t}
			func() {
				defer func() { _ = recover() }()
				look(j)
			}()
			if want := slices.Contains(strings.Fields(fails), component); j.failed != want || j.skipped == want {
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

// TestApart runs a test with opencryptoki, and then looks for what it left.
func TestApart(t *testing.T) {
	before := runs(t)
	Apart(t, "^TestInside$")
	module, err := opencryptokiAt(opencryptokiModules...)
	if err != nil {
		t.Fatal(err)
	}
	for pattern, said := range map[string]string{"^TestInsideFails$": "planted", "^TestNone$": "no tests to run"} {
		out, err := apart(t, module, pattern)
		if failed := pattern == "^TestInsideFails$"; !strings.Contains(string(out), said) || strings.Contains(string(out), "--- PASS") || (err != nil) != failed {
			t.Errorf("%s: %v: %s", pattern, err, out)
		}
	}
	if after := runs(t); after != before {
		t.Errorf("a daemon of the machine answers: %v, before: %v", after, before)
	}
}

// runs reports whether a slot daemon answers here.
func runs(t *testing.T) bool {
	t.Helper()
	return exec.CommandContext(t.Context(), "pkcsconf", "-t").Run() == nil
}

// TestInside runs where the daemon is.
func TestInside(t *testing.T) {
	for range 2 {
		token := Opencryptoki(t)
		out, err := exec.CommandContext(t.Context(), "pkcsconf", "-t").CombinedOutput()
		if err != nil || strings.Count(string(out), token.Label+" ") != 1 || !strings.Contains(string(out), "USER_PIN_INITIALIZED") {
			t.Errorf("%v: %s", err, out)
		}
	}
}

// TestInsideFails fails, for TestApart.
func TestInsideFails(t *testing.T) {
	Opencryptoki(t)
	t.Error("planted")
}

func TestServer(t *testing.T) {
	s := Serve(t)
	for range 2 {
		pid := s.cmd.Process.Pid
		c, err := net.Dial("unix", s.socket)
		if err != nil {
			t.Fatal(err)
		}
		cut := 0
		for deadline := time.Now().Add(10 * time.Second); ; { // until it has begun, and beside that of Start
			cut += s.Cut()
			if err := c.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			n, err := c.Read(make([]byte, 1))
			if n == 0 && !errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if n > 0 || time.Now().After(deadline) {
				t.Fatalf("a connection that was cut gives %d bytes, %v", n, err)
			}
		}
		if cut == 0 {
			t.Error("the connection ended by itself")
		}
		_ = c.Close()
		s.Start() // it runs
		if s.cmd.Process.Pid != pid {
			t.Error("a second server was started")
		}
		s.Kill()
		s.Kill()
		if _, err := net.Dial("unix", s.socket); err == nil {
			t.Error("it listens after Kill")
		}
		s.Start()
	}
}
