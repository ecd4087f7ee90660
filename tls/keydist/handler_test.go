package keydist_test

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/serve"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/keydist"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// site is a host behind mutual TLS, as in production.
type site struct {
	*laboratory
	services *catest.Fake
	addr     string
	trust    tlsconf.Trust
}

func newSite(t *testing.T) *site {
	t.Helper()
	l := newLaboratory(t)
	l.now = time.Now() // what crypto/tls goes by
	l.terminals = must[*catest.Fake](t)(catest.NewFake(identity.TerminalCA, catest.Twist{}, l.clock))
	l.keydist = must[*catest.Fake](t)(catest.NewFake(identity.KeyDistCA, catest.Twist{}, l.clock))
	s := &site{laboratory: l, services: must[*catest.Fake](t)(catest.NewFake(identity.ServicesCA, catest.Twist{}, l.clock))}
	s.trust = tlsconf.Trust{Terminals: roots(l.terminals), KeyDist: roots(l.keydist), Services: roots(s.services)}
	signer := newKey(t, elliptic.P256())
	l.config.Issuer, l.config.Trust, l.config.Signer = l.keydist, s.trust, signer
	l.config.Chain = l.issue(l.keydist, identity.KDH, "KDH-SIGNER-1", signer)
	l.start()
	config := must[*tls.Config](t)(tlsconf.Server(tlsconf.ServerOptions{
		Credential: s.credential(l.keydist, identity.KDH, "KDH-1", "localhost"), Trust: s.trust,
		Accept: []identity.Role{identity.RA, identity.Decrypt}, Gate: tlsconf.OpenGate(),
	}))
	ln := must[net.Listener](t)(new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0"))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	quiet := slog.New(slog.DiscardHandler)
	go func() {
		ended <- serve.Run(ctx, ln, serve.Options{Handler: serve.Wrap(keydist.Handler(l.host), quiet, nil), TLS: config, Logger: quiet})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	s.addr = "https://" + ln.Addr().String()
	return s
}

func (s *site) credential(f *catest.Fake, role identity.Role, name string, hosts ...string) *tlsconf.Credential {
	s.tb.Helper()
	key := newKey(s.tb, elliptic.P256())
	chain := must[[]*x509.Certificate](s.tb)(f.Issue(s.tb.Context(), ca.Request{
		PublicKey: key.Public(), Identity: identity.Identity{Tenant: "ACME", Role: role, Name: name}, DNSNames: hosts,
	}))
	return must[*tlsconf.Credential](s.tb)(tlsconf.NewCredential(tls.Certificate{Certificate: der(chain), PrivateKey: key}))
}

// http returns a client with a certificate of the services authority.
func (s *site) http(role identity.Role) *http.Client {
	s.tb.Helper()
	config := must[*tls.Config](s.tb)(tlsconf.Client(tlsconf.ClientOptions{
		Credential: s.credential(s.services, role, "X-1"), Trust: s.trust, ServerRole: identity.KDH, ServerName: "localhost", Gate: tlsconf.OpenGate(),
	}))
	transport := &http.Transport{TLSClientConfig: config}
	s.tb.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (s *site) client(role identity.Role) *keydist.Client {
	s.tb.Helper()
	return keydist.NewClient(s.addr, s.http(role))
}

func TestOverTheWire(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	c, ctx := s.client(identity.RA), t.Context()
	d := s.enrol("T-1", elliptic.P256())
	d.agreement = must[[]*x509.Certificate](t)(c.Certify(ctx, d.certifyOrder(d.key)))
	o := d.order("CODE", 1)
	got := must[*remote.Delivery](t)(c.Deliver(ctx, o))
	opened := must[*remote.Opened](t)(d.open(o, got))
	defer opened.Wipe()
	if err := c.Settle(ctx, d.settlement("CODE", 1, got.KeyID, keyset.SlotActive)); err != nil {
		t.Fatal(err)
	}
	if issued := s.store.IssuedAll(); len(issued) != 1 || issued[0].State != keyset.SlotActive {
		t.Errorf("stored %+v", issued)
	}
	for _, r := range s.store.Leaves() {
		if r.Actor != "X-1" || r.Role != "ra" || r.Source != "127.0.0.1" {
			t.Errorf("record %+v", r)
		}
	}
	err := c.Settle(ctx, d.settlement("CODE", 2, got.KeyID, keyset.SlotActive))
	refused(t, "over the wire", err, keydist.CodeKeyIDMismatch)
	o.KeySet = "WIDE"
	_, err = c.Deliver(ctx, o)
	refused(t, "over the wire", err, keydist.CodeCurveMismatch)
	if r, ok := errors.AsType[*keydist.Refusal](err); !ok || r.Detail != "want P-521" {
		t.Errorf("detail of %v", err)
	}
	_, err = s.client(identity.Decrypt).Certify(ctx, d.certifyOrder(d.key))
	refused(t, "another role", err, keydist.CodeRoleNotPermitted)
}

// TestBadRequests gives each kind of them a stable status and code, records what came from the registration authority, and
// gives out nothing.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	client := s.http(identity.RA)
	d := s.enrol("T-1", elliptic.P256())
	o := d.order("CODE", 1)
	good := must[[]byte](t)(o.Marshal())
	for _, c := range []struct {
		name, method, path, media string
		body                      []byte
		status                    int
		code                      string
	}{
		{"no body", "POST", keydist.PathDelivery, keydist.ContentType, nil, 400, "OrderMalformed"},
		{"no CBOR", "POST", keydist.PathAgreement, keydist.ContentType, []byte("{}"), 400, "OrderMalformed"},
		{"another order", "POST", keydist.PathSettlement, keydist.ContentType, good, 400, "OrderMalformed"},
		{"bytes after the order", "POST", keydist.PathDelivery, keydist.ContentType, append(bytes.Clone(good), 0), 400, "OrderMalformed"},
		{"too long", "POST", keydist.PathDelivery, keydist.ContentType, make([]byte, serve.MaxBody+1), 413, serve.CodeBodyTooLarge},
		{"JSON", "POST", keydist.PathDelivery, "application/json", good, 415, serve.CodeMediaType},
		{"no media type", "POST", keydist.PathDelivery, "", good, 415, serve.CodeMediaType},
		{"another method", "GET", keydist.PathDelivery, "", nil, 405, serve.CodeMethodNotAllowed},
		{"another method of settlements", "PUT", keydist.PathSettlement, keydist.ContentType, good, 405, serve.CodeMethodNotAllowed},
		{"no endpoint", "POST", "/keys", keydist.ContentType, good, 404, serve.CodeNotFound},
		{"slash at the end", "POST", keydist.PathDelivery + "/", keydist.ContentType, good, 404, serve.CodeNotFound},
		{"two slashes", "POST", "/" + keydist.PathDelivery, keydist.ContentType, good, 404, serve.CodeNotFound},
		{"upwards", "POST", "/x/.." + keydist.PathDelivery, keydist.ContentType, good, 404, serve.CodeNotFound},
		{"escaped", "POST", "/%64elivery", keydist.ContentType, good, 404, serve.CodeNotFound},
	} {
		req := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), c.method, s.addr, bytes.NewReader(c.body)))
		req.URL.Opaque = "//" + req.URL.Host + c.path
		if c.media != "" {
			req.Header.Set("Content-Type", c.media)
		}
		resp := must[*http.Response](t)(client.Do(req))
		body := must[[]byte](t)(io.ReadAll(resp.Body))
		_ = resp.Body.Close()
		var p struct{ Code, Message, Hint string }
		if err := json.Unmarshal(body, &p); err != nil || resp.StatusCode != c.status || p.Code != c.code || p.Message == "" || p.Hint == "" {
			t.Errorf("%s: %d %s (%v), want %d %s", c.name, resp.StatusCode, body, err, c.status, c.code)
		}
	}
	if n := len(s.store.IssuedAll()); n != 0 {
		t.Errorf("%d key ids were given out", n)
	}
	for _, r := range s.store.Leaves() {
		if r.Result != "REFUSED" || r.Reason != string(keydist.CodeOrderMalformed) {
			t.Errorf("record %+v", r)
		}
	}
	if n := len(s.store.Leaves()); n != 4 {
		t.Errorf("%d records, want 4", n)
	}
}

