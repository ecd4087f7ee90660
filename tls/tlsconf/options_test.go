package tlsconf_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// TestServerAsksEveryone holds the first of two locks: a peer without a certificate gets no further than crypto/tls, and
// only then would VerifyConnection refuse it.
func TestServerAsksEveryone(t *testing.T) {
	t.Parallel()
	s := newSystem(t, time.Now)
	cfg := s.server(t, nil)
	if cfg.ClientAuth != tls.RequireAndVerifyClientCert || !cfg.ClientCAs.Equal(s.trust.Terminals) {
		t.Errorf("client authentication %v with other roots than those of terminals", cfg.ClientAuth)
	}
}

func TestServerOptionsRefused(t *testing.T) {
	t.Parallel()
	s := newSystem(t, time.Now)
	host := credential(t, s.certify(t, identity.AcquirerHost, "HOST"))
	for name, change := range map[string]func(*tlsconf.ServerOptions){
		"no credential":           func(o *tlsconf.ServerOptions) { o.Credential = nil },
		"empty credential":        func(o *tlsconf.ServerOptions) { o.Credential = new(tlsconf.Credential) },
		"a terminal's credential": func(o *tlsconf.ServerOptions) { o.Credential = credential(t, s.certify(t, identity.Terminal, "T-1")) },
		"no gate":                 func(o *tlsconf.ServerOptions) { o.Gate = nil },
		"no role":                 func(o *tlsconf.ServerOptions) { o.Accept = nil },
		"an unknown role":         func(o *tlsconf.ServerOptions) { o.Accept = []identity.Role{"root"} },
		"a role of no TLS peer":   func(o *tlsconf.ServerOptions) { o.Accept = []identity.Role{identity.Agreement} },
		"two authorities":         func(o *tlsconf.ServerOptions) { o.Accept = []identity.Role{identity.Terminal, identity.Operator} },
		"no roots":                func(o *tlsconf.ServerOptions) { o.Trust.Terminals = nil },
		"empty roots":             func(o *tlsconf.ServerOptions) { o.Trust.Terminals = x509.NewCertPool() },
	} {
		o := tlsconf.ServerOptions{Credential: host, Trust: s.trust, Accept: []identity.Role{identity.Terminal}, Gate: tlsconf.OpenGate()}
		change(&o)
		if cfg, err := tlsconf.Server(o); err == nil || cfg != nil {
			t.Errorf("%s: made a configuration", name)
		}
	}
}

func TestClientOptionsRefused(t *testing.T) {
	t.Parallel()
	s := newSystem(t, time.Now)
	terminal := credential(t, s.certify(t, identity.Terminal, "T-1"))
	for name, change := range map[string]func(*tlsconf.ClientOptions){
		"no credential":              func(o *tlsconf.ClientOptions) { o.Credential = nil },
		"a key of no TLS peer":       func(o *tlsconf.ClientOptions) { o.Credential = credential(t, s.certify(t, identity.Agreement, "T-1")) },
		"a visitor's credential":     func(o *tlsconf.ClientOptions) { o.Visitor = true },
		"no gate":                    func(o *tlsconf.ClientOptions) { o.Gate = nil },
		"no role":                    func(o *tlsconf.ClientOptions) { o.ServerRole = "" },
		"a role that does not serve": func(o *tlsconf.ClientOptions) { o.ServerRole = identity.Terminal },
		"an identity of another role": func(o *tlsconf.ClientOptions) {
			o.ServerIdentity = &identity.Identity{Tenant: "ACME", Role: identity.Decrypt, Name: "D"}
		},
		"no identity": func(o *tlsconf.ClientOptions) { o.ServerIdentity = new(identity.Identity) },
		"no roots":    func(o *tlsconf.ClientOptions) { o.Trust.Services = nil },
	} {
		o := tlsconf.ClientOptions{Credential: terminal, Trust: s.trust, ServerRole: identity.AcquirerHost, ServerName: "localhost", Gate: tlsconf.OpenGate()}
		change(&o)
		if cfg, err := tlsconf.Client(o); err == nil || cfg != nil {
			t.Errorf("%s: made a configuration", name)
		}
	}
}

// TestAcceptIsCopied changes the list of roles after the configuration was made.
func TestAcceptIsCopied(t *testing.T) {
	t.Parallel()
	s := newSystem(t, time.Now)
	accept := []identity.Role{identity.AcquirerHost}
	server := s.server(t, func(o *tlsconf.ServerOptions) { o.Accept = accept })
	accept[0] = identity.Operator
	if m := meet(t, server, s.client(t, s.certify(t, identity.Operator, "OP"), nil)); m.ok() {
		t.Error("the list of the caller decides")
	}
}

func TestPeerRefuses(t *testing.T) {
	t.Parallel()
	s := newSystem(t, time.Now)
	m := meet(t, s.server(t, nil), s.client(t, s.certify(t, identity.Terminal, "T-1"), nil))
	for name, change := range map[string]func(*tls.ConnectionState){
		"nothing":                 func(cs *tls.ConnectionState) { *cs = tls.ConnectionState{} },
		"an unfinished handshake": func(cs *tls.ConnectionState) { cs.HandshakeComplete = false },
		"an unverified chain":     func(cs *tls.ConnectionState) { cs.VerifiedChains = nil },
		"no certificate":          func(cs *tls.ConnectionState) { cs.PeerCertificates = nil },
		"another certificate":     func(cs *tls.ConnectionState) { cs.PeerCertificates = cs.VerifiedChains[0][1:] },
	} {
		cs := m.server
		change(&cs)
		if id, serial, err := tlsconf.Peer(cs); !errors.Is(err, tlsconf.ErrRefused) || !id.IsZero() || serial != "" {
			t.Errorf("%s: %v, %q, %v", name, id, serial, err)
		}
	}
}

func TestPrintsNoKey(t *testing.T) {
	t.Parallel()
	s := newSystem(t, time.Now)
	cert := s.certify(t, identity.Terminal, "T-1")
	c := credential(t, cert)
	d := cert.PrivateKey.(*ecdsa.PrivateKey)
	scalar, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "credential", c)
	js, err := json.Marshal(map[string]any{"c": c})
	if err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{
		fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), fmt.Sprintf("%s%x%q%d", c, c, c, c), log.String(), string(js), fmt.Sprint(new(tlsconf.Credential)),
	} {
		if strings.Contains(got, fmt.Sprintf("%x", scalar[:8])) || strings.Contains(got, fmt.Sprint(scalar[:8])) || !strings.Contains(got, "tlsconf.Credential(") {
			t.Errorf("prints %q", got)
		}
	}
}
