package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/internal/vaulttest"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
)

// foreign is a client of EST that is none of ours: two scripts of docs/est.md, how they end well, and the certificates that they leave.
type foreign struct {
	name       string
	programs   []string
	enrol      int // its first script on the page; the next one renews
	verified   []string
	first      string
	next       string
	refusedSay string // what it says of a code that is spent
}

var foreigners = []foreign{
	{"curl", []string{"curl", "openssl"}, 0, []string{"tls.pem: OK", "next.pem: OK"}, "tls.pem", "next.pem", "409"},
	{"strongswan", []string{"pki", "openssl"}, 2, []string{"certificate trusted, lifetimes valid"}, "swan.pem", "swan-next.pem", "409"},
}

// TestForeignEST runs the scripts of docs/est.md, with curl and openssl and with strongSwan, against the registration authority,
// with the issuer of the folder and with a real Vault: a client that knows nothing of ours enrols and enrols again.
func TestForeignEST(t *testing.T) {
	t.Run("embedded", func(t *testing.T) { foreignEST(t, func(*authority) {}) })
	t.Run("vault", func(t *testing.T) {
		server := vaulttest.New(t)
		foreignEST(t, func(a *authority) { a.onVault(t, server) })
	})
}

func foreignEST(t *testing.T, prepare func(*authority)) {
	page, err := os.ReadFile("../../docs/est.md")
	check(t, err)
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) != 2*len(foreigners) {
		t.Fatalf("docs/est.md has %d scripts, want enrolment and renewal of %d clients", len(blocks), len(foreigners))
	}
	a := newAuthority(t)
	prepare(a)
	a.ra.doors["terminals-tls12"] = "127.0.0.1:0"
	a.start(t, binaries.shipped)
	defer a.ra.stop(t)
	defer a.keyd.stop(t)
	for _, f := range foreigners {
		t.Run(f.name, func(t *testing.T) {
			for _, program := range f.programs {
				testvec.Program(t, program)
			}
			f.enrols(t, a, blocks[f.enrol][1], blocks[f.enrol+1][1])
		})
	}
}

func (f foreign) enrols(t *testing.T, a *authority, enrol, renew string) {
	const strict = "set -eu -o pipefail\n"
	id := "T-" + strings.ToUpper(f.name)
	a.register(t, id)
	dir := t.TempDir()
	ticket := filepath.Join(dir, "ticket")
	check(t, os.WriteFile(ticket, []byte(a.ticket(t, admin.Operation{Terminal: id})+"\n"), 0o600))
	run := func(script string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "bash", "-c", script)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "RA=https://"+a.ra.doors["terminals"], "RA12=https://"+a.ra.doors["terminals-tls12"],
			"CA="+filepath.Join(a.dir, "trust", "services.pem"), "TENANT="+tenant, "TERMINAL="+id, "TICKET_FILE="+ticket)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := run(strict + enrol + renew)
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, a.ra.log)
	}
	for _, want := range f.verified {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not said:\n%s", want, out)
		}
	}
	row, err := a.admin().Terminal(t.Context(), id)
	check(t, err)
	issued, err := run("openssl x509 -in " + f.first + " -noout -serial; openssl x509 -in " + f.next +
		" -noout -serial -ext subjectAltName,extendedKeyUsage,basicConstraints")
	check(t, err)
	lower := strings.ToLower(issued)
	if !strings.Contains(lower, "serial="+row.PreviousSerial) || !strings.Contains(lower, "serial="+row.Serial) ||
		!strings.Contains(issued, "URI:latchkey://"+tenant+"/terminal/"+id) || strings.Contains(issued, "CA:TRUE") ||
		!strings.Contains(issued, "TLS Web Client Authentication") || strings.Contains(issued, "Server Authentication") {
		t.Errorf("the registry has %s after %s, openssl shows\n%s", row.Serial, row.PreviousSerial, issued)
	}
	// The first script once more begins with a spent code, and another key: refused, with the reason.
	out, err = run(strict + enrol)
	if err == nil || !strings.Contains(out, f.refusedSay) {
		t.Errorf("the spent code again: %v\n%s", err, out)
	}
	t.Logf("%s: certificate %s, renewed as %s; the spent code with another key is refused", f.name, row.PreviousSerial, row.Serial)
}
