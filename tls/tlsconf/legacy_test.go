package tlsconf_test

import (
	"crypto/tls"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// legacy makes a listener of TLS 1.2 for terminals.
func (s *system) legacy(t testing.TB, change func(*tlsconf.ServerOptions)) *tls.Config {
	t.Helper()
	o := tlsconf.ServerOptions{
		Credential: credential(t, s.certify(t, identity.AcquirerHost, "HOST")), Trust: s.trust,
		Accept: []identity.Role{identity.Terminal}, Gate: tlsconf.OpenGate(),
	}
	if change != nil {
		change(&o)
	}
	cfg, err := tlsconf.LegacyServer(o)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestLegacyVersionsAndSuites offers one version and one suite at a time: of all that crypto/tls knows, three suites of TLS 1.2 are
// taken.
func TestLegacyVersionsAndSuites(t *testing.T) {
	t.Parallel()
	s := newSystem(t, time.Now)
	cert := s.certify(t, identity.Terminal, "T-1")
	server := s.legacy(t, nil)
	offer := func(version uint16, suites ...uint16) meeting {
		client := s.client(t, cert, nil)
		client.MinVersion, client.MaxVersion, client.CipherSuites = version, version, suites
		return meet(t, server, client)
	}
	taken := []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
	}
	refused := 0
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		for _, version := range suite.SupportedVersions {
			if version == tls.VersionTLS13 {
				continue
			}
			m, want := offer(version, suite.ID), version == tls.VersionTLS12 && slices.Contains(taken, suite.ID)
			if m.ok() != want {
				t.Errorf("%s over %s is taken: %t (server %v, client %v), want %t", suite.Name, tls.VersionName(version), m.ok(), m.serverErr, m.clientErr, want)
			}
			if want && (m.server.CipherSuite != suite.ID || m.server.Version != tls.VersionTLS12) {
				t.Errorf("%s came out as %s over %s", suite.Name, tls.CipherSuiteName(m.server.CipherSuite), tls.VersionName(m.server.Version))
			}
			if !want {
				refused++
			}
		}
	}
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS13} {
		if m := offer(version); m.ok() || m.serverErr == nil {
			t.Errorf("%s is taken", tls.VersionName(version))
		}
	}
	if refused < 20 {
		t.Errorf("only %d offers were refused", refused)
	}
	if m := meet(t, s.server(t, nil), func() *tls.Config {
		c := s.client(t, cert, nil)
		c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		return c
	}()); m.ok() {
		t.Error("the listener that is not for it takes TLS 1.2")
	}
}

// TestLegacyResumesNothing connects again with whatever the client was given to resume by.
func TestLegacyResumesNothing(t *testing.T) {
	t.Parallel()
	s := newSystem(t, time.Now)
	kept := &sessions{ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	client := s.client(t, s.certify(t, identity.Terminal, "T-1"), nil)
	client.MinVersion, client.MaxVersion, client.ClientSessionCache, client.SessionTicketsDisabled = tls.VersionTLS12, tls.VersionTLS12, kept, false
	server := s.legacy(t, nil)
	for range 3 {
		if m := meet(t, server, client); !m.ok() || m.server.DidResume || m.client.DidResume {
			t.Fatalf("server %v, client %v, resumed %t", m.serverErr, m.clientErr, m.server.DidResume)
		}
	}
	if kept.given != 0 {
		t.Errorf("%d tickets were given out", kept.given)
	}
	// The client does resume where it may.
	willing := s.legacy(t, nil)
	willing.SessionTicketsDisabled = false
	for range 2 {
		meet(t, willing, client)
	}
	if kept.given == 0 {
		t.Error("this test could not see a ticket")
	}
}

// sessions counts what a client is given to resume by.
type sessions struct {
	tls.ClientSessionCache
	given int
}

func (s *sessions) Put(key string, cs *tls.ClientSessionState) {
	if cs != nil {
		s.given++
	}
	s.ClientSessionCache.Put(key, cs)
}

// TestLegacyJudgesAsEver turns away whom the other listener does, and is for terminals only.
func TestLegacyJudgesAsEver(t *testing.T) {
	t.Parallel()
	s := newSystem(t, time.Now)
	gate := &denylist{denied: make(map[string]bool)}
	server := s.legacy(t, func(o *tlsconf.ServerOptions) { o.Gate, o.Visitors = gate, true })
	connect := func(role identity.Role) meeting {
		client := s.client(t, s.certify(t, role, "PEER"), nil)
		client.MinVersion, client.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		return meet(t, server, client)
	}
	for _, role := range identity.Roles() {
		if role.Client() && connect(role).ok() != (role == identity.Terminal) {
			t.Errorf("role %s let in: %t", role, role != identity.Terminal)
		}
	}
	cert := s.certify(t, identity.Terminal, "T-1")
	client := s.client(t, cert, nil)
	client.MinVersion, client.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if m := meet(t, server, client); !m.ok() {
		t.Fatalf("server %v, client %v", m.serverErr, m.clientErr)
	}
	gate.deny(credential(t, cert).Serial())
	if m := meet(t, server, client); m.ok() || !errors.Is(m.serverErr, tlsconf.ErrRefused) {
		t.Errorf("revoked: %v, want ErrRefused", m.serverErr)
	}
	for _, accept := range [][]identity.Role{nil, {identity.Operator}, {identity.Terminal, identity.Operator}, {identity.AcquirerHost}} {
		_, err := tlsconf.LegacyServer(tlsconf.ServerOptions{
			Credential: credential(t, s.certify(t, identity.AcquirerHost, "HOST")), Trust: s.trust, Gate: tlsconf.OpenGate(), Accept: accept,
		})
		if err == nil {
			t.Errorf("TLS 1.2 for roles %v", accept)
		}
	}
}