// TestWithoutTLS shows that the handler names nobody by itself.
func TestWithoutTLS(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, keydist.PathDelivery, strings.NewReader("x"))
	r.Header.Set("Content-Type", keydist.ContentType)
	keydist.Handler(l.host).ServeHTTP(w, r)
	if w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), string(keydist.CodeRoleNotPermitted)) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestUnavailableIsTold gives the registration authority a time to come back, and not the cause.
func TestUnavailableIsTold(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.store.Fail = func() error { return errors.New("disk of rack 7") }
	d := s.enrol("T-1", elliptic.P256())
	order := d.order("CODE", 1)
	body := must[[]byte](t)(order.Marshal())
	resp := must[*http.Response](t)(s.http(identity.RA).Post(s.addr+keydist.PathDelivery, keydist.ContentType, bytes.NewReader(body)))
	defer func() { _ = resp.Body.Close() }()
	text := string(must[[]byte](t)(io.ReadAll(resp.Body)))
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || strings.Contains(text, "rack") {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, text)
	}
}

// answers is a host of which the test decides what it answers. Nil closes the connection.
func answers(t *testing.T, f func(calls int64) (status int, media string, body []byte)) (*keydist.Client, *atomic.Int64) {
	t.Helper()
	calls := new(atomic.Int64)
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := calls.Add(1)
		_, _ = io.Copy(io.Discard, r.Body) // whatever it is
		status, media, body := f(n)
		if status == 0 {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", media)
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		_, _ = w.Write(body) // the client may have enough
	}))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	t.Cleanup(srv.Close)
	return keydist.NewClient(srv.URL, srv.Client()), calls
}

