package provision_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/serve"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// site is the listener of a registration authority for terminals, over TLS.
type site struct {
	*laboratory
	url         string
	connections *tlsconf.Connections
}

func (l *laboratory) serve() *site {
	t := l.t
	t.Helper()
	s := &site{laboratory: l, connections: new(tlsconf.Connections)}
	key, chain := l.serverCertificate()
	credential := must[*tlsconf.Credential](t)(tlsconf.NewCredential(tlsCertificate(key, chain)))
	config := must[*tls.Config](t)(tlsconf.Server(tlsconf.ServerOptions{
		Credential: credential, Trust: l.trust(), Accept: []identity.Role{identity.Terminal}, Gate: l.engine, Visitors: true, Clock: l.clock.time,
	}))
	ln := must[net.Listener](t)(new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0"))
	server := &http.Server{
		Handler:   s.connections.Guard(l.engine, serve.Wrap(provision.TerminalHandler(l.engine), l.config.Logger, nil)),
		TLSConfig: config, ConnState: s.connections.ConnState, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute,
	}
	ended := make(chan struct{})
	go func() { _ = server.ServeTLS(ln, "", ""); close(ended) }()
	t.Cleanup(func() { _ = server.Close(); <-ended })
	s.url = "https://" + ln.Addr().String()
	return s
}

func (l *laboratory) trust() tlsconf.Trust {
	return tlsconf.Trust{Terminals: pool(l.terminals.Fake), Services: pool(l.services), KeyDist: pool(l.keydist)}
}

func (l *laboratory) serverCertificate() (*ecdsa.PrivateKey, []*x509.Certificate) {
	l.t.Helper()
	key := newKey(l.t)
	chain, err := l.services.Issue(l.t.Context(), hosted(key, identity.Identity{Tenant: tenant, Role: identity.RA, Name: "RA-1"}))
	check(l.t, err)
	return key, chain
}

func tlsCertificate(key *ecdsa.PrivateKey, chain []*x509.Certificate) tls.Certificate {
	c := tls.Certificate{PrivateKey: key}
	for _, cert := range chain {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	return c
}

// client connects with a certificate, or as a visitor.
func (s *site) client(key *ecdsa.PrivateKey, chain []*x509.Certificate) *http.Client {
	s.t.Helper()
	o := tlsconf.ClientOptions{
		Trust: s.trust(), ServerRole: identity.RA, Gate: tlsconf.OpenGate(), Clock: s.clock.time, ServerName: "127.0.0.1", Visitor: key == nil,
	}
	if key != nil {
		o.Credential = must[*tlsconf.Credential](s.t)(tlsconf.NewCredential(tlsCertificate(key, chain)))
	}
	transport := &http.Transport{TLSClientConfig: must[*tls.Config](s.t)(tlsconf.Client(o)), ForceAttemptHTTP2: false}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (s *site) member(d *device) *http.Client { return s.client(d.key, d.chain) }

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) code(t testing.TB) string {
	t.Helper()
	var p struct{ Code, Message, Hint string }
	if err := json.Unmarshal(a.body, &p); err != nil || p.Message == "" {
		t.Fatalf("body %q is no problem: %v", a.body, err)
	}
	return p.Code
}

func (s *site) call(c *http.Client, method, path, media string, body []byte, change ...func(*http.Request)) (answer, error) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, bytes.NewReader(body))
	check(s.t, err)
	if media != "" {
		req.Header.Set("Content-Type", media)
	}
	for _, f := range change {
		f(req)
	}
	res, err := c.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, b}, err
}

func (s *site) must(c *http.Client, method, path, media string, body []byte, change ...func(*http.Request)) answer {
	s.t.Helper()
	return must[answer](s.t)(s.call(c, method, path, media, body, change...))
}

func basic(user string, code secret.Bytes) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(user, string(code.Expose())) }
}

// certs reads an EST answer.
func certs(t testing.TB, a answer) []*x509.Certificate {
	t.Helper()
	if a.status != http.StatusOK || a.header.Get("Content-Type") != "application/pkcs7-mime; smime-type=certs-only" ||
		a.header.Get("Content-Transfer-Encoding") != "base64" {
		t.Fatalf("%d %v %s", a.status, a.header, a.body)
	}
	return must[[]*x509.Certificate](t)(est.DecodeCerts(a.body))
}

