package trustlist

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

const (
	formatVersion = 1
	maxDocument   = 64 << 10 // bytes
	maxRoots      = 8        // of one authority
	maxNext       = 4
)

// ErrTrust is wrapped by every error about a list that breaks a rule or is not to be trusted.
var ErrTrust = errors.New("trustlist: list refused")

var codec = canon.New(16, 4)

// List says whom a terminal trusts. It is plain data: whoever fills it in gives it to Sign, which validates it. One that
// Open returns is valid and knows its signer.
type List struct {
	Tenant    string              // whose terminals
	Version   uint64              // 1, 2, 3 …; every change is a new one
	NotBefore time.Time           // when it was made, whole seconds: a clock that is behind it is wrong
	Terminals []*x509.Certificate // roots of the terminals authority
	Services  []*x509.Certificate // roots of the services authority
	KeyDist   []*x509.Certificate // roots of the key-distribution authority
	Next      []Pin               // keys that may sign later versions, beside the one that signs this

	signer Pin               // zero before it is signed
	digest [sha256.Size]byte // of the signed payload
}

// wireList is the payload of a signed list.
type wireList struct {
	Version   uint     `cbor:"v"`
	Tenant    string   `cbor:"tenant"`
	Number    uint64   `cbor:"version"`
	NotBefore int64    `cbor:"not-before"`
	Terminals [][]byte `cbor:"terminals"`
	Services  [][]byte `cbor:"services"`
	KeyDist   [][]byte `cbor:"keydist"`
	Next      []string `cbor:"next,omitempty"`
}

// Trust returns the roots as tls/tlsconf takes them.
func (l *List) Trust() tlsconf.Trust {
	return tlsconf.Trust{Terminals: pool(l.Terminals), Services: pool(l.Services), KeyDist: pool(l.KeyDist)}
}

// Pins returns the keys that may sign the next version: the one that signed this, and those that it names.
func (l *List) Pins() []Pin {
	if l.signer.IsZero() {
		return slices.Clone(l.Next)
	}
	return append([]Pin{l.signer}, l.Next...)
}

func pool(roots []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range roots {
		p.AddCert(c)
	}
	return p
}

// validate reports the first rule that the list breaks. The error wraps ErrTrust.
func (l *List) validate() error {
	if _, err := identity.New(l.Tenant, identity.RA, "X"); err != nil {
		return refused("tenant is not [A-Z0-9-]{1,32}")
	}
	if l.Version < 1 {
		return refused("version 0, want 1 or more")
	}
	if l.NotBefore.Unix() < 1 || l.NotBefore.Nanosecond() != 0 {
		return refused("not-before is not set, or not in whole seconds")
	}
	if len(l.Next) > maxNext {
		return refused("%d further keys, want at most %d", len(l.Next), maxNext)
	}
	for i, p := range l.Next {
		if p.IsZero() || slices.Contains(l.Next[:i], p) {
			return refused("a further key has no pin, or is named twice")
		}
	}
	return l.checkRoots()
}

// checkRoots wants roots of every authority, each once, and no key that speaks for two authorities.
func (l *List) checkRoots() error {
	owner := make(map[string]identity.Authority) // by public key
	for _, a := range identity.Authorities() {
		roots := l.roots(a)
		if len(roots) < 1 || len(roots) > maxRoots {
			return refused("%d roots of %v, want 1 to %d", len(roots), a, maxRoots)
		}
		for i, c := range roots {
			if err := l.checkRoot(c); err != nil {
				return refused("root %d of %v: %v", i+1, a, err)
			}
			if slices.ContainsFunc(roots[:i], c.Equal) {
				return refused("root %d of %v is listed twice", i+1, a)
			}
			key := string(c.RawSubjectPublicKeyInfo)
			if other, ok := owner[key]; ok && other != a {
				return refused("root %d of %v has the key of a root of %v", i+1, a, other)
			}
			owner[key] = a
		}
	}
	return nil
}

func (l *List) roots(a identity.Authority) []*x509.Certificate {
	switch a {
	case identity.TerminalCA:
		return l.Terminals
	case identity.ServicesCA:
		return l.Services
	case identity.KeyDistCA:
		return l.KeyDist
	}
	return nil
}

// checkRoot wants a certificate authority that signed itself and was not over when the list was made.
func (l *List) checkRoot(c *x509.Certificate) error {
	if c == nil {
		return errors.New("no certificate")
	}
	if !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0 {
		return errors.New("not a certificate authority")
	}
	if !bytes.Equal(c.RawSubject, c.RawIssuer) || c.CheckSignatureFrom(c) != nil {
		return errors.New("it did not sign itself")
	}
	if !c.NotAfter.After(l.NotBefore) {
		return errors.New("over before the list begins")
	}
	return nil
}

// payload returns what is signed of a valid list.
func (l *List) payload() ([]byte, error) {
	if err := l.validate(); err != nil {
		return nil, err
	}
	w := wireList{
		Version: formatVersion, Tenant: l.Tenant, Number: l.Version, NotBefore: l.NotBefore.Unix(),
		Terminals: raw(l.Terminals), Services: raw(l.Services), KeyDist: raw(l.KeyDist),
	}
	for _, p := range l.Next {
		w.Next = append(w.Next, p.String())
	}
	b, err := codec.Marshal(&w)
	if err != nil {
		return nil, refused("%v", err)
	}
	return b, nil
}

// parsePayload reads what payload gives, and nothing else.
func parsePayload(b []byte) (*List, error) {
	var w wireList
	if err := codec.Unmarshal(b, &w); err != nil {
		return nil, refused("%v", err)
	}
	if w.Version != formatVersion {
		return nil, refused("format version %d, want %d", w.Version, formatVersion)
	}
	l := &List{Tenant: w.Tenant, Version: w.Number, NotBefore: time.Unix(w.NotBefore, 0).UTC()}
	for _, part := range []struct {
		der [][]byte
		dst *[]*x509.Certificate
	}{{w.Terminals, &l.Terminals}, {w.Services, &l.Services}, {w.KeyDist, &l.KeyDist}} {
		roots, err := certificates(part.der)
		if err != nil {
			return nil, err
		}
		*part.dst = roots
	}
	for _, text := range w.Next {
		var p Pin
		if err := p.UnmarshalText([]byte(text)); err != nil {
			return nil, refused("%v", err)
		}
		l.Next = append(l.Next, p)
	}
	again, err := l.payload()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, refused("not the deterministic encoding of its content")
	}
	return l, nil
}

func certificates(der [][]byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for _, b := range der {
		c, err := x509.ParseCertificate(b)
		if err != nil {
			return nil, refused("%v", err)
		}
		out = append(out, c)
	}
	return out, nil
}

func raw(certs []*x509.Certificate) [][]byte {
	var out [][]byte
	for _, c := range certs {
		out = append(out, c.Raw)
	}
	return out
}

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrTrust, fmt.Sprintf(format, args...))
}
