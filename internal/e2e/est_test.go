package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
)

// TestForeignEST runs the script of docs/est.md, with curl and openssl, against the registration authority: a client that
// knows nothing of ours enrols and enrols again.
func TestForeignEST(t *testing.T) {
	for _, program := range []string{"curl", "openssl"} {
		testvec.Program(t, program)
	}
	page, err := os.ReadFile("../../docs/est.md")
	check(t, err)
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) != 2 {
		t.Fatalf("docs/est.md has %d scripts, want enrolment and renewal", len(blocks))
	}
	script := "set -eu -o pipefail\n"
	for _, b := range blocks {
		script += b[1]
	}
	a := newAuthority(t)
	a.start(t, binaries.shipped)
	defer a.ra.stop(t)
	defer a.keyd.stop(t)
	a.register(t, "T-CURL")
	dir := t.TempDir()
	ticket := filepath.Join(dir, "ticket")
	check(t, os.WriteFile(ticket, []byte(a.ticket(t, admin.Operation{Terminal: "T-CURL"})+"\n"), 0o600))
	run := func(script string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "RA=https://"+a.ra.doors["terminals"], "CA="+filepath.Join(a.dir, "trust", "services.pem"),
			"TENANT="+tenant, "TERMINAL=T-CURL", "TICKET_FILE="+ticket)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := run(script)
	if err != nil || !strings.Contains(out, "tls.pem: OK") || !strings.Contains(out, "next.pem: OK") {
		t.Fatalf("%v\n%s\n%s", err, out, a.ra.log)
	}
	row, err := a.admin().Terminal(t.Context(), "T-CURL")
	check(t, err)
	issued, err := run(`openssl x509 -in tls.pem -noout -serial; openssl x509 -in next.pem -noout -serial -ext subjectAltName,extendedKeyUsage,basicConstraints`)
	check(t, err)
	lower := strings.ToLower(issued)
	if !strings.Contains(lower, "serial="+row.PreviousSerial) || !strings.Contains(lower, "serial="+row.Serial) ||
		!strings.Contains(issued, "URI:latchkey://"+tenant+"/terminal/T-CURL") || strings.Contains(issued, "CA:TRUE") ||
		!strings.Contains(issued, "TLS Web Client Authentication") || strings.Contains(issued, "Server Authentication") {
		t.Errorf("the registry has %s after %s, openssl shows\n%s", row.Serial, row.PreviousSerial, issued)
	}
	// The script once more begins with a spent code, and another key: refused, with the reason.
	out, err = run("set -eu -o pipefail\n" + blocks[0][1])
	if err == nil || !strings.Contains(out, "409") {
		t.Errorf("the spent code again: %v\n%s", err, out)
	}
	t.Logf("curl and openssl: certificate %s, renewed as %s; the spent code with another key is refused", row.PreviousSerial, row.Serial)
}