// TestTheClientRepeats only what may be given twice.
func TestTheClientRepeats(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d := l.enrol("T-1", elliptic.P256())
	gone := func(int64) (int, string, []byte) { return 0, "", nil }
	c, calls := answers(t, gone)
	if _, err := c.Deliver(t.Context(), d.order("CODE", 1)); err == nil || calls.Load() != 1 {
		t.Errorf("a delivery was sent %d times: %v", calls.Load(), err)
	}
	c, calls = answers(t, gone)
	if _, err := c.Certify(t.Context(), d.certifyOrder(d.key)); err == nil || calls.Load() != 2 {
		t.Errorf("a certification was sent %d times: %v", calls.Load(), err)
	}
	c, calls = answers(t, func(n int64) (int, string, []byte) { return map[int64]int{2: 204}[n], "", nil })
	if err := c.Settle(t.Context(), d.settlement("CODE", 1, keyID(t, "FFFF9876543210E00000"), keyset.SlotActive)); err != nil || calls.Load() != 2 {
		t.Errorf("a settlement was sent %d times: %v", calls.Load(), err)
	}
	c, calls = answers(t, func(int64) (int, string, []byte) {
		return 503, "application/json", []byte(`{"Code":"StoreUnavailable","Message":"x","Hint":"y"}`)
	})
	err := c.Settle(t.Context(), d.settlement("CODE", 1, keyID(t, "FFFF9876543210E00000"), keyset.SlotActive))
	refused(t, "answered", err, keydist.CodeStoreUnavailable)
	if calls.Load() != 1 {
		t.Errorf("an order that was answered was sent %d times", calls.Load())
	}
}

// TestTheClientRefuses answers that are none.
func TestTheClientRefuses(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d, other := l.enrol("T-1", elliptic.P256()), l.enrol("T-2", elliptic.P256())
	o := d.order("CODE", 1)
	delivery := must[[]byte](t)(must[*remote.Delivery](t)(l.host.Deliver(t.Context(), ra, o)).Marshal())
	certificates := func(chain []*x509.Certificate) []byte { return must[[]byte](t)(keydist.EncodeCertificates(chain)) }
	for name, a := range map[string]struct {
		status int
		media  string
		body   []byte
	}{
		"another media type": {200, "text/html", delivery}, "no content": {204, "", nil}, "a redirect": {307, keydist.ContentType, delivery},
		"damaged": {200, keydist.ContentType, delivery[:len(delivery)-1]}, "too long": {200, keydist.ContentType, make([]byte, 1<<17)},
		"an error that is none": {500, "text/plain", []byte("oops")}, "an unknown code": {400, "application/json", []byte(`{"Code":"X","Message":"y"}`)},
		"a code with another status": {400, "application/json", []byte(`{"Code":"StoreFull","Message":"y"}`)},
		"an endless error":           {500, "application/json", bytes.Repeat([]byte(" "), 1<<17)},
		"created":                    {201, keydist.ContentType, delivery},
	} {
		c, _ := answers(t, func(int64) (int, string, []byte) { return a.status, a.media, a.body })
		if got, err := c.Deliver(t.Context(), o); !errors.Is(err, keydist.ErrAnswer) || got != nil {
			t.Errorf("%s: %v, %v, want ErrAnswer", name, got, err)
		}
	}
	for name, body := range map[string][]byte{
		"another terminal's": certificates(other.agreement), "another role's": certificates(d.tls), "another key's": certificates(l.enrol("T-1", elliptic.P256()).agreement),
		"none": certificates(nil), "a delivery": delivery,
	} {
		c, _ := answers(t, func(int64) (int, string, []byte) { return 200, keydist.ContentType, body })
		if got, err := c.Certify(t.Context(), d.certifyOrder(d.key)); !errors.Is(err, keydist.ErrAnswer) || got != nil {
			t.Errorf("a certificate, %s: %v, %v, want ErrAnswer", name, got, err)
		}
	}
	c, _ := answers(t, func(int64) (int, string, []byte) { return 200, keydist.ContentType, nil })
	if err := c.Settle(t.Context(), d.settlement("CODE", 1, keyID(t, "FFFF9876543210E00000"), keyset.SlotActive)); !errors.Is(err, keydist.ErrAnswer) {
		t.Errorf("settled with content: %v", err)
	}
	c, calls := answers(t, func(int64) (int, string, []byte) { return 200, keydist.ContentType, delivery })
	if got, err := c.Deliver(t.Context(), o); err != nil || got == nil {
		t.Errorf("the good answer: %v", err)
	}
	if _, err := c.Deliver(t.Context(), remote.Order{}); err == nil || calls.Load() != 1 {
		t.Errorf("an order that is none was sent: %v", err)
	}
}