// TestTerminalStory onboards a terminal over TLS: first trust, both certificates, its assignment, its key, and a renewal.
func TestTerminalStory(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	s := l.serve()
	l.register("T-1")
	code := l.code("T-1")
	visitor := s.client(nil, nil)
	if a := s.must(visitor, "GET", provision.PathTrustList, "", nil); a.status != 200 || string(a.body) != "trust list" {
		t.Errorf("trust list: %d %s", a.status, a.body)
	}
	if chain := certs(t, s.must(visitor, "GET", est.PathCACerts, "", nil)); len(chain) != 2 || !chain[1].Equal(l.terminals.Chain()[1]) {
		t.Errorf("cacerts: %d", len(chain))
	}
	a := s.must(visitor, "GET", est.PathAttributes, "", nil)
	der := must[[]byte](t)(est.DecodeRequest(a.body))
	if _, err := est.ParseAttributes(der); err != nil || a.header.Get("Content-Type") != "application/csrattrs" {
		t.Errorf("csrattrs: %v %v", err, a.header)
	}
	d := l.device("T-1")
	csr := est.EncodeRequest(l.csr(d.key, identity.Terminal, "T-1"))
	d.chain = certs(t, s.must(visitor, "POST", est.PathEnroll, est.TypeRequest, csr, basic("T-1", code)))
	again := certs(t, s.must(visitor, "POST", est.PathEnroll, est.TypeRequest, csr, basic("T-1", code)))
	if !again[0].Equal(d.chain[0]) {
		t.Error("the same request got another certificate")
	}
	c := s.member(d)
	if chain := certs(t, s.must(c, "GET", est.PathAgreementCACerts, "", nil)); !chain[len(chain)-1].Equal(l.keydist.Chain()[1]) {
		t.Error("agreement/cacerts has another root")
	}
	d.agreement = newKey(t)
	csr = est.EncodeRequest(l.csr(d.agreement, identity.Agreement, "T-1"))
	d.agreed = certs(t, s.must(c, "POST", est.PathAgreementEnroll, est.TypeRequest, csr))
	a = s.must(c, "GET", provision.PathEnrolment, "", nil)
	if as := must[*remote.Assignment](t)(remote.ParseAssignment(a.body)); a.header.Get("Content-Type") != "application/cbor" || !as.Slots[0].Wanted {
		t.Errorf("assignment %+v", as)
	}
	s.fetchOverTLS(d)
	next := newKey(t)
	csr = est.EncodeRequest(l.csr(next, identity.Terminal, "T-1"))
	chain := certs(t, s.must(c, "POST", est.PathReenroll, est.TypeRequest, csr))
	a = s.must(c, "GET", provision.PathEnrolment, "", nil)
	if a.status != http.StatusForbidden || a.code(t) != string(provision.CodeCertificateSuperseded) {
		t.Errorf("over the certificate before: %d %s", a.status, a.body)
	}
	d.key, d.chain = next, chain
	if a = s.must(s.member(d), "GET", provision.PathEnrolment, "", nil); a.status != 200 {
		t.Errorf("over the new certificate: %d %s", a.status, a.body)
	}
}

// fetchOverTLS fetches a key and opens it with what this end knows of the connection.
func (s *site) fetchOverTLS(d *device) {
	t := s.t
	t.Helper()
	req := &remote.Request{Slot: 1}
	_, _ = rand.Read(req.Nonce[:])
	r, err := http.NewRequestWithContext(t.Context(), "POST", s.url+provision.PathKeys, bytes.NewReader(must[[]byte](t)(req.Marshal())))
	check(t, err)
	r.Header.Set("Content-Type", "application/cbor")
	res, err := s.member(d).Do(r)
	check(t, err)
	defer func() { _ = res.Body.Close() }()
	body := must[[]byte](t)(io.ReadAll(res.Body))
	if res.StatusCode != 200 {
		t.Fatalf("keys: %d %s", res.StatusCode, body)
	}
	exported := must[[]byte](t)(res.TLS.ExportKeyingMaterial(remote.ExporterLabel, nil, 32))
	binding := remote.Binding{
		Tenant: tenant, Terminal: d.id, Slot: 1, TLS: d.chain[0], Agreement: d.agreed[0], Nonce: req.Nonce, Exporter: [32]byte(exported),
	}
	private, err := d.agreement.ECDH()
	check(t, err)
	o := remote.OpenOptions{Roots: pool(s.keydist), Now: s.clock.time(), Environment: keyset.Test, KeySet: "DATA"}
	opened, err := remote.Open(must[*remote.Delivery](t)(remote.ParseDelivery(body)), binding, private, o)
	check(t, err)
	opened.Key.Wipe()
}

