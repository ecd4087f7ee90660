package catest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// Twist is one way of signing wrongly. The fields that are nil leave things right.
type Twist struct {
	Name     string
	Template func(*x509.Certificate)                       // changes the leaf before it is signed
	Issued   func([]*x509.Certificate) []*x509.Certificate // changes what is returned
	Issuing  func(*x509.Certificate)                       // changes the issuing certificate before the root signs it
	OtherKey bool                                          // certifies another public key
	Forged   bool                                          // signs with another key than that of the issuing certificate
	Foreign  bool                                          // returns another chain than Chain says
}

// Fake is an issuer in memory. It signs whatever it is asked for as its twist says, and checks nothing that it returns.
// It is safe for concurrent use.
type Fake struct {
	authority identity.Authority
	twist     Twist
	now       func() time.Time
	key       *ecdsa.PrivateKey
	chain     []*x509.Certificate
	other     []*x509.Certificate // the chain of somebody else

	mu      sync.Mutex
	issued  map[string]*big.Int
	keys    map[string][32]byte // of what was issued
	revoked []x509.RevocationListEntry
	number  int64
}

var _ ca.Issuer = (*Fake)(nil)

// NewFake makes an issuer for the authority. The zero Twist makes an honest one.
func NewFake(authority identity.Authority, twist Twist, now func() time.Time) (*Fake, error) {
	f := &Fake{authority: authority, twist: twist, now: now, key: newKey(elliptic.P256()), issued: make(map[string]*big.Int), keys: make(map[string][32]byte)}
	var err error
	if f.chain, err = f.newChain(); err != nil {
		return nil, err
	}
	f.other, err = f.newChain()
	return f, err
}

// Twists returns every way of signing wrongly that ca.Check must notice for a client role.
func Twists() []Twist {
	template := func(name string, change func(*x509.Certificate)) Twist { return Twist{Name: name, Template: change} }
	return []Twist{
		template("certificate authority", func(c *x509.Certificate) { c.IsCA = true }),
		template("no basic constraints", func(c *x509.Certificate) { c.BasicConstraintsValid = false }),
		template("may sign certificates", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }),
		template("no key usage", func(c *x509.Certificate) { c.KeyUsage = 0 }),
		template("lives longer", func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(time.Second) }),
		template("lives much shorter", func(c *x509.Certificate) { c.NotAfter = c.NotAfter.Add(-10 * time.Minute) }),
		template("starts a little earlier", func(c *x509.Certificate) { c.NotBefore = c.NotBefore.Add(-time.Second) }),
		template("starts earlier", func(c *x509.Certificate) { c.NotBefore = c.NotBefore.Add(-10 * time.Minute) }),
		template("starts later", func(c *x509.Certificate) { c.NotBefore = c.NotBefore.Add(10 * time.Minute) }),
		template("another name", func(c *x509.Certificate) { c.URIs[0].Path += "2" }),
		template("another tenant", func(c *x509.Certificate) { c.URIs[0].Host = "OTHER" }),
		template("another role", func(c *x509.Certificate) {
			c.URIs[0] = identity.Identity{Tenant: "ACME", Role: identity.Decrypt, Name: "ONE"}.URI()
			c.Policies = []x509.OID{identity.Decrypt.Policy()}
		}),
		template("another subject", func(c *x509.Certificate) { c.Subject.CommonName = "OTHER" }),
		template("no name", func(c *x509.Certificate) { c.URIs = nil }),
		template("a second name", func(c *x509.Certificate) {
			c.URIs = append(c.URIs, identity.Identity{Tenant: "ACME", Role: identity.Terminal, Name: "TWO"}.URI())
		}),
		template("a foreign name", func(c *x509.Certificate) { c.URIs = append(c.URIs, &url.URL{Scheme: "spiffe", Host: "x"}) }),
		template("a host name", func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "evil.example") }),
		template("an address", func(c *x509.Certificate) { c.IPAddresses = append(c.IPAddresses, net.IPv4(10, 0, 0, 1)) }),
		template("a mail address", func(c *x509.Certificate) { c.EmailAddresses = []string{"a@b.example"} }),
		template("one more usage", func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) }),
		template("every usage", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }),
		template("an unknown usage", func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 1}} }),
		template("no usage", func(c *x509.Certificate) { c.ExtKeyUsage = nil }),
		template("no policy", func(c *x509.Certificate) { c.Policies = nil }),
		template("a second policy", func(c *x509.Certificate) { c.Policies = append(c.Policies, identity.Decrypt.Policy()) }),
		template("the policy in both spellings", func(c *x509.Certificate) { c.Policies = identity.Terminal.Policies() }),
		template("another policy in short", func(c *x509.Certificate) { c.Policies = []x509.OID{identity.Decrypt.ShortPolicy()} }),
		template("another policy", func(c *x509.Certificate) { c.Policies = []x509.OID{identity.Decrypt.Policy()} }),
		template("an unexpected extension", func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 1}, Value: []byte{5, 0}}}
		}),
		template("an unknown critical extension", func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 1}, Critical: true, Value: []byte{5, 0}}}
		}),
		template("a small serial number", func(c *x509.Certificate) { c.SerialNumber = big.NewInt(7) }),
		{Name: "another key", OtherKey: true},
		{Name: "a forged signature", Forged: true},
		{Name: "a foreign chain", Foreign: true},
		{Name: "nothing", Issued: func([]*x509.Certificate) []*x509.Certificate { return nil }},
		{Name: "the leaf alone", Issued: func(c []*x509.Certificate) []*x509.Certificate { return c[:1] }},
		{Name: "the chain without the leaf", Issued: func(c []*x509.Certificate) []*x509.Certificate { return append(c[1:], c[1]) }},
		{Name: "one certificate more", Issued: func(c []*x509.Certificate) []*x509.Certificate { return append(c, c[1]) }},
		{Name: "a nil certificate", Issued: func(c []*x509.Certificate) []*x509.Certificate { return []*x509.Certificate{c[0], nil} }},
		{Name: "an issuer for other roles", Issuing: func(c *x509.Certificate) { c.Policies = []x509.OID{identity.Decrypt.Policy()} }},
		{Name: "an issuer for other usages", Issuing: func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }},
		{Name: "an issuer that is none", Issuing: func(c *x509.Certificate) {
			c.IsCA, c.MaxPathLenZero, c.KeyUsage = false, false, x509.KeyUsageDigitalSignature
		}},
		{Name: "an issuer that ends first", Issuing: func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(2 * time.Hour) }},
		{Name: "an issuer that starts later", Issuing: func(c *x509.Certificate) { c.NotBefore = c.NotBefore.Add(time.Hour - time.Second) }},
	}
}

