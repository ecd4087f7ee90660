package provision

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/deploy"
	"github.com/latchkey-pos/latchkey/internal/node/nodetest"
	"github.com/latchkey-pos/latchkey/tls/ca/embedded"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
)

// openssl runs the command line that third parties have, and returns what it says.
func openssl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("openssl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// current returns the serial number of the certificate of a terminal.
func (r *running) current(id string) string {
	r.tb.Helper()
	return must[*admin.Terminal](r.tb)(r.operator().Terminal(r.tb.Context(), id)).Serial
}

// crlNumber fetches the revocation list, has openssl verify it, and returns its number and whether it lists a serial number.
func (r *running) crlNumber(t *testing.T, serial string) (number int64, listed bool) {
	t.Helper()
	status, der := nodetest.Get(t, "http://"+r.ra.Addrs.Publication+provision.PathCRL)
	file := filepath.Join(t.TempDir(), "crl.der")
	if err := os.WriteFile(file, []byte(der), 0o600); err != nil || status != http.StatusOK {
		t.Fatalf("revocation list: %d, %v", status, err)
	}
	out := openssl(t, "crl", "-inform", "DER", "-in", file, "-noout", "-text", "-crlnumber", "-CAfile", r.issuing(t))
	found := regexp.MustCompile(`crlNumber=0x([0-9A-F]+)`).FindStringSubmatch(out)
	if !strings.Contains(out, "verify OK") || found == nil {
		t.Fatalf("openssl crl: %s", out)
	}
	return must[int64](t)(strconv.ParseInt(found[1], 16, 64)), strings.Contains(strings.ToLower(out), "serial number: "+serial)
}

// issuing is a file with the certificates of the terminals authority.
func (r *running) issuing(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(r.place.dir, "ca", identity.TerminalCA.String())
	both := append(must[[]byte](t)(os.ReadFile(filepath.Join(dir, embedded.IssuingFile))), must[[]byte](t)(os.ReadFile(filepath.Join(dir, embedded.RootFile)))...)
	file := filepath.Join(t.TempDir(), "chain.pem")
	if err := os.WriteFile(file, both, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// says asks for the status of a serial number as a third party does.
func (r *running) says(t *testing.T, serial string, more ...string) string {
	t.Helper()
	return openssl(t, slices.Concat([]string{"ocsp"}, more, []string{
		"-issuer", r.issuing(t), "-serial", "0x" + serial, "-url", "http://" + r.ra.Addrs.Publication + provision.PathStatus,
		"-CAfile", deploy.TrustPath(r.place.dir, identity.TerminalCA), "-resp_text",
	})...)
}

// saysByGET asks by GET, in the bare base64 that some clients send and escaped by the letter, and has openssl read the
// answers.
func (r *running) saysByGET(t *testing.T, serial string) string {
	t.Helper()
	dir := t.TempDir()
	question, answer := filepath.Join(dir, "question.der"), filepath.Join(dir, "answer.der")
	openssl(t, "ocsp", "-no_nonce", "-issuer", r.issuing(t), "-serial", "0x"+serial, "-reqout", question)
	text := base64.StdEncoding.EncodeToString(must[[]byte](t)(os.ReadFile(question)))
	bareStatus, bare := nodetest.Get(t, "http://"+r.ra.Addrs.Publication+provision.PathStatus+"/"+text)
	escapedStatus, escaped := nodetest.Get(t, "http://"+r.ra.Addrs.Publication+provision.PathStatus+"/"+url.QueryEscape(text))
	if bareStatus != http.StatusOK || escapedStatus != http.StatusOK {
		t.Fatalf("by GET: %d and %d, %q and %q", bareStatus, escapedStatus, bare, escaped)
	}
	var out string
	for _, der := range []string{bare, escaped} {
		if err := os.WriteFile(answer, []byte(der), 0o600); err != nil {
			t.Fatal(err)
		}
		out += openssl(t, "ocsp", "-no_nonce", "-issuer", r.issuing(t), "-serial", "0x"+serial, "-respin", answer,
			"-CAfile", deploy.TrustPath(r.place.dir, identity.TerminalCA), "-resp_text")
	}
	return out
}

// TestThirdParties has openssl ask for revocation lists and for the status of single certificates.
func TestThirdParties(t *testing.T) {
	t.Parallel()
	r := start(t)
	if status, _ := nodetest.Get(t, "http://"+r.ra.Addrs.Publication+provision.PathStatus); status != http.StatusNotFound {
		t.Errorf("where nobody said so, a status is answered: %d", status)
	}
	if err := r.ra.Stop(); err != nil {
		t.Fatal(err)
	}
	r.config.OCSP = true
	r.again()
	for _, id := range []string{"T-1", "T-2"} {
		if err := r.enrol(t.TempDir(), id, r.ticket(id, true)); err != nil {
			t.Fatal(err)
		}
	}
	good, revoked := r.current("T-1"), r.current("T-2")
	before, _ := r.crlNumber(t, revoked)
	must[*admin.Outcome](t)(r.operator().Do(t.Context(), admin.Operation{Action: "revoke", Terminal: "T-2", Reason: "stolen"}))
	for _, c := range []struct{ serial, want string }{
		{good, ": good"}, {revoked, ": revoked"}, {"1234567890abcdef1234567890abcdef", ": unknown"},
	} {
		for _, hash := range []string{"-sha1", "-sha256"} {
			out := r.says(t, c.serial, hash)
			if !strings.Contains(out, "Response verify OK") || !strings.Contains(out, "0x"+c.serial+c.want) {
				t.Errorf("%s: want %q\n%s", c.serial, c.want, out)
			}
		}
	}
	for _, c := range []struct{ serial, want string }{{good, ": good"}, {revoked, ": revoked"}} {
		if out := r.saysByGET(t, c.serial); strings.Count(out, "Response verify OK") != 2 || strings.Count(out, "0x"+c.serial+c.want) != 2 {
			t.Errorf("%s by GET: want %q\n%s", c.serial, c.want, out)
		}
	}
	for name, path := range map[string]string{"nothing": "/", "noise": "/noise", "slashes": "//", "dots": "/../", "too much": "/" + strings.Repeat("A", 12<<10)} {
		status, body := nodetest.Get(t, "http://"+r.ra.Addrs.Publication+provision.PathStatus+path)
		if status != http.StatusOK || body != "\x30\x03\x0a\x01\x01" { // malformedRequest
			t.Errorf("%s by GET: %d %x", name, status, body)
		}
	}
	res := must[*http.Response](t)(http.Post("http://"+r.ra.Addrs.Publication+provision.PathStatus+"/AAAA", "application/ocsp-request", strings.NewReader("x")))
	if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusMethodNotAllowed || res.Header.Get("Allow") != http.MethodGet {
		t.Errorf("POST to the address of a question: %d, %v", res.StatusCode, err)
	}
	if _, metrics := nodetest.Get(t, "http://"+r.ra.Addrs.Admin+"/metrics"); !strings.Contains(metrics, `{route="GET /ocsp/terminals/",status="200"}`) || strings.Contains(metrics, "noise") {
		t.Error("questions by GET are not counted as one route")
	}
	if out := r.says(t, revoked, "-no_nonce"); !strings.Contains(out, "(0x9)") {
		t.Errorf("revoked without its reason:\n%s", out)
	}
	if err := r.ra.Stop(); err != nil {
		t.Fatal(err)
	}
	r.again()
	after, listed := r.crlNumber(t, revoked)
	if after <= before || !listed {
		t.Errorf("revocation list %d after %d, after a restart; listed: %t", after, before, listed)
	}
	if out := r.says(t, revoked); !strings.Contains(out, ": revoked") {
		t.Errorf("after a restart:\n%s", out)
	}
	for name, body := range map[string]string{"nothing": "", "noise": "noise", "too much": strings.Repeat("x", 8<<10)} {
		res, err := http.Post("http://"+r.ra.Addrs.Publication+provision.PathStatus, "application/ocsp-request", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		_, err = got.ReadFrom(res.Body)
		if err := res.Body.Close(); err != nil {
			t.Error(err)
		}
		if err != nil || !bytes.Equal(got.Bytes(), []byte{0x30, 3, 0x0a, 1, 1}) { // malformedRequest
			t.Errorf("%s: %d %x %v", name, res.StatusCode, got.Bytes(), err)
		}
	}
}
