// Package hsmtest gives tests a PKCS#11 token of SoftHSM: one folder for each test binary, one token for each test.
//
// A SoftHSM module reads its configuration and its list of tokens once for each process, when it is first initialised. So
// the folder is made, and filled with tokens, before the first test gets one, and a test takes the next that nobody has.
//
// Two more real components: [Apart] runs tests in a process that has the slot daemon of opencryptoki for itself, and [Serve]
// puts p11-kit server in front of a token of SoftHSM, so that it can be killed.
package hsmtest

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// The PINs of every token.
const (
	PIN   = "24681357"
	SOPIN = "86427531"
)

// Token is a fresh, empty token that nobody is logged in to.
type Token struct {
	Module string // path of the PKCS#11 module
	Label  string // of this token alone
}

// URI names the token as RFC 7512 does.
func (t Token) URI() string {
	return "pkcs11:token=" + t.Label + "?module-path=" + t.Module
}

// modules are the places where SoftHSM is installed: Debian's, and those of a build from source.
var modules = []string{
	"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so",
	"/opt/homebrew/lib/softhsm/libsofthsm2.so",
}

// New returns the next token. Without SoftHSM the test is skipped, or fails where LATCHKEY_REQUIRE names softhsm, in a list
// with commas, or demands all.
func New(tb testing.TB) Token {
	tb.Helper()
	f, err := shared()
	if err != nil {
		Absent(tb, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.taken == f.tokens {
		tb.Fatalf("all %d tokens are taken: give hsmtest.Binary a larger number", f.tokens)
	}
	f.taken++
	return Token{Module: f.module, Label: label(f.taken)}
}

// Binary is the body of TestMain in packages that use New: it runs the tests, which get this many tokens at most, each time
// that they are run (go test -count), and removes the folder of the tokens.
func Binary(m *testing.M, tokens int) int {
	if !flag.Parsed() {
		flag.Parse()
	}
	wanted = tokens
	if count := flag.Lookup("test.count"); count != nil {
		if n, err := strconv.Atoi(count.Value.String()); err == nil {
			wanted *= max(n, 1)
		}
	}
	code := m.Run()
	if made != "" {
		_ = os.RemoveAll(made) // a leftover in the folder of temporary files harms nobody
	}
	return code
}

// Absent skips a test for the want of tokens or of what reaches them, or fails it where SoftHSM is demanded.
func Absent(tb testing.TB, reason error) {
	tb.Helper()
	absent(tb, "softhsm", reason)
}

func absent(tb testing.TB, component string, reason error) {
	tb.Helper()
	demands := strings.Split(os.Getenv("LATCHKEY_REQUIRE"), ",")
	if slices.Contains(demands, component) || slices.Contains(demands, "all") {
		tb.Fatalf("%v, and LATCHKEY_REQUIRE demands %s: .ci/env installs it", reason, component)
	}
	tb.Skipf("%v; this test needs %s", reason, component)
}

// Spy returns the path of pkcs11-spy of OpenSC, a module that writes down each call and hands it to another module: that of
// PKCS11SPY, to the file of PKCS11SPY_OUTPUT. Both are read when it is loaded. It writes down PINs: it is for tokens of tests.
// Without it the test is skipped, or fails where LATCHKEY_REQUIRE names pkcs11-spy, or demands all.
func Spy(tb testing.TB) string {
	tb.Helper()
	return spyAt(tb, "/usr/lib/*/pkcs11-spy.so", "/usr/lib/pkcs11-spy.so", "/usr/lib64/pkcs11-spy.so", "/opt/homebrew/lib/pkcs11-spy.so")
}

func spyAt(tb testing.TB, places ...string) string {
	tb.Helper()
	for _, place := range places {
		if found, _ := filepath.Glob(place); len(found) > 0 { // only a bad pattern is an error
			return found[0]
		}
	}
	absent(tb, "pkcs11-spy", fmt.Errorf("pkcs11-spy.so is in none of %v", places))
	return ""
}

// folder is the folder of this binary.
type folder struct {
	dir, module string
	tokens      int

	mu    sync.Mutex
	taken int
}

var shared = sync.OnceValues(prepare)

// wanted is how many tokens to make.
var wanted int

// made is the folder once there is one; it is read when all tests are over.
var made string

// prepare makes the folder with all its tokens, and has the module find it.
func prepare() (*folder, error) {
	f := &folder{tokens: wanted}
	for _, name := range modules {
		if _, err := os.Stat(name); err == nil {
			f.module = name
			break
		}
	}
	if f.module == "" {
		return nil, fmt.Errorf("the module of SoftHSM is in none of %v", modules)
	}
	if _, err := exec.LookPath("softhsm2-util"); err != nil {
		return nil, fmt.Errorf("softhsm2-util: %w", err)
	}
	var err error
	if f.dir, err = os.MkdirTemp("", "latchkey-softhsm-"); err != nil {
		return nil, err
	}
	if err := f.fill(); err != nil {
		_ = os.RemoveAll(f.dir) // the error that counts is the other one
		return nil, err
	}
	made = f.dir
	return f, nil
}

func (f *folder) fill() error {
	tokens, configuration := filepath.Join(f.dir, "tokens"), filepath.Join(f.dir, "softhsm2.conf")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		return err
	}
	text := "directories.tokendir = " + tokens + "\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n"
	if err := os.WriteFile(configuration, []byte(text), 0o600); err != nil {
		return err
	}
	if err := os.Setenv("SOFTHSM2_CONF", configuration); err != nil {
		return err
	}
	for n := range f.tokens {
		cmd := exec.Command("softhsm2-util", "--init-token", "--free", "--label", label(n+1), "--pin", PIN, "--so-pin", SOPIN)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("softhsm2-util: %w: %s", err, out)
		}
	}
	return nil
}

func label(n int) string { return fmt.Sprintf("latchkey-test-%03d", n) }
