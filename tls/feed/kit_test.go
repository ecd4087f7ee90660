package feed

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

const tenant = "ACME"

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

var quiet = slog.New(slog.DiscardHandler)

// pki is the services and the terminals authority of a deployment.
type pki struct {
	authorities map[identity.Authority]*catest.Fake
	trust       tlsconf.Trust
}

func newPKI(tb testing.TB) *pki {
	tb.Helper()
	p := &pki{authorities: make(map[identity.Authority]*catest.Fake)}
	for _, a := range identity.Authorities() {
		f, err := catest.NewFake(a, catest.Twist{}, time.Now)
		check(tb, err)
		p.authorities[a] = f
	}
	p.trust = tlsconf.Trust{
		Terminals: pool(p.authorities[identity.TerminalCA]), Services: pool(p.authorities[identity.ServicesCA]),
		KeyDist: pool(p.authorities[identity.KeyDistCA]),
	}
	return p
}

func pool(issuer ca.Issuer) *x509.CertPool {
	out, chain := x509.NewCertPool(), issuer.Chain()
	out.AddCert(chain[len(chain)-1])
	return out
}

// holder is whoever has a certificate.
type holder struct {
	cert  tls.Certificate
	leaf  *x509.Certificate
	key   *ecdsa.PrivateKey
	chain [][]byte // without leaf and root
}

func (p *pki) certify(tb testing.TB, id identity.Identity, change func(*ca.Request)) *holder {
	tb.Helper()
	return certify(tb, p.authorities[id.Role.Authority()], id, change)
}

func certify(tb testing.TB, issuer ca.Issuer, id identity.Identity, change func(*ca.Request)) *holder {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(tb, err)
	req := ca.Request{PublicKey: key.Public(), Identity: id}
	if id.Role.Server() {
		req.DNSNames, req.IPs = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	if change != nil {
		change(&req)
	}
	issued, err := issuer.Issue(context.Background(), req)
	check(tb, err)
	h := &holder{leaf: issued[0], key: key, cert: tls.Certificate{PrivateKey: key}}
	for _, c := range issued {
		h.cert.Certificate = append(h.cert.Certificate, c.Raw)
	}
	h.chain = h.cert.Certificate[1:]
	return h
}

func (p *pki) holder(tb testing.TB, role identity.Role, name string) *holder {
	tb.Helper()
	return p.certify(tb, identity.Identity{Tenant: tenant, Role: role, Name: name}, nil)
}

func (h *holder) credential(tb testing.TB) *tlsconf.Credential {
	tb.Helper()
	c, err := tlsconf.NewCredential(h.cert)
	check(tb, err)
	return c
}

// registry is a registration authority that publishes what a test tells it to.
type registry struct {
	*pki
	signer *holder
	now    func() time.Time

	mu     sync.Mutex
	epoch  uint64
	log    [][]byte                     // every envelope of the epoch
	hashes [][32]byte                   // of log
	about  []keyset.TerminalID          // of log
	latest map[keyset.TerminalID]uint64 // sequence of the latest record of each
	known  map[keyset.TerminalID]keyset.Terminal
	pruned uint64 // records up to this one are gone
	news   chan struct{}

	tamper func(*Page) *Page // changes what is answered, if not nil
	down   bool              // every request is answered 503
	asked  []string          // queries
	posted []*Observations
}

func newRegistry(tb testing.TB) *registry {
	tb.Helper()
	p := newPKI(tb)
	return &registry{
		pki: p, signer: p.holder(tb, identity.RA, "RA-1"), now: time.Now, epoch: 1, latest: make(map[keyset.TerminalID]uint64),
		known: make(map[keyset.TerminalID]keyset.Terminal), news: make(chan struct{}),
	}
}

// newTerminal returns a terminal with one active key.
func newTerminal(id keyset.TerminalID) keyset.Terminal {
	return keyset.Terminal{
		Version: keyset.FormatVersion, Tenant: tenant, ID: id, Serial: "0a0b", Status: keyset.StatusActive, Generation: 1,
		Slots: []keyset.Slot{{Slot: 1, KeySet: "SET", KeyID: keyID("1234567890123456"), State: keyset.SlotActive}},
	}
}

func keyID(s string) dukpt.KeyID {
	id, err := dukpt.ParseKeyID(s)
	if err != nil {
		panic(err)
	}
	return id
}

// put publishes a new record of a terminal, changed, and returns its sequence.
func (r *registry) put(tb testing.TB, id keyset.TerminalID, change func(*keyset.Terminal)) uint64 {
	tb.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.known[id]
	if !ok {
		t = newTerminal(id)
	} else {
		t.Generation++
	}
	if change != nil {
		change(&t)
	}
	r.known[id] = t
	r.append(tb, t)
	close(r.news)
	r.news = make(chan struct{})
	return uint64(len(r.log))
}

func (r *registry) append(tb testing.TB, t keyset.Terminal) {
	tb.Helper()
	rec := &Record{Epoch: r.epoch, Sequence: uint64(len(r.log)) + 1, Kind: KindTerminal, Issuer: "RA-1", Terminal: t}
	if n := len(r.hashes); n > 0 {
		rec.Previous = r.hashes[n-1]
	}
	envelope, hash, err := SignRecord(rec, r.signer.leaf.Raw, r.signer.key)
	check(tb, err)
	r.log, r.hashes = append(r.log, envelope), append(r.hashes, hash)
	r.about = append(r.about, t.ID)
	r.latest[t.ID] = rec.Sequence
}

func (r *registry) status(tb testing.TB, id keyset.TerminalID, s keyset.Status) uint64 {
	tb.Helper()
	return r.put(tb, id, func(t *keyset.Terminal) { t.Status = s })
}

// restart begins a new epoch, with a record of each terminal.
func (r *registry) restart(tb testing.TB) {
	tb.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epoch++
	r.log, r.hashes, r.about, r.pruned = nil, nil, nil, 0
	for _, id := range slices.Sorted(maps.Keys(r.known)) {
		r.append(tb, r.known[id])
	}
	close(r.news)
	r.news = make(chan struct{})
}

// page answers as the endpoint does.
func (r *registry) page(epoch, after uint64) (*Page, error) {
	head := uint64(len(r.log))
	p := &Page{Chain: r.signer.chain, Snapshot: epoch != r.epoch || after > head || after < r.pruned}
	for i, envelope := range r.log {
		if seq := uint64(i) + 1; p.Snapshot && r.latest[r.about[i]] == seq || !p.Snapshot && seq > after {
			p.Records = append(p.Records, envelope)
		}
	}
	h := &Head{Tenant: tenant, Epoch: r.epoch, Sequence: head, Time: r.now().Truncate(time.Millisecond), Objects: uint64(len(r.latest))}
	if head > 0 {
		h.Hash = r.hashes[head-1]
	}
	if p.Snapshot {
		h.Snapshot = SnapshotDigest(p.Records)
	}
	var err error
	p.Head, err = SignHead(h, r.signer.leaf.Raw, r.signer.key)
	return p, err
}

func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	down := r.down
	r.asked = append(r.asked, req.URL.RawQuery)
	r.mu.Unlock()
	switch {
	case down:
		http.Error(w, `{"Code":"Unavailable"}`, http.StatusServiceUnavailable)
	case req.URL.Path == PathObservations:
		r.observe(w, req)
	default:
		r.feed(w, req)
	}
}