// TestRolesAndEndpoints asks every endpoint as everybody.
func TestRolesAndEndpoints(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	s := l.serve()
	d := l.enrolled("T-1")
	csr := est.EncodeRequest(l.csr(newKey(t), identity.Terminal, "T-1"))
	endpoints := []struct {
		method, path, media string
		body                []byte
		visitor             int // status
		member              int
	}{
		{"GET", est.PathCACerts, "", nil, 200, 200},
		{"GET", est.PathAttributes, "", nil, 200, 200},
		{"GET", provision.PathTrustList, "", nil, 200, 200},
		{"POST", est.PathEnroll, est.TypeRequest, csr, 401, 401},
		{"GET", provision.PathEnrolment, "", nil, 403, 200},
		{"GET", est.PathAgreementCACerts, "", nil, 403, 200},
		{"POST", est.PathAgreementEnroll, est.TypeRequest, csr, 403, 400},
		{"POST", provision.PathKeys, "application/cbor", []byte{0}, 403, 400},
		{"POST", est.PathReenroll, est.TypeRequest, csr, 403, 200},
	}
	for _, e := range endpoints {
		a := s.must(s.client(nil, nil), e.method, e.path, e.media, e.body)
		if a.status != e.visitor {
			t.Errorf("%s %s as a visitor: %d %s, want %d", e.method, e.path, a.status, a.body, e.visitor)
		}
		if a.status == 401 && !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("%s: 401 with WWW-Authenticate %q", e.path, a.header.Get("WWW-Authenticate"))
		}
		if a.status == 403 && a.code(t) != string(provision.CodeCertificateRequired) {
			t.Errorf("%s as a visitor: %s", e.path, a.body)
		}
		a = s.must(s.member(d), e.method, e.path, e.media, e.body)
		if a.status != e.member {
			t.Errorf("%s %s as a terminal: %d %s, want %d", e.method, e.path, a.status, a.body, e.member)
		}
		other := "GET"
		if e.method == "GET" {
			other = "POST"
		}
		if a = s.must(s.client(nil, nil), other, e.path, "", nil); a.status != 405 || a.header.Get("Allow") != e.method {
			t.Errorf("%s %s: %d, allow %q", other, e.path, a.status, a.header.Get("Allow"))
		}
	}
	for _, path := range []string{"/", "/admin", "/registry/feed", est.PathPrefix, est.PathPrefix + "serverkeygen", est.PathPrefix + "x/simpleenroll", provision.PathKeys + "/"} {
		if a := s.must(s.client(nil, nil), "GET", path, "", nil); a.status != 404 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	for _, role := range []identity.Role{identity.Operator, identity.Decrypt, identity.AcquirerHost} {
		key, chain := l.certified(l.services, role, "X")
		if a, err := s.call(s.client(key, chain), "GET", est.PathCACerts, "", nil); err == nil {
			t.Errorf("role %s got in: %d", role, a.status)
		}
	}
	key, chain := l.certified(l.terminals, identity.Terminal, "T-1") // of the right issuer, and never current
	if a, err := s.call(s.client(key, chain), "GET", est.PathCACerts, "", nil); err == nil {
		t.Errorf("a certificate that is not current got in: %d", a.status)
	}
}

// TestRevokedConnections cuts open connections of a terminal, and lets it in no more.
func TestRevokedConnections(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	s := l.serve()
	d := l.enrolled("T-1")
	c := s.member(d)
	if a := s.must(c, "GET", provision.PathEnrolment, "", nil); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	l.act(provision.ActionRevoke, "T-1")
	if n := s.connections.Cut(l.engine); n != 1 {
		t.Errorf("%d connections cut, want 1", n)
	}
	if a, err := s.call(c, "GET", provision.PathEnrolment, "", nil); err == nil {
		t.Errorf("a revoked terminal got in: %d", a.status)
	}
	if a := s.must(s.client(nil, nil), "GET", provision.PathTrustList, "", nil); a.status != 200 {
		t.Errorf("a visitor: %d", a.status)
	}
}