func (f *Fake) newChain() ([]*x509.Certificate, error) {
	start := f.now().Add(-time.Hour)
	rootKey := newKey(elliptic.P256())
	rootTemplate := &x509.Certificate{
		SerialNumber: randomSerial(), Subject: pkix.Name{CommonName: "fake root"}, NotBefore: start, NotAfter: start.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
	}
	root, err := sign(rootTemplate, rootTemplate, &rootKey.PublicKey, rootKey)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: randomSerial(), Subject: pkix.Name{CommonName: "fake issuing"}, NotBefore: start, NotAfter: start.AddDate(5, 0, 0),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
		Policies: f.authority.Policies(),
	}
	if f.twist.Issuing != nil {
		f.twist.Issuing(template)
	}
	issuing, err := sign(template, root, &f.key.PublicKey, rootKey)
	if err != nil {
		return nil, err
	}
	return []*x509.Certificate{issuing, root}, nil
}

// Chain returns the issuing certificate and the root.
func (f *Fake) Chain() []*x509.Certificate { return slices.Clone(f.chain) }

// Issue signs the request as the twist says.
func (f *Fake) Issue(ctx context.Context, req ca.Request) ([]*x509.Certificate, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := req.Validate(f.authority); err != nil {
		return nil, err
	}
	template, err := req.Template(f.now())
	if err != nil {
		return nil, err
	}
	if f.twist.Issuing == nil && (template.NotAfter.After(f.chain[0].NotAfter) || template.NotBefore.Before(f.chain[0].NotBefore)) {
		return nil, fmt.Errorf("%w: outside of the issuer's own validity", ca.ErrRequest)
	}
	template.SerialNumber = randomSerial()
	if f.twist.Template != nil {
		f.twist.Template(template)
	}
	pub, signer, chain := req.PublicKey, f.key, f.chain
	if f.twist.OtherKey {
		pub = newKey(elliptic.P256()).Public()
	}
	if f.twist.Forged {
		signer = newKey(elliptic.P256())
	}
	if f.twist.Foreign {
		chain = f.other
	}
	parent := *chain[0]
	parent.PublicKey = signer.Public() // or x509 refuses to sign with the wrong key
	parent.IsCA, parent.BasicConstraintsValid = true, true
	leaf, err := sign(template, &parent, pub, signer)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.issued[identity.Serial(leaf)] = leaf.SerialNumber
	f.keys[identity.Serial(leaf)] = sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	f.mu.Unlock()
	issued := []*x509.Certificate{leaf, chain[0]}
	if f.twist.Issued != nil {
		issued = f.twist.Issued(issued)
	}
	return issued, nil
}

// Revoke remembers the serial number.
func (f *Fake) Revoke(ctx context.Context, serial string, reason int) error {
	if err := errors.Join(ctx.Err(), ca.CheckReason(reason)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, ok := f.issued[serial]
	if !ok {
		return ca.ErrUnknownSerial
	}
	for _, e := range f.revoked {
		if e.SerialNumber.Cmp(n) == 0 {
			return nil
		}
	}
	f.revoked = append(f.revoked, x509.RevocationListEntry{SerialNumber: n, RevocationTime: f.now(), ReasonCode: reason})
	return nil
}

// Issued returns what it has signed.
func (f *Fake) Issued(ctx context.Context, keys map[[32]byte]bool, known func(serial string) bool) (map[string][32]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[string][32]byte)
	for serial, key := range f.keys {
		if keys[key] && !known(serial) {
			out[serial] = key
		}
	}
	return out, ctx.Err()
}

// CRL signs a list of what was revoked.
func (f *Fake) CRL(context.Context) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.number++
	return x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(f.number), ThisUpdate: f.now(), NextUpdate: f.now().Add(time.Hour), RevokedCertificateEntries: f.revoked,
	}, f.chain[0], f.key)
}

// Health returns nil.
func (f *Fake) Health(context.Context) error { return nil }

func sign(template, parent *x509.Certificate, pub any, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func randomSerial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b)
}
