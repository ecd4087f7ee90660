package provision

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/node/daemon"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// estClient is a client of EST that is none of ours, over one version of TLS and HTTP/1.1.
type estClient struct {
	*http.Client
	t    *testing.T
	root string
}

// estClient makes one; a nil certificate is a visitor.
func (r *running) estClient(t *testing.T, address string, version uint16, cert *tls.Certificate) estClient {
	t.Helper()
	o := tlsconf.ClientOptions{Trust: r.place.trust, ServerRole: identity.RA, Gate: tlsconf.OpenGate(), Visitor: cert == nil}
	if cert != nil {
		o.Credential = must[*tlsconf.Credential](t)(tlsconf.NewCredential(*cert))
	}
	config := must[*tls.Config](t)(tlsconf.Client(o))
	config.MinVersion, config.MaxVersion = version, version
	transport := &http.Transport{TLSClientConfig: config}
	t.Cleanup(transport.CloseIdleConnections)
	return estClient{&http.Client{Transport: transport, Timeout: 30 * time.Second}, t, "https://" + address}
}

// ask returns the status and the body of an answer; code is a password or "".
func (c estClient) ask(method, path string, body []byte, user, code string) (int, []byte, error) {
	c.t.Helper()
	req := must[*http.Request](c.t)(http.NewRequestWithContext(c.t.Context(), method, c.root+path, bytes.NewReader(body)))
	if body != nil {
		req.Header.Set("Content-Type", est.TypeRequest)
	}
	if code != "" {
		req.SetBasicAuth(user, code)
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, b, err
}

// certify has a new key certified, by path.
func (c estClient) certify(path, id, code string) *tls.Certificate {
	c.t.Helper()
	key := must[*ecdsa.PrivateKey](c.t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	csr := must[[]byte](c.t)(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{Organization: []string{"ACME"}, CommonName: id},
	}, key))
	status, body, err := c.ask(http.MethodPost, path, est.EncodeRequest(csr), id, code)
	if err != nil || status != http.StatusOK {
		c.t.Fatalf("%s: %d %s %v", path, status, body, err)
	}
	out := &tls.Certificate{PrivateKey: key}
	for _, cert := range must[[]*x509.Certificate](c.t)(est.DecodeCerts(body)) {
		out.Certificate = append(out.Certificate, cert.Raw)
	}
	return out
}

// TestTLS12 enrols and renews over the listener for clients without TLS 1.3: it has these paths and no others, and what is revoked or
// replaced is refused and cut there as elsewhere. Without its address there is none.
func TestTLS12(t *testing.T) {
	t.Parallel()
	r := start(t)
	if r.ra.Addrs.TLS12 != "" {
		t.Fatalf("a listener that nobody asked for, at %s", r.ra.Addrs.TLS12)
	}
	visitor13 := r.estClient(t, r.ra.Addrs.Terminals, tls.VersionTLS12, nil)
	if _, _, err := visitor13.ask(http.MethodGet, est.PathCACerts, nil, "", ""); err == nil {
		t.Error("the listener of TLS 1.3 takes 1.2")
	}
	if err := r.ra.Stop(); err != nil {
		t.Fatal(err)
	}
	r.config.TLS12, r.config.Overlap = "127.0.0.1:0", daemon.Duration(time.Second)
	r.again()
	legacy := r.ra.Addrs.TLS12
	visitor := r.estClient(t, legacy, tls.VersionTLS12, nil)
	if _, _, err := r.estClient(t, legacy, tls.VersionTLS13, nil).ask(http.MethodGet, est.PathCACerts, nil, "", ""); err == nil {
		t.Error("it takes TLS 1.3")
	}
	if status, body, err := visitor.ask(http.MethodGet, est.PathCACerts, nil, "", ""); err != nil || status != 200 || bytes.ContainsAny(body, "\r\n") {
		t.Errorf("issuers: %d %v, in one line: %q", status, err, body)
	}
	ticket := must[enroll.Ticket](t)(enroll.ParseTicket([]byte(r.ticket("T-1", true))))
	first := visitor.certify(est.PathEnroll, "T-1", string(ticket.Code.Expose()))
	member := r.estClient(t, legacy, tls.VersionTLS12, first)
	for _, c := range []estClient{visitor, member} {
		for _, path := range []string{"/", "/keys", "/enrolment", "/trust-list", "/terminals", "/operations", "/feed", "/metrics", "/readyz", "/crl/terminals",
			est.PathAgreementEnroll, est.PathAgreementCACerts, est.PathPrefix + "serverkeygen", est.PathPrefix + "fullcmc"} {
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				if status, body, err := c.ask(method, path, nil, "", ""); err != nil || status != http.StatusNotFound {
					t.Errorf("%s %s: %d %s %v", method, path, status, body, err)
				}
			}
		}
	}
	second := member.certify(est.PathReenroll, "T-1", "")
	r.refusesTLS12(t, "replaced", first)

	current := r.estClient(t, legacy, tls.VersionTLS12, second)
	config := current.Transport.(*http.Transport).TLSClientConfig
	live := must[*tls.Conn](t)(tls.Dial("tcp", legacy, config))
	defer func() { _ = live.Close() }()
	must[int](t)(io.WriteString(live, "GET "+est.PathAttributes+" HTTP/1.1\r\nHost: x\r\n\r\n"))
	must[int](t)(live.Read(make([]byte, 64)))
	must[*admin.Outcome](t)(r.operator().Do(t.Context(), admin.Operation{Action: "revoke", Terminal: "T-1", Reason: "stolen"}))
	if err := live.SetReadDeadline(time.Now().Add(8 * time.Second)); err != nil { // less than it may be idle
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, live); err != nil && strings.Contains(err.Error(), "timeout") {
		t.Errorf("a live connection is not cut: %v", err)
	}
	r.refusesTLS12(t, "revoked", second)

	// Guesses count whichever way they come: 12 for a terminal, and one more every five seconds.
	csr, code := est.EncodeRequest([]byte("x")), string(ticket.Code.Expose())
	main, begun, let, stopped := r.estClient(t, r.ra.Addrs.Terminals, tls.VersionTLS13, nil), time.Now(), 0, 0
	for i := range 40 {
		status, body, err := []estClient{visitor, main}[i%2].ask(http.MethodPost, est.PathEnroll, csr, "T-1", code)
		switch {
		case err == nil && status == http.StatusTooManyRequests:
			stopped++
		case err == nil && status/100 == 4:
			let++
		default:
			t.Fatalf("a guess: %d %s %v", status, body, err)
		}
	}
	if most := 13 + int(time.Since(begun)/(5*time.Second)); let > most || stopped == 0 {
		t.Errorf("%d guesses were judged by two listeners and %d sent away, want %d at most", let, stopped, most)
	}
}

// refusesTLS12 wants that a certificate opens no connection any more: at once, or after the overlap.
func (r *running) refusesTLS12(t *testing.T, what string, cert *tls.Certificate) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		c := r.estClient(t, r.ra.Addrs.TLS12, tls.VersionTLS12, cert)
		_, _, err := c.ask(http.MethodGet, est.PathCACerts, nil, "", "")
		if tlsconf.Alert(err) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("a %s certificate is let in: %v", what, err)
		}
	}
}
