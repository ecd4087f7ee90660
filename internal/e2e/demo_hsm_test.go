package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/hsmtest"
)

// withBridge builds the operator's program with the PKCS#11 bridge, as make build-hsm does, and returns its path.
var withBridge = sync.OnceValues(func() (string, error) {
	out := filepath.Join(filepath.Dir(binaries.shipped), "latchkey-hsm")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "../../cmd/latchkey")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	b, err := cmd.CombinedOutput()
	if err != nil {
		return "", errors.Join(err, errors.New(string(b)))
	}
	return out, nil
})

// TestDemoOnTokens runs the whole demonstration with its keys in fresh tokens of SoftHSM.
func TestDemoOnTokens(t *testing.T) {
	program, err := withBridge()
	if err != nil {
		hsmtest.Absent(t, err)
	}
	if _, err := exec.LookPath("softhsm2-util"); err != nil {
		hsmtest.Absent(t, err)
	}
	dir := filepath.Join(t.TempDir(), "demo")
	start := time.Now()
	out, errs, code := output(t.Context(), nil, program, "demo", "--hsm", "--dir", dir)
	if code != 0 {
		t.Fatalf("demo --hsm ends with %d\n%s%s", code, out, errs)
	}
	t.Logf("demo --hsm took %.1f s", time.Since(start).Seconds())
	for _, want := range []string{
		`(?m)^ +AES keys +KeyMode token, PIN exposure host-memory$`, `(?m)^ +TDES keys +KeyMode bdk-in-token, PIN exposure host-memory$`,
		`(?m)^ +delivery of initial keys +clear-in-host \([1-9][0-9]*\)$`, `(?m)^ +keyd +alias/bdk-aes-pin +B0 +AES-128 .* bdk-in-token$`,
		`(?m)^ +decryptd +alias/bdk-aes-pin +B0 +AES-128 .* token$`, "every step ended as it should",
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("demo --hsm never says %q\n%s", want, out)
		}
	}
	if strings.Contains(out, "software") {
		t.Errorf("a key is held in software:\n%s", out)
	}
	noKeyFiles(t, filepath.Join(dir, "deployment"))
	pins, err := filepath.Glob(filepath.Join(dir, "softhsm", "*.pin"))
	if err != nil || len(pins) != 4 {
		t.Fatalf("files with PINs: %v, %v", pins, err)
	}
	for _, name := range pins {
		pin, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{out, errs, read(t, filepath.Join(dir, "demo.log")), read(t, filepath.Join(dir, "decryptd.yaml"))} {
			if strings.Contains(text, strings.TrimSpace(string(pin))) {
				t.Errorf("the PIN of %s is told", filepath.Base(name))
			}
		}
	}
}

// noKeyFiles wants nothing in files that is in a token.
func noKeyFiles(t *testing.T, deployment string) {
	t.Helper()
	for pattern, want := range map[string]int{
		"ca/*/*.key.sealed": 0, "services/kdh-signer/key.sealed": 0, "services/registry/key.sealed": 0, "services/decrypt/key.sealed": 0,
		"keyring/*.key": 0, "ca/*/issuing.crt": 3, "services/kdh-signer/cert.pem": 1, "keyring/*.secret": 4,
	} {
		found, err := filepath.Glob(filepath.Join(deployment, pattern))
		if err != nil || len(found) != want {
			t.Errorf("%s: %v, %v; want %d", pattern, found, err, want)
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestDemoOnTokensRefuses wants what is missing named, and nothing begun.
func TestDemoOnTokensRefuses(t *testing.T) {
	out, errs, code := output(t.Context(), nil, filepath.Join(binaries.shipped, "latchkey"), "demo", "--hsm")
	if code != 1 || !strings.Contains(errs, "built without PKCS#11") || !strings.Contains(errs, "make build-hsm") {
		t.Errorf("without the bridge: %d\n%s%s", code, out, errs)
	}
	program, err := withBridge()
	if err != nil {
		hsmtest.Absent(t, err)
	}
	out, errs, code = output(t.Context(), nil, program, "demo", "--hsm", "--module", "/nowhere.so")
	if code == 0 || !strings.Contains(errs, "/nowhere.so") {
		t.Errorf("without the module: %d\n%s%s", code, out, errs)
	}
	out, errs, code = output(t.Context(), nil, program, "demo", "--module", "/nowhere.so")
	if code != 2 {
		t.Errorf("a module without tokens: %d\n%s%s", code, out, errs)
	}
}
