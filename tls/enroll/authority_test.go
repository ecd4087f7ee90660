package enroll_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

const (
	tenant = "ACME"
	code   = "4XQ7M2B9KTD0ZZZZYYYYWWWW00"
)

var terminal = identity.Identity{Tenant: tenant, Role: identity.Terminal, Name: "T-0001"}

// authority is a registration authority with everything behind it, as simple as can be. It believes its terminals.
type authority struct {
	url, plain string
	issuers    map[identity.Authority]*catest.Fake
	key        *ecdsa.PrivateKey // signs the trust list
	document   []byte
	list       *trustlist.List
	set        *keyset.KeySet
	kdh        *ecdsa.PrivateKey
	kdhChain   []*x509.Certificate

	mu        sync.Mutex
	agreement *x509.Certificate
	seen      []string // paths that were asked for
}

// plan is what an authority does otherwise than an honest one. The zero value is honest.
type plan struct {
	server  identity.Identity                             // whose certificate it shows; zero: an RA of the tenant
	host    string                                        // that the certificate names; empty: 127.0.0.1
	twists  map[identity.Authority]catest.Twist           // how it signs
	answers map[string]http.HandlerFunc                   // by path, instead of its own
	chain   func([]*x509.Certificate) []*x509.Certificate // what it makes of an issued chain
}