// deadlines is a transport that reports by when each request wants its answer.
type deadlines chan time.Duration

func (d deadlines) RoundTrip(r *http.Request) (*http.Response, error) {
	until, _ := r.Context().Deadline()
	d <- time.Until(until)
	return nil, errors.New("nobody there")
}

// TestCallsAreBounded wants seven seconds for a call, both times it is sent included.
func TestCallsAreBounded(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	d := l.enrol("T-1", elliptic.P256())
	seen := make(deadlines, 8)
	c := keydist.NewClient("https://localhost", &http.Client{Transport: seen})
	_, err1 := c.Deliver(t.Context(), d.order("CODE", 1))
	_, err2 := c.Certify(t.Context(), d.certifyOrder(d.key))
	err3 := c.Settle(t.Context(), d.settlement("CODE", 1, keyID(t, "FFFF9876543210E00000"), keyset.SlotActive))
	for _, err := range []error{err1, err2, err3} {
		if err == nil || errors.As(err, new(*keydist.Refusal)) {
			t.Errorf("nobody there: %v", err)
		}
	}
	close(seen)
	n := 0
	for left := range seen {
		n++
		if left <= 0 || left > 7*time.Second {
			t.Errorf("request %d has %v", n, left)
		}
	}
	if n != 5 {
		t.Errorf("%d requests, want 5", n)
	}
}

// TestBaseURLs wants https, a host and nothing else, before anything is sent.
func TestBaseURLs(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t)
	order := l.enrol("T-1", elliptic.P256()).order("CODE", 1)
	for url, good := range map[string]bool{
		"": false, "localhost:8448": false, "http://localhost:8448": false, "https://": false, "https://u@localhost": false,
		"https://localhost/x": false, "https://localhost?x": false, "https://localhost#x": false, "https://local host": false,
		"HTTPS://localhost": false, "https://localhost:8448": true, "https://127.0.0.1:8448/": true,
	} {
		seen := make(deadlines, 2)
		if _, err := keydist.NewClient(url, &http.Client{Transport: seen}).Deliver(t.Context(), order); err == nil || (len(seen) == 1) != good {
			t.Errorf("%q: %v, %d requests", url, err, len(seen))
		}
	}
}

// FuzzParseCertificates holds the reader of answers to one spelling.
func FuzzParseCertificates(f *testing.F) {
	l := newLaboratory(f)
	good := must[[]byte](f)(keydist.EncodeCertificates(l.enrol("T-1", elliptic.P256()).agreement))
	f.Add(good)
	f.Add(append(bytes.Clone(good), 0))
	f.Add([]byte{0xa2, 0x61, 'v', 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		chain, err := keydist.ParseCertificates(b)
		if err != nil {
			if chain != nil || !errors.Is(err, keydist.ErrAnswer) {
				t.Fatalf("%v, %v", chain, err)
			}
			return
		}
		again, err := keydist.EncodeCertificates(chain)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x is written as %x (%v)", b, again, err)
		}
	})
}