func (r *registry) feed(w http.ResponseWriter, req *http.Request) {
	epoch, err1 := strconv.ParseUint(req.URL.Query().Get("epoch"), 10, 64)
	after, err2 := strconv.ParseUint(req.URL.Query().Get("after"), 10, 64)
	if err1 != nil || err2 != nil {
		http.Error(w, `{"Code":"Malformed"}`, http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	nothing, news := epoch == r.epoch && after == uint64(len(r.log)), r.news
	r.mu.Unlock()
	if nothing {
		select {
		case <-news:
		case <-req.Context().Done():
		case <-time.After(time.Second):
		}
	}
	r.mu.Lock()
	p, err := r.page(epoch, after)
	if err == nil && r.tamper != nil {
		p = r.tamper(p)
	}
	r.mu.Unlock()
	var body []byte
	if err == nil {
		body, err = p.Marshal()
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", ContentType)
	_, _ = w.Write(body)
}

func (r *registry) observe(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	o, err := ParseObservations(body)
	if err != nil {
		http.Error(w, `{"Code":"Malformed","Message":"no"}`, http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	r.posted = append(r.posted, o)
	a := ObservationsAnswer{Epoch: r.epoch, Sequence: uint64(len(r.log))}
	r.mu.Unlock()
	answer, err := a.Marshal()
	if err != nil {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(answer)
}

// set changes the registry.
func (r *registry) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// listen serves the registry over mutual TLS.
func (r *registry) listen(tb testing.TB) string {
	tb.Helper()
	return listen(tb, r, r.serverConfig(tb), nil)
}

func (r *registry) serverConfig(tb testing.TB) *tls.Config {
	tb.Helper()
	config, err := tlsconf.Server(tlsconf.ServerOptions{
		Credential: r.holder(tb, identity.RA, "RA-1").credential(tb), Trust: r.trust,
		Accept: []identity.Role{identity.AcquirerHost, identity.Decrypt}, Gate: tlsconf.OpenGate(),
	})
	check(tb, err)
	return config
}

func listen(tb testing.TB, h http.Handler, config *tls.Config, state func(net.Conn, http.ConnState)) string {
	tb.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(tb, err)
	_ = srv.Listener.Close() // replaced by one with our TLS configuration
	srv.Listener = tls.NewListener(l, config)
	srv.Config.ConnState = state
	srv.Start()
	tb.Cleanup(srv.Close)
	return "https://" + l.Addr().String()
}

// client returns an HTTP client of an acquirer's host.
func (r *registry) client(tb testing.TB) *http.Client {
	tb.Helper()
	config, err := tlsconf.Client(tlsconf.ClientOptions{
		Credential: r.holder(tb, identity.AcquirerHost, "HOST-1").credential(tb), Trust: r.trust, ServerRole: identity.RA, Gate: tlsconf.OpenGate(),
	})
	check(tb, err)
	transport := &http.Transport{TLSClientConfig: config}
	tb.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// options returns those of a follower of the registry at a URL.
func (r *registry) options(tb testing.TB, url string) Options {
	tb.Helper()
	return Options{URLs: []string{url}, Client: r.client(tb), Services: r.trust.Services, Tenant: tenant, Logger: quiet}
}

func newFollower(tb testing.TB, o Options) *Follower {
	tb.Helper()
	f, err := New(o)
	check(tb, err)
	return f
}

// run lets a follower run until the end of the test, or until stop is called.
func run(tb testing.TB, f *Follower) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("Run: %v", err)
		}
	})
	tb.Cleanup(stop)
	return stop
}

// until polls for a condition.
func until(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			tb.Fatalf("%s: did not come", what)
		}
	}
}

func terminalID(n int) keyset.TerminalID { return keyset.TerminalID(fmt.Sprintf("T-%05d", n)) }
