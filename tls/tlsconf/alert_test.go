package tlsconf_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// TestAlertsOfServers has listeners end connections, and looks at what their clients are left with.
func TestAlertsOfServers(t *testing.T) {
	t.Parallel()
	s := newSystem(t, time.Now)
	terminal := s.certify(t, identity.Terminal, "T-1")
	visitor := s.client(t, terminal, func(o *tlsconf.ClientOptions) { o.Credential, o.Visitor = nil, true })
	shut := &denylist{denied: map[string]bool{credential(t, terminal).Serial(): true}}
	later := func() time.Time { return time.Now().AddDate(20, 0, 0) }
	old := s.client(t, terminal, nil)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for name, tc := range map[string]struct {
		server, client *tls.Config
		alert, refused bool
	}{
		"let in":           {s.server(t, nil), s.client(t, terminal, nil), false, false},
		"no certificate":   {s.server(t, nil), visitor, true, true},
		"another role":     {s.server(t, nil), s.client(t, s.certify(t, identity.Operator, "O-1"), nil), true, true},
		"shut by the gate": {s.server(t, func(o *tlsconf.ServerOptions) { o.Gate = shut }), s.client(t, terminal, nil), true, true},
		"expired":          {s.server(t, func(o *tlsconf.ServerOptions) { o.Clock = later }), s.client(t, terminal, nil), true, true},
		"TLS 1.2":          {s.server(t, nil), old, true, false},
		"the server is the wrong one": {s.server(t, nil), s.client(t, terminal, func(o *tlsconf.ClientOptions) {
			o.ServerName = "elsewhere"
		}), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := meet(t, tc.server, tc.client).clientErr
			if got := tlsconf.Alert(err); got != tc.alert {
				t.Errorf("an alert: %t (%v), want %t", got, err, tc.alert)
			}
			if got := tlsconf.CertificateRefused(err); got != tc.refused {
				t.Errorf("refuses the certificate: %t (%v), want %t", got, err, tc.refused)
			}
		})
	}
}

// TestAlertNumbers goes through every alert that there can be.
func TestAlertNumbers(t *testing.T) {
	t.Parallel()
	certificate := []tls.AlertError{42, 43, 44, 45, 46, 48, 49, 116}
	for n := range 256 {
		a := tls.AlertError(n)
		err := error(&url.Error{Op: "Get", URL: "https://ra.example", Err: &net.OpError{Op: "remote error", Err: a}})
		if got, want := tlsconf.CertificateRefused(err), slices.Contains(certificate, a); got != want || !tlsconf.Alert(err) {
			t.Errorf("alert %d: an alert %t, refuses the certificate %t, want true and %t", n, tlsconf.Alert(err), got, want)
		}
		err = &net.OpError{Op: "local error", Err: a}
		if tlsconf.Alert(err) || tlsconf.CertificateRefused(err) {
			t.Errorf("alert %d that this end sent counts", n)
		}
	}
	for _, err := range []error{nil, io.EOF, errors.New("remote error"), fmt.Errorf("%w", tls.AlertError(42)), &net.OpError{Op: "read", Err: tls.AlertError(42)}} {
		if tlsconf.Alert(err) || tlsconf.CertificateRefused(err) {
			t.Errorf("%v counts as an alert", err)
		}
	}
}
