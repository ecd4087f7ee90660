package tlsconf_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// system is the three authorities of a deployment.
type system struct {
	authorities map[identity.Authority]*catest.Fake
	trust       tlsconf.Trust
}

func newSystem(t testing.TB, now func() time.Time) *system {
	t.Helper()
	s := &system{authorities: make(map[identity.Authority]*catest.Fake)}
	for _, a := range identity.Authorities() {
		s.authorities[a] = fake(t, a, catest.Twist{}, now)
	}
	s.trust = tlsconf.Trust{
		Terminals: pool(s.authorities[identity.TerminalCA]),
		Services:  pool(s.authorities[identity.ServicesCA]),
		KeyDist:   pool(s.authorities[identity.KeyDistCA]),
	}
	return s
}

func fake(t testing.TB, a identity.Authority, twist catest.Twist, now func() time.Time) *catest.Fake {
	t.Helper()
	f, err := catest.NewFake(a, twist, now)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func pool(issuers ...ca.Issuer) *x509.CertPool {
	p := x509.NewCertPool()
	for _, i := range issuers {
		chain := i.Chain()
		p.AddCert(chain[len(chain)-1])
	}
	return p
}

// certify makes a key and has the issuer certify it.
func certify(t testing.TB, issuer ca.Issuer, id identity.Identity, change func(*ca.Request)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	req := ca.Request{PublicKey: key.Public(), Identity: id}
	if id.Role.Server() {
		req.DNSNames, req.IPs = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	if change != nil {
		change(&req)
	}
	issued, err := issuer.Issue(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	out := tls.Certificate{PrivateKey: key}
	for _, c := range issued {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out
}

func (s *system) certify(t testing.TB, role identity.Role, name string) tls.Certificate {
	t.Helper()
	return certify(t, s.authorities[role.Authority()], identity.Identity{Tenant: "ACME", Role: role, Name: name}, nil)
}

func credential(t testing.TB, cert tls.Certificate) *tlsconf.Credential {
	t.Helper()
	c, err := tlsconf.NewCredential(cert)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *system) server(t testing.TB, change func(*tlsconf.ServerOptions)) *tls.Config {
	t.Helper()
	o := tlsconf.ServerOptions{
		Trust: s.trust, Accept: []identity.Role{identity.Terminal}, Gate: tlsconf.OpenGate(),
	}
	if change != nil {
		change(&o)
	}
	if o.Credential == nil {
		o.Credential = credential(t, s.certify(t, identity.AcquirerHost, "HOST"))
	}
	cfg, err := tlsconf.Server(o)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func (s *system) client(t testing.TB, cert tls.Certificate, change func(*tlsconf.ClientOptions)) *tls.Config {
	t.Helper()
	o := tlsconf.ClientOptions{
		Credential: credential(t, cert), Trust: s.trust, ServerRole: identity.AcquirerHost, ServerName: "localhost", Gate: tlsconf.OpenGate(),
	}
	if change != nil {
		change(&o)
	}
	cfg, err := tlsconf.Client(o)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// meeting is what came of one connection.
type meeting struct {
	serverErr, clientErr error
	server, client       tls.ConnectionState
}

func (m meeting) ok() bool { return m.serverErr == nil && m.clientErr == nil }

// meet connects a client to a server over loopback TCP and exchanges a byte, after which the client has its tickets.
func meet(t testing.TB, server, client *tls.Config) meeting {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var m meeting
	done := make(chan struct{})
	go func() {
		defer close(done)
		raw, err := l.Accept()
		if err != nil {
			m.serverErr = err
			return
		}
		defer raw.Close()
		_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
		conn := tls.Server(raw, server)
		if m.serverErr = conn.Handshake(); m.serverErr != nil {
			return
		}
		m.server = conn.ConnectionState()
		_, m.serverErr = conn.Write([]byte{1})
		_, _ = conn.Read(make([]byte, 1)) // until the client closes
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
	conn := tls.Client(raw, client)
	if m.clientErr = conn.Handshake(); m.clientErr == nil {
		_, m.clientErr = io.ReadFull(conn, make([]byte, 1))
		m.client = conn.ConnectionState()
	}
	_ = raw.Close()
	<-done
	return m
}

// TestEveryRoleAgainstEveryDoor connects a holder of each role to a listener for each role.
func TestEveryRoleAgainstEveryDoor(t *testing.T) {
	t.Parallel()
	s := newSystem(t, time.Now)
	host := credential(t, s.certify(t, identity.AcquirerHost, "HOST"))
	for _, accept := range identity.Roles() {
		if !accept.Client() {
			if _, err := tlsconf.Server(tlsconf.ServerOptions{
				Credential: host, Trust: s.trust, Accept: []identity.Role{accept}, Gate: tlsconf.OpenGate(),
			}); err == nil {
				t.Errorf("a listener for role %s, which opens no connections", accept)
			}
			continue
		}
		for _, role := range identity.Roles() {
			if !role.Client() {
				continue
			}
			t.Run(fmt.Sprintf("%s at a door for %s", role, accept), func(t *testing.T) {
				t.Parallel()
				server := s.server(t, func(o *tlsconf.ServerOptions) { o.Credential, o.Accept = host, []identity.Role{accept} })
				cert := s.certify(t, role, "PEER")
				m := meet(t, server, s.client(t, cert, nil))
				if role != accept {
					if m.serverErr == nil || m.clientErr == nil {
						t.Fatalf("let in: server %v, client %v", m.serverErr, m.clientErr)
					}
					return
				}
				if !m.ok() {
					t.Fatalf("turned away: server %v, client %v", m.serverErr, m.clientErr)
				}
				id, serial, err := tlsconf.Peer(m.server)
				if want := credential(t, cert); err != nil || id != want.Identity() || serial != want.Serial() {
					t.Errorf("peer %v with serial %s (%v), want %v with %s", id, serial, err, want.Identity(), want.Serial())
				}
				if m.server.Version != tls.VersionTLS13 {
					t.Errorf("version %x", m.server.Version)
				}
			})
		}
	}
}

func TestSeveralRolesAtOneDoor(t *testing.T) {
	t.Parallel()
	s := newSystem(t, time.Now)
	server := s.server(t, func(o *tlsconf.ServerOptions) {
		o.Accept = []identity.Role{identity.AcquirerHost, identity.Operator}
	})
	for role, want := range map[identity.Role]bool{
		identity.AcquirerHost: true, identity.Operator: true, identity.Auditor: false, identity.Terminal: false, identity.KDH: false,
	} {
		if m := meet(t, server, s.client(t, s.certify(t, role, "PEER"), nil)); m.ok() != want {
			t.Errorf("role %s let in: %t (%v), want %t", role, m.ok(), m.serverErr, want)
		}
	}
}

// TestWrongAuthority shows certificates that say one role and come from the authority of another.
func TestWrongAuthority(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		from   identity.Authority
		signed identity.Role // what the authority believes it certifies
		claims identity.Role
	}{
		{identity.ServicesCA, identity.Operator, identity.Terminal},
		{identity.TerminalCA, identity.Terminal, identity.Operator},
		{identity.TerminalCA, identity.Terminal, identity.AcquirerHost},
		{identity.KeyDistCA, identity.KDH, identity.Terminal},
		{identity.ServicesCA, identity.Operator, identity.KDH},
	} {
		t.Run(fmt.Sprintf("%s from %v", tc.claims, tc.from), func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, time.Now)
			claim := identity.Identity{Tenant: "ACME", Role: tc.claims, Name: "PEER"}
			rogue := fake(t, tc.from, catest.Twist{Template: func(c *x509.Certificate) {
				c.URIs, c.Policies = []*url.URL{claim.URI()}, []x509.OID{tc.claims.Policy()}
			}}, time.Now)
			cert := certify(t, rogue, identity.Identity{Tenant: "ACME", Role: tc.signed, Name: "PEER"}, func(r *ca.Request) { r.DNSNames, r.IPs = nil, nil })

			own := map[identity.Authority]**x509.CertPool{
				identity.TerminalCA: &s.trust.Terminals, identity.ServicesCA: &s.trust.Services, identity.KeyDistCA: &s.trust.KeyDist,
			}
			honest := s.certify(t, identity.AcquirerHost, "HOST")
			*own[tc.from] = pool(rogue, s.authorities[tc.from]) // the authority is trusted for its own roles
			open := func(o *tlsconf.ServerOptions) {
				o.Credential, o.Accept = credential(t, honest), []identity.Role{tc.claims}
			}
			if m := meet(t, s.server(t, open), s.client(t, cert, nil)); m.ok() || m.serverErr == nil {
				t.Error("let in")
			}

			// The same with the roots mixed up in one file: now the chain verifies, and only the policies of the issuing
			// certificate are left to say no.
			*own[tc.claims.Authority()] = pool(rogue, s.authorities[tc.claims.Authority()])
			m := meet(t, s.server(t, open), s.client(t, cert, nil))
			if m.ok() || !errors.Is(m.serverErr, tlsconf.ErrRefused) {
				t.Errorf("with mixed roots: %v, want ErrRefused", m.serverErr)
			}
		})
	}
}

func TestValidityOfClients(t *testing.T) {
	t.Parallel()
	s := newSystem(t, time.Now)
	cert := certify(t, s.authorities[identity.TerminalCA], identity.Identity{Tenant: "ACME", Role: identity.Terminal, Name: "T-1"},
		func(r *ca.Request) { r.Lifetime = time.Hour })
	for name, tc := range map[string]struct {
		at   time.Duration
		want bool
	}{"now": {0, true}, "before": {-30 * time.Minute, false}, "at the end": {59 * time.Minute, true}, "after": {61 * time.Minute, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := s.server(t, func(o *tlsconf.ServerOptions) { o.Clock = func() time.Time { return time.Now().Add(tc.at) } })
			if m := meet(t, server, s.client(t, cert, nil)); m.ok() != tc.want {
				t.Errorf("let in: %t (%v), want %t", m.ok(), m.serverErr, tc.want)
			}
		})
	}
}

func TestValidityOfServers(t *testing.T) {
	t.Parallel()
	s := newSystem(t, time.Now)
	cert := s.certify(t, identity.Terminal, "T-1")
	for name, tc := range map[string]struct {
		at   time.Duration
		want bool
	}{"now": {0, true}, "in 1970": {-time.Since(time.Unix(0, 0)), false}, "in two years": {2 * 365 * 24 * time.Hour, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := s.client(t, cert, func(o *tlsconf.ClientOptions) { o.Clock = func() time.Time { return time.Now().Add(tc.at) } })
			if m := meet(t, s.server(t, nil), client); m.ok() != tc.want {
				t.Errorf("connected: %t (%v), want %t", m.ok(), m.clientErr, tc.want)
			}
		})
	}
}

// denylist is a gate that a test shuts.
type denylist struct {
	mu     sync.Mutex
	denied map[string]bool
	asked  int
}

var errDenied = errors.New("revoked")

func (d *denylist) Admit(_ identity.Identity, serial string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	if d.denied[serial] {
		return errDenied
	}
	return nil
}

func (d *denylist) deny(serial string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.denied[serial] = true
}

// TestRevokedOnResumption lets a terminal resume a session, revokes it, and sees its next resumption refused.
func TestRevokedOnResumption(t *testing.T) {
	t.Parallel()
	s := newSystem(t, time.Now)
	gate := &denylist{denied: make(map[string]bool)}
	server := s.server(t, func(o *tlsconf.ServerOptions) { o.Gate = gate })
	resumed := false // what the server was deciding about last
	verify := server.VerifyConnection
	server.VerifyConnection = func(cs tls.ConnectionState) error {
		resumed = cs.DidResume
		return verify(cs)
	}
	cert := s.certify(t, identity.Terminal, "T-1")
	client := s.client(t, cert, nil)
	client.ClientSessionCache = tls.NewLRUClientSessionCache(4) // a client that is not ours

	if m := meet(t, server, client); !m.ok() || m.server.DidResume {
		t.Fatalf("first: server %v, client %v, resumed %t", m.serverErr, m.clientErr, m.server.DidResume)
	}
	m := meet(t, server, client)
	if !m.ok() || !m.server.DidResume || !m.client.DidResume {
		t.Fatalf("second: server %v, client %v, resumed %t", m.serverErr, m.clientErr, m.server.DidResume)
	}
	if id, serial, err := tlsconf.Peer(m.server); err != nil || id.Name != "T-1" || serial != credential(t, cert).Serial() {
		t.Errorf("peer of a resumed session: %v, %s, %v", id, serial, err)
	}
	gate.deny(credential(t, cert).Serial())
	m = meet(t, server, client)
	if !resumed {
		t.Error("the third connection was no resumption")
	}
	if !errors.Is(m.serverErr, tlsconf.ErrRefused) || !errors.Is(m.serverErr, errDenied) || m.clientErr == nil {
		t.Errorf("revoked: server %v, client %v, want ErrRefused", m.serverErr, m.clientErr)
	}
	if gate.asked != 3 {
		t.Errorf("the gate was asked %d times, want 3", gate.asked)
	}
	if m := meet(t, server, s.client(t, cert, nil)); !errors.Is(m.serverErr, errDenied) || resumed {
		t.Errorf("revoked, full handshake: %v, resumed %t", m.serverErr, resumed)
	}
}

func TestOurClientKeepsNoSessions(t *testing.T) {
	t.Parallel()
	s := newSystem(t, time.Now)
	server, client := s.server(t, nil), s.client(t, s.certify(t, identity.Terminal, "T-1"), nil)
	for range 2 {
		if m := meet(t, server, client); !m.ok() || m.client.DidResume {
			t.Errorf("server %v, client %v, resumed %t", m.serverErr, m.clientErr, m.client.DidResume)
		}
	}
}

// TestRotation replaces the certificates of both ends while their configurations are in use.
func TestRotation(t *testing.T) {
	t.Parallel()
	s := newSystem(t, time.Now)
	host := credential(t, s.certify(t, identity.AcquirerHost, "HOST"))
	terminal := credential(t, s.certify(t, identity.Terminal, "T-1"))
	server := s.server(t, func(o *tlsconf.ServerOptions) { o.Credential = host })
	client := s.client(t, s.certify(t, identity.Terminal, "T-1"), func(o *tlsconf.ClientOptions) { o.Credential = terminal })
	serials := make(map[string]bool)
	for range 3 {
		m := meet(t, server, client)
		if !m.ok() {
			t.Fatalf("server %v, client %v", m.serverErr, m.clientErr)
		}
		_, ofTerminal, err1 := tlsconf.Peer(m.server)
		_, ofHost, err2 := tlsconf.Peer(m.client)
		if err1 != nil || err2 != nil || ofTerminal != terminal.Serial() || ofHost != host.Serial() {
			t.Errorf("serials %s and %s, want %s and %s", ofTerminal, ofHost, terminal.Serial(), host.Serial())
		}
		serials[ofTerminal], serials[ofHost] = true, true
		if err := errors.Join(host.Set(s.certify(t, identity.AcquirerHost, "HOST")), terminal.Set(s.certify(t, identity.Terminal, "T-1"))); err != nil {
			t.Fatal(err)
		}
	}
	if len(serials) != 6 {
		t.Errorf("%d certificates were shown, want 6", len(serials))
	}
	before := host.Serial()
	for name, cert := range map[string]tls.Certificate{
		"another identity": s.certify(t, identity.AcquirerHost, "OTHER"),
		"no certificate":   {},
		"another key":      {Certificate: s.certify(t, identity.AcquirerHost, "HOST").Certificate, PrivateKey: s.certify(t, identity.RA, "RA").PrivateKey},
		"no key":           {Certificate: s.certify(t, identity.AcquirerHost, "HOST").Certificate},
		"damage":           {Certificate: [][]byte{{0x30}}},
	} {
		if err := host.Set(cert); err == nil || host.Serial() != before {
			t.Errorf("%s: error %v, serial %s, want the old certificate", name, err, host.Serial())
		}
	}
}

// TestClientJudgesServer lets a terminal meet servers that are not the one it wants.
func TestClientJudgesServer(t *testing.T) {
	t.Parallel()
	s := newSystem(t, time.Now)
	want := identity.Identity{Tenant: "ACME", Role: identity.AcquirerHost, Name: "HOST"}
	cert := s.certify(t, identity.Terminal, "T-1")
	other := newSystem(t, time.Now)
	for _, tc := range []struct {
		name    string
		server  tls.Certificate
		change  func(*tlsconf.ClientOptions)
		ok      bool
		refused bool // by our own judgement, after the chain verified
	}{
		{name: "the one", server: s.certify(t, identity.AcquirerHost, "HOST"), ok: true},
		{name: "by address", server: s.certify(t, identity.AcquirerHost, "HOST"), change: func(o *tlsconf.ClientOptions) { o.ServerName = "127.0.0.1" }, ok: true},
		{name: "another of the role", server: s.certify(t, identity.AcquirerHost, "OTHER"), refused: true},
		{name: "any of the role", server: s.certify(t, identity.AcquirerHost, "OTHER"), change: func(o *tlsconf.ClientOptions) { o.ServerIdentity = nil }, ok: true},
		{name: "another role", server: s.certify(t, identity.Decrypt, "HOST"), refused: true},
		{name: "another host", server: s.certify(t, identity.AcquirerHost, "HOST"), change: func(o *tlsconf.ClientOptions) { o.ServerName = "pay.example" }},
		{name: "no host", server: s.certify(t, identity.AcquirerHost, "HOST"), change: func(o *tlsconf.ClientOptions) { o.ServerName = "" }},
		{name: "another deployment", server: other.certify(t, identity.AcquirerHost, "HOST")},
		{name: "revoked", server: s.certify(t, identity.AcquirerHost, "HOST"), change: func(o *tlsconf.ClientOptions) {
			o.Gate = tlsconf.GateFunc(func(identity.Identity, string) error { return errDenied })
		}, refused: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			server := s.server(t, func(o *tlsconf.ServerOptions) { o.Credential = credential(t, tc.server) })
			client := s.client(t, cert, func(o *tlsconf.ClientOptions) {
				o.ServerIdentity = &want
				if tc.change != nil {
					tc.change(o)
				}
			})
			m := meet(t, server, client)
			if (m.clientErr == nil) != tc.ok || errors.Is(m.clientErr, tlsconf.ErrRefused) != tc.refused {
				t.Errorf("client %v, want success %t, ErrRefused %t", m.clientErr, tc.ok, tc.refused)
			}
		})
	}
}

// TestTerminalCannotServe has a terminal show its certificate as a server: crypto/tls misses the usage, and no
// configuration is made for it.
func TestTerminalCannotServe(t *testing.T) {
	t.Parallel()
	s := newSystem(t, time.Now)
	terminal := s.certify(t, identity.Terminal, "T-2")
	rogue := s.server(t, nil).Clone()
	rogue.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &terminal, nil }
	if m := meet(t, rogue, s.client(t, s.certify(t, identity.Terminal, "T-1"), nil)); m.clientErr == nil {
		t.Error("connected to a terminal")
	}
}

func TestNothingOlderAndNobodyUnnamed(t *testing.T) {
	t.Parallel()
	s := newSystem(t, time.Now)
	server := s.server(t, nil)
	good := s.client(t, s.certify(t, identity.Terminal, "T-1"), nil)
	for name, change := range map[string]func(*tls.Config){
		"TLS 1.2": func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 },
		"no certificate": func(c *tls.Config) {
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return new(tls.Certificate), nil }
		},
	} {
		client := good.Clone()
		change(client)
		if m := meet(t, server, client); m.serverErr == nil || m.clientErr == nil {
			t.Errorf("%s: let in", name)
		}
	}
	if m := meet(t, server, good); !m.ok() {
		t.Errorf("the good one: server %v, client %v", m.serverErr, m.clientErr)
	}
}