func TestHostileBodies(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	s := l.serve()
	d := l.enrolled("T-1")
	l.register("T-2")
	code := l.code("T-2")
	good := est.EncodeRequest(l.csr(newKey(t), identity.Terminal, "T-2"))
	enroll := func(media string, body []byte, change ...func(*http.Request)) answer {
		return s.must(s.client(nil, nil), "POST", est.PathEnroll, media, body, change...)
	}
	req := must[[]byte](t)((&remote.Request{Slot: 1, Nonce: [32]byte{1}}).Marshal())
	for name, tc := range map[string]struct {
		got    answer
		status int
		code   provision.Code
	}{
		"no credentials":        {enroll(est.TypeRequest, good), 401, provision.CodeCredentialsRequired},
		"bearer":                {enroll(est.TypeRequest, good, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+strings.Repeat("A", 26)) }), 401, provision.CodeCredentialsRequired},
		"two credentials":       {enroll(est.TypeRequest, good, basic("T-2", code), func(r *http.Request) { r.Header.Add("Authorization", "Basic VDpY") }), 401, provision.CodeCredentialsRequired},
		"long credentials":      {enroll(est.TypeRequest, good, basic("T-2", secret.From(bytes.Repeat([]byte("A"), 4000)))), 401, provision.CodeCredentialsRequired},
		"NUL in the name":       {enroll(est.TypeRequest, good, basic("T-2\x00", code)), 401, provision.CodeCredentialsRefused},
		"another type":          {enroll("application/json", good, basic("T-2", code)), 415, provision.CodeMediaTypeNotSupported},
		"no type":               {enroll("", good, basic("T-2", code)), 415, provision.CodeMediaTypeNotSupported},
		"too long":              {enroll(est.TypeRequest, bytes.Repeat([]byte("A"), 17<<10), basic("T-2", code)), 413, provision.CodeBodyTooLarge},
		"empty":                 {enroll(est.TypeRequest, nil, basic("T-2", code)), 400, provision.CodeSigningRequestRefused},
		"not base64":            {enroll(est.TypeRequest, []byte("\x00\xff\x00"), basic("T-2", code)), 400, provision.CodeSigningRequestRefused},
		"not DER":               {enroll(est.TypeRequest, []byte(base64.StdEncoding.EncodeToString([]byte("hello"))), basic("T-2", code)), 400, provision.CodeSigningRequestRefused},
		"for another terminal":  {enroll(est.TypeRequest, est.EncodeRequest(l.csr(newKey(t), identity.Terminal, "T-1")), basic("T-2", code)), 400, provision.CodeSigningRequestRefused},
		"request of two":        {s.must(s.member(d), "POST", provision.PathKeys, "application/cbor", append(bytes.Clone(req), req...)), 400, provision.CodeRequestMalformed},
		"request as JSON":       {s.must(s.member(d), "POST", provision.PathKeys, "application/json", req), 415, provision.CodeMediaTypeNotSupported},
		"request that is long":  {s.must(s.member(d), "POST", provision.PathKeys, "application/cbor", make([]byte, 17<<10)), 413, provision.CodeBodyTooLarge},
		"request for slot 9":    {s.must(s.member(d), "POST", provision.PathKeys, "application/cbor", must[[]byte](t)((&remote.Request{Slot: 9, Nonce: [32]byte{1}}).Marshal())), 404, provision.CodeSlotUnknown},
		"agreement with a body": {s.must(s.member(d), "POST", est.PathAgreementEnroll, est.TypeRequest, good), 400, provision.CodeSigningRequestRefused},
	} {
		if tc.got.status != tc.status || tc.got.code(t) != string(tc.code) {
			t.Errorf("%s: %d %s, want %d %s", name, tc.got.status, tc.got.body, tc.status, tc.code)
		}
	}
	certs(t, enroll(est.TypeRequest+"; charset=us-ascii", good, basic("T-2", code))) // the code is still good
}