func newAuthority(t testing.TB, p plan) *authority {
	t.Helper()
	a := &authority{issuers: make(map[identity.Authority]*catest.Fake), key: newKey(t, elliptic.P256()), kdh: newKey(t, elliptic.P256())}
	for _, name := range identity.Authorities() {
		issuer, err := catest.NewFake(name, p.twists[name], time.Now)
		if err != nil {
			t.Fatal(err)
		}
		a.issuers[name] = issuer
	}
	a.document = a.sign(t, a.key, tenant)
	pin, err := trustlist.PinOf(a.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if a.list, err = trustlist.Open(a.document, trustlist.Accepted{Tenant: tenant, Pins: []trustlist.Pin{pin}}); err != nil {
		t.Fatal(err)
	}
	a.set = newSet(t)
	a.kdhChain = a.issue(t, ca.Request{PublicKey: a.kdh.Public(), Identity: identity.Identity{Tenant: tenant, Role: identity.KDH, Name: "KDH"}})
	a.serve(t, p)
	return a
}

// sign makes the trust list of the authority.
func (a *authority) sign(t testing.TB, key *ecdsa.PrivateKey, tenant string) []byte {
	t.Helper()
	root := func(name identity.Authority) []*x509.Certificate { return a.issuers[name].Chain()[1:] }
	doc, err := trustlist.Sign(&trustlist.List{
		Tenant: tenant, Version: 1, NotBefore: time.Now().UTC().Truncate(time.Second),
		Terminals: root(identity.TerminalCA), Services: root(identity.ServicesCA), KeyDist: root(identity.KeyDistCA),
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func (a *authority) issue(t testing.TB, req ca.Request) []*x509.Certificate {
	t.Helper()
	chain, err := a.issuers[req.Identity.Role.Authority()].Issue(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

// serve begins to listen, over TLS and in the clear, until the test is over.
func (a *authority) serve(t testing.TB, p plan) {
	t.Helper()
	id := p.server
	if id.IsZero() {
		id = identity.Identity{Tenant: tenant, Role: identity.RA, Name: "RA-1"}
	}
	key := newKey(t, elliptic.P256())
	req := ca.Request{PublicKey: key.Public(), Identity: id, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}}
	if p.host != "" {
		req.IPs, req.DNSNames = nil, []string{p.host}
	}
	config, err := tlsconf.Server(tlsconf.ServerOptions{
		Credential: credential(t, a.issue(t, req), key), Trust: a.list.Trust(), Accept: []identity.Role{identity.Terminal},
		Gate: tlsconf.OpenGate(), Visitors: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{TLSConfig: config, Handler: a.handler(p), ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = server.ServeTLS(l, "", "") }() // ends with Close
	plain := httptest.NewServer(a.handler(p))
	t.Cleanup(func() {
		_ = server.Close()
		plain.CloseClientConnections()
		plain.Close()
	})
	a.url, a.plain = "https://"+l.Addr().String(), plain.URL
}

func (a *authority) handler(p plan) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /trust-list", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(a.document) })
	mux.HandleFunc("GET "+est.PathCACerts, func(w http.ResponseWriter, _ *http.Request) {
		answerCerts(w, a.issuers[identity.TerminalCA].Chain())
	})
	mux.HandleFunc("GET "+est.PathAttributes, func(w http.ResponseWriter, _ *http.Request) {
		der, err := est.Attributes(elliptic.P384())
		if err != nil {
			panic(err)
		}
		_, _ = w.Write(est.EncodeRequest(der))
	})
	mux.HandleFunc("POST "+est.PathEnroll, func(w http.ResponseWriter, r *http.Request) {
		user, password, ok := est.ParseBasic(r)
		if !ok || user != terminal.Name || string(password.Expose()) != code {
			answerProblem(w, http.StatusUnauthorized, "CodeRefused", "the one-time code is not valid")
			return
		}
		a.certify(w, r, p, est.Policy{Identity: terminal})
	})
	mux.HandleFunc("POST "+est.PathReenroll, func(w http.ResponseWriter, r *http.Request) {
		a.certify(w, r, p, est.Policy{Identity: terminal, Current: r.TLS.PeerCertificates[0]})
	})
	mux.HandleFunc("POST "+est.PathAgreementEnroll, func(w http.ResponseWriter, r *http.Request) {
		id := terminal
		id.Role = identity.Agreement
		a.certify(w, r, p, est.Policy{Identity: id, Current: r.TLS.PeerCertificates[0]})
	})
	mux.HandleFunc("GET /enrolment", func(w http.ResponseWriter, _ *http.Request) { answerAssignment(w, "T-0001") })
	mux.HandleFunc("POST /keys", a.deliver)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.seen = append(a.seen, r.Proto+" "+r.URL.Path)
		a.mu.Unlock()
		if answer := p.answers[r.URL.Path]; answer != nil {
			answer(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// asked returns what was asked for.
func (a *authority) asked() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.seen...)
}

func (a *authority) certify(w http.ResponseWriter, r *http.Request, p plan, policy est.Policy) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Header.Get("Content-Type") != est.TypeRequest || r.Header.Get("Content-Transfer-Encoding") != "base64" {
		answerProblem(w, http.StatusBadRequest, "Malformed", "not a request")
		return
	}
	der, err := est.DecodeRequest(body)
	if err != nil {
		answerProblem(w, http.StatusBadRequest, "Malformed", err.Error())
		return
	}
	pub, err := est.CheckRequest(der, policy)
	if err != nil {
		answerProblem(w, http.StatusBadRequest, "RequestRefused", err.Error())
		return
	}
	chain, err := a.issuers[policy.Identity.Role.Authority()].Issue(r.Context(), ca.Request{PublicKey: pub, Identity: policy.Identity})
	if err != nil {
		answerProblem(w, http.StatusServiceUnavailable, "Unavailable", "no certificates now")
		return
	}
	if policy.Identity.Role == identity.Agreement {
		a.mu.Lock()
		a.agreement = chain[0]
		a.mu.Unlock()
	}
	if p.chain != nil {
		chain = p.chain(chain)
	}
	answerCerts(w, chain)
}

// deliver answers as registration authority and key-distribution host in one.
func (a *authority) deliver(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	d, err := a.seal(body, r.TLS)
	if err != nil {
		answerProblem(w, http.StatusBadRequest, "Malformed", "no key for that")
		return
	}
	answer, err := d.Marshal()
	if err != nil {
		answerProblem(w, http.StatusInternalServerError, "InternalError", "the service failed")
		return
	}
	w.Header().Set("Content-Type", "application/cbor")
	_, _ = w.Write(answer)
}

func (a *authority) seal(body []byte, cs *tls.ConnectionState) (*remote.Delivery, error) {
	req, err := remote.ParseRequest(body)
	if err != nil {
		return nil, err
	}
	value, err := cs.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
	if err != nil {
		return nil, err
	}
	k, err := keys.GenerateKey(keys.Attributes{
		Algorithm: keys.AES128, Usage: keys.UsageInitialKey, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	})
	if err != nil {
		return nil, err
	}
	defer k.Wipe()
	ik, err := dukpt.NewInitialKey(a.set.FirstID, k)
	if err != nil {
		return nil, err
	}
	defer ik.Wipe()
	a.mu.Lock()
	defer a.mu.Unlock()
	return remote.Seal(remote.Binding{
		Tenant: tenant, Terminal: "T-0001", Slot: req.Slot, TLS: cs.PeerCertificates[0], Agreement: a.agreement,
		Nonce: req.Nonce, Exporter: [32]byte(value),
	}, a.set, dukpt.KeyID{}, ik, time.Now(), a.kdh, a.kdhChain)
}

func answerCerts(w http.ResponseWriter, certs []*x509.Certificate) {
	body, err := est.EncodeCerts(certs)
	if err != nil {
		answerProblem(w, http.StatusInternalServerError, "InternalError", "the service failed")
		return
	}
	w.Header().Set("Content-Type", est.TypeCerts)
	w.Header().Set("Content-Transfer-Encoding", est.TransferEncoding)
	_, _ = w.Write(body)
}

func answerAssignment(w http.ResponseWriter, name keyset.TerminalID) {
	now := time.Now().UTC().Truncate(time.Second)
	b, err := (&remote.Assignment{
		Tenant: tenant, Terminal: name, Environment: keyset.Test, Endpoints: []string{"https://host.example:443"},
		Slots:      []remote.AssignedSlot{{Slot: 1, KeySet: "PIN-AES", Delivery: keyset.Code, Wanted: true}},
		RenewAfter: now.Add(time.Hour), RenewBefore: now.Add(2 * time.Hour),
	}).Marshal()
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/cbor")
	_, _ = w.Write(b)
}

func answerProblem(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"Code":%q,"Message":%q}`, code, message)
}

func newSet(t testing.TB) *keyset.KeySet {
	t.Helper()
	base, err := keyset.ParseKeyRef("alias/pin-2026")
	if err != nil {
		t.Fatal(err)
	}
	fingerprint, err := keys.ParseFingerprint("00112233445566778899aabbccddeeff")
	if err != nil {
		t.Fatal(err)
	}
	s := keyset.NewAESPIN()
	s.ID, s.Tenant, s.Environment, s.BaseKey, s.BaseKeyFingerprint = "PIN-AES", tenant, keyset.Test, base, fingerprint
	if s.FirstID, err = dukpt.ParseKeyID("1234567800000000"); err != nil {
		t.Fatal(err)
	}
	if s.LastID, err = dukpt.ParseKeyID("12345678FFFFFFFF"); err != nil {
		t.Fatal(err)
	}
	return s
}

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func credential(t testing.TB, chain []*x509.Certificate, key *ecdsa.PrivateKey) *tlsconf.Credential {
	t.Helper()
	cert := tls.Certificate{PrivateKey: key}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	cred, err := tlsconf.NewCredential(cert)
	if err != nil {
		t.Fatal(err)
	}
	return cred
}

// options are those of the terminal for this authority.
func (a *authority) options() enroll.Options {
	return enroll.Options{URL: a.url, Tenant: tenant, Terminal: "T-0001", Timeout: 20 * time.Second}
}

func (a *authority) visitor(t testing.TB) *enroll.Client {
	t.Helper()
	c, err := enroll.NewVisitor(a.options(), a.list)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// member is a terminal that was enrolled behind the back of the authority's web face.
func (a *authority) member(t testing.TB) *enroll.Client {
	t.Helper()
	key := newKey(t, elliptic.P256())
	chain := a.issue(t, ca.Request{PublicKey: key.Public(), Identity: terminal})
	c, err := enroll.NewMember(a.options(), a.list, credential(t, chain, key))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func request(t testing.TB, key *ecdsa.PrivateKey, id identity.Identity) []byte {
	t.Helper()
	der, err := est.NewRequest(key, id)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
