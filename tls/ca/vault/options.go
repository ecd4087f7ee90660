package vault

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/tls/identity"
)

// Server says which Vault, and how to reach it. Address is required.
type Server struct {
	Address   string      // https URL; http on a loopback address only
	Namespace string      // of Vault Enterprise or OpenBao; empty: the root namespace
	TLS       *tls.Config // of tlsconf.Outside; nil: the roots of the machine, where the address is https
}

// Options say how an Issuer is made. Server, Chain and Login are required.
type Options struct {
	Server Server
	Mount  string // of the PKI engine; empty: pki
	Role   string // of the PKI engine; empty: latchkey-terminals
	// Chain is that of the issuer in Vault: the certificate that signs first, the root last. It comes from Setup and not from
	// Vault, so that Vault cannot change whom it signs for.
	Chain []*x509.Certificate
	Login Login

	Timeout    time.Duration    // of one call, the login before it not included; 2.5 s when zero, 10 s at most
	Concurrent int              // calls at once; 8 when zero
	Clock      func() time.Time // time.Now when nil
	Logger     *slog.Logger     // silent when nil
	// Observe, if not nil, is told of each call to Vault: what it was, how long it took, and what came of it, nil if all went
	// well. It must not block.
	Observe func(call string, took time.Duration, err error)
}

// Defaults of Options and of Plan.
const (
	DefaultMount   = "pki"
	DefaultRole    = "latchkey-terminals"
	defaultTimeout = 2500 * time.Millisecond
	maxTimeout     = 10 * time.Second
	defaultSeats   = 8
	maxSeats       = 256
)

// complete checks what is required and fills in the rest.
func (o *Options) complete() error {
	if err := o.Server.Check(); err != nil {
		return err
	}
	o.Mount, o.Role = cmp.Or(o.Mount, DefaultMount), cmp.Or(o.Role, DefaultRole)
	if err := errors.Join(CheckPath("mount", o.Mount), CheckName("role", o.Role)); err != nil {
		return err
	}
	if o.Login == nil {
		return errors.New("vault: no way to log in")
	}
	if err := checkChain(o.Chain); err != nil {
		return err
	}
	o.Timeout, o.Concurrent = cmp.Or(o.Timeout, defaultTimeout), cmp.Or(o.Concurrent, defaultSeats)
	if o.Timeout < 0 || o.Timeout > maxTimeout || o.Concurrent < 0 || o.Concurrent > maxSeats {
		return fmt.Errorf("vault: timeout %v and %d calls at once, want up to %v and %d", o.Timeout, o.Concurrent, maxTimeout, maxSeats)
	}
	o.Chain = slices.Clone(o.Chain)
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Observe == nil {
		o.Observe = func(string, time.Duration, error) {}
	}
	return nil
}

// checkChain holds the chain to what Check of package ca demands of every certificate below it.
func checkChain(chain []*x509.Certificate) error {
	if len(chain) < 2 || slices.Contains(chain, nil) {
		return fmt.Errorf("vault: a chain of %d certificates, want the issuing one first and the root last", len(chain))
	}
	for i, cert := range chain {
		issuer := chain[min(i+1, len(chain)-1)]
		if !cert.IsCA {
			return fmt.Errorf("vault: chain: %q is not an authority", cert.Subject.CommonName)
		}
		if err := cert.CheckSignatureFrom(issuer); err != nil {
			return fmt.Errorf("vault: chain: %q was not signed by %q: %w", cert.Subject.CommonName, issuer.Subject.CommonName, err)
		}
	}
	if err := identity.MayCertify(chain[:len(chain)-1], identity.Terminal); err != nil {
		return fmt.Errorf("vault: chain: %w", err)
	}
	return nil
}

// Check reports an address that is none, or one to which a token would travel in the clear.
func (s Server) Check() error {
	u, err := url.Parse(s.Address)
	if err != nil || u.User != nil {
		return errors.New("vault: the address is no URL, or has a name in it: want https://HOST:PORT") // what it is may be a password
	}
	if u.Host == "" || u.RawQuery != "" || u.Fragment != "" || (u.Path != "" && u.Path != "/") {
		return fmt.Errorf("vault: address %q, want https://HOST:PORT", s.Address)
	}
	switch u.Scheme {
	case "https":
	case "http":
		if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return fmt.Errorf("vault: address %q: http only on this machine, or tokens travel in the clear", s.Address)
		}
	default:
		return fmt.Errorf("vault: address %q, want https://HOST:PORT", s.Address)
	}
	if s.Namespace != "" {
		return CheckPath("namespace", s.Namespace)
	}
	return nil
}

var (
	name = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)
	path = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}(/[A-Za-z0-9][A-Za-z0-9_-]{0,63}){0,4}$`)
)

// CheckName reports what can be no name of a role or policy. what says what it is for.
func CheckName(what, s string) error {
	if !name.MatchString(s) {
		return fmt.Errorf("vault: %s %q, want letters, digits, hyphens and underscores, at most 64", what, s)
	}
	return nil
}

// CheckPath reports what can be no mount or namespace: names with slashes between them.
func CheckPath(what, s string) error {
	if !path.MatchString(s) {
		return fmt.Errorf("vault: %s %q, want names of letters, digits, hyphens and underscores, with slashes between them", what, s)
	}
	return nil
}