// TestNothingSecretIsSaid looks for codes in the log, the audit log, and what is answered.
func TestNothingSecretIsSaid(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	s := l.serve()
	l.register("T-1")
	code, wrong := l.code("T-1"), provision.NewCode(false)
	other := l.code("T-1")
	csr := est.EncodeRequest(l.csr(newKey(t), identity.Terminal, "T-1"))
	var said strings.Builder
	for _, c := range []secret.Bytes{wrong, code, other, other} {
		a := s.must(s.client(nil, nil), "POST", est.PathEnroll, est.TypeRequest, csr, basic("T-1", c))
		fmt.Fprintf(&said, "%v %s\n", a.header, a.body)
	}
	s.must(s.client(nil, nil), "POST", est.PathEnroll, est.TypeRequest, est.EncodeRequest(l.csr(newKey(t), identity.Terminal, "T-1")), basic("T-1", other))
	for _, r := range l.store.Leaves() {
		fmt.Fprintf(&said, "%+v\n", r)
	}
	check(t, l.store.View(t.Context(), func(tx provision.Tx) error {
		c, _, err := tx.OneTimeCode("T-1")
		fmt.Fprintf(&said, "%+v\n", c)
		b, marshalErr := c.Marshal()
		said.Write(b)
		check(t, marshalErr)
		return err
	}))
	said.WriteString(l.log.String())
	for _, c := range []secret.Bytes{wrong, code, other} {
		text := string(c.Expose())
		for _, form := range []string{text, strings.ToLower(text), base64.StdEncoding.EncodeToString([]byte("T-1:" + text)), text[:8]} {
			if strings.Contains(said.String(), form) {
				t.Errorf("a code was said: %s", form[:4])
			}
		}
	}
	if said.Len() < 1000 {
		t.Errorf("only %d bytes were looked at", said.Len())
	}
}

// TestOverload keeps every seat taken: others are sent away, with a time to come back.
func TestOverload(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test, func(c *provision.Config) { c.Concurrent = 1 })
	s := l.serve()
	l.register("T-1")
	l.register("T-2")
	code := l.code("T-2")
	inside, release := make(chan struct{}), make(chan struct{})
	f := func() { inside <- struct{}{}; <-release }
	l.terminals.before.Store(&f)
	ended := make(chan error, 1)
	first := l.code("T-1")
	csr := l.csr(newKey(t), identity.Terminal, "T-1")
	go func() {
		_, err := l.engine.Enroll(t.Context(), source, "T-1", first, csr)
		ended <- err
	}()
	<-inside
	l.terminals.before.Store(nil)
	body := est.EncodeRequest(l.csr(newKey(t), identity.Terminal, "T-2"))
	a := s.must(s.client(nil, nil), "POST", est.PathEnroll, est.TypeRequest, body, basic("T-2", code))
	if a.status != 503 || a.header.Get("Retry-After") == "" || a.code(t) != string(provision.CodeOverloaded) {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	close(release)
	check(t, <-ended)
	certs(t, s.must(s.client(nil, nil), "POST", est.PathEnroll, est.TypeRequest, body, basic("T-2", code)))
}

func TestPublication(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	server := httptest.NewServer(provision.PublicationHandler(l.engine))
	t.Cleanup(server.Close)
	s := &site{laboratory: l, url: server.URL}
	c := server.Client()
	if a := s.must(c, "GET", provision.PathTrustList, "", nil); a.status != 200 || string(a.body) != "trust list" {
		t.Errorf("trust list: %d %s", a.status, a.body)
	}
	a := s.must(c, "GET", provision.PathCRL, "", nil)
	if list, err := x509.ParseRevocationList(a.body); err != nil || list.CheckSignatureFrom(l.terminals.Chain()[0]) != nil || a.header.Get("Content-Type") != "application/pkix-crl" {
		t.Errorf("revocation list: %v %v", err, a.header)
	}
	for _, path := range []string{est.PathCACerts, est.PathEnroll, provision.PathEnrolment, provision.PathKeys, "/registry/feed", "/"} {
		if a := s.must(c, "GET", path, "", nil); a.status != 404 {
			t.Errorf("%s over plain HTTP: %d", path, a.status)
		}
	}
	l.trustError = io.ErrUnexpectedEOF
	if a := s.must(c, "GET", provision.PathTrustList, "", nil); a.status != 503 || a.code(t) != string(provision.CodeTrustListUnavailable) {
		t.Errorf("without a trust list: %d %s", a.status, a.body)
	}
}

// TestNoTLS serves the handler without TLS, as a mistake would: nobody gets beyond what visitors may.
func TestNoTLS(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	server := httptest.NewServer(provision.TerminalHandler(l.engine))
	t.Cleanup(server.Close)
	s := &site{laboratory: l, url: server.URL}
	for _, path := range []string{provision.PathEnrolment, est.PathAgreementCACerts} {
		if a := s.must(server.Client(), "GET", path, "", nil); a.status != 403 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
}
