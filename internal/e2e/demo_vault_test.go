package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/vaulttest"
)

// TestDemoOnVault runs the whole demonstration with a real Vault that certifies the terminals, and reads the audit log of Vault
// itself.
func TestDemoOnVault(t *testing.T) {
	program := vaulttest.Program(t)
	dir := filepath.Join(t.TempDir(), "demo")
	start := time.Now()
	out, errs, code := output(t.Context(), nil, filepath.Join(binaries.shipped, "latchkey"), "demo", "--vault", "--vault-program", program, "--dir", dir)
	if code != 0 {
		t.Fatalf("demo --vault ends with %d\n%s%s", code, out, errs)
	}
	t.Logf("demo --vault took %.1f s", time.Since(start).Seconds())
	for _, want := range []string{
		`Vault [0-9.]+ in development mode at http://127\.0\.0\.1:[0-9]+`, `(?m)^ +issuer in pki +made +its key is made in Vault`,
		`T-AES: the acquirer's host saw certificate [0-9a-f]+, signed by`, `"latchkey terminals issuing outside [0-9a-f]{8}", whose key is in Vault`,
		`(?m)^ +terminals certified by +Vault [0-9.]+: [1-9][0-9]* signed, [1-9][0-9]* revoked, by its own audit log$`, "every step ended as it should",
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("demo --vault never says %q\n%s", want, out)
		}
	}
	signed, logins := vaultAudit(t, filepath.Join(dir, "vault", "audit.log"))
	if signed < 4 || logins == 0 { // terminals that enrol, and a renewal
		t.Errorf("the audit log of Vault has %d signatures and %d logins", signed, logins)
	}
	t.Logf("the audit log of Vault has %d signatures under the role of terminals, and %d logins by AppRole", signed, logins)
	vaultSecrets(t, dir, out+errs)
	if issued := read(t, filepath.Join(dir, "deployment", "ca", "terminals", "issued.jsonl")); issued != "" {
		t.Errorf("the issuer in the folder certified something: %s", issued)
	}
}

// vaultAudit counts what the log says was done. Nothing but the role of terminals may have signed.
func vaultAudit(t *testing.T, file string) (signed, logins int) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var r struct {
			Type, Error string
			Request     struct{ Path string }
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		switch path := r.Request.Path; {
		case r.Type != "response" || r.Error != "":
		case path == "pki/sign/latchkey-terminals":
			signed++
		case path == "auth/approle/login":
			logins++
		case strings.Contains(path, "sign-verbatim"), strings.Contains(path, "/issue/"), strings.Contains(path, "/sign/"):
			t.Errorf("something else was signed: %s", path)
		}
	}
	return signed, logins
}

// vaultSecrets looks for the root token and the wrapping token where neither may be.
func vaultSecrets(t *testing.T, dir, told string) {
	t.Helper()
	root := regexp.MustCompile(`(?m)^Root Token: (\S+)$`).FindStringSubmatch(read(t, filepath.Join(dir, "vault", "vault.log")))
	if root == nil {
		t.Fatal("Vault does not say its root token")
	}
	wrapping := strings.TrimSpace(read(t, filepath.Join(dir, "deployment", "vault", "secret-id")))
	for what, token := range map[string]string{"root token": root[1], "wrapping token": wrapping} {
		for where, text := range map[string]string{"what is printed": told, "demo.log": read(t, filepath.Join(dir, "demo.log"))} {
			if strings.Contains(text, token) {
				t.Errorf("the %s is in %s", what, where)
			}
		}
	}
	if sealed := read(t, filepath.Join(dir, "deployment", "vault", "secret-id.sealed")); len(sealed) == 0 {
		t.Error("the secret-id was not kept")
	}
}

// TestDemoOnVaultRefuses wants what is missing named, and nothing begun.
func TestDemoOnVaultRefuses(t *testing.T) {
	program := filepath.Join(binaries.shipped, "latchkey")
	for _, tc := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--vault", "--vault-program", "/nowhere/vault"}, 3, "/nowhere/vault"},
		{[]string{"--vault-program", "/nowhere/vault"}, 2, "--vault"},
		{[]string{"--vault", "--hsm"}, 2, "two demonstrations"},
		{[]string{"--vault", "--vault-program", "/bin/false"}, 6, "vault ended at its start"},
	} {
		out, errs, code := output(t.Context(), nil, program, append([]string{"demo"}, tc.args...)...)
		if code != tc.code || !strings.Contains(errs, tc.says) {
			t.Errorf("demo %v: %d, want %d\n%s%s", tc.args, code, tc.code, out, errs)
		}
	}
}
