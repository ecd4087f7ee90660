package terminaltest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// Names used in every lab.
const (
	Tenant     = "ACME"
	TerminalID = "T-0001"
	DataSlot   = 1 // card data and MACs
	PINSlot    = 2 // PIN blocks
)

// Lab is one terminal and its host: keys, certificates and key sets.
type Lab struct {
	Scheme dukpt.Scheme
	Cipher keys.Algorithm // of the base keys
	Sets   map[uint8]*keyset.KeySet
	Base   map[uint8]*dukpt.BaseKey
	Trust  tlsconf.Trust // the three authorities
	Host   *Host

	services, terminals, keydist *authority
	ids                          map[uint8]dukpt.KeyID // of the bundle: the first of each set
}

// NewLab makes a lab whose two slots, for data and for PINs, are of one scheme.
func NewLab(tb testing.TB, scheme dukpt.Scheme) *Lab {
	tb.Helper()
	if scheme == dukpt.TDES {
		return NewLabOf(tb, keys.TDES2)
	}
	return NewLabOf(tb, keys.AES128)
}

// NewLabOf makes a lab whose base keys are of one algorithm.
func NewLabOf(tb testing.TB, cipher keys.Algorithm) *Lab {
	tb.Helper()
	scheme := dukpt.AES
	if cipher == keys.TDES2 {
		scheme = dukpt.TDES
	}
	l := &Lab{
		Scheme: scheme, Cipher: cipher, Sets: make(map[uint8]*keyset.KeySet), Base: make(map[uint8]*dukpt.BaseKey),
		services: newAuthority(tb, "services"), terminals: newAuthority(tb, "terminals"),
		keydist: newAuthority(tb, "key distribution"), ids: make(map[uint8]dukpt.KeyID),
	}
	l.Trust = tlsconf.Trust{Services: l.services.pool(), Terminals: l.terminals.pool(), KeyDist: l.keydist.pool()}
	l.addSlot(tb, DataSlot, keyset.UsageData, keyset.UsageMAC)
	l.addSlot(tb, PINSlot, keyset.UsagePIN, keyset.UsageMAC)
	l.Host = newHost(tb, l)
	return l
}

func (l *Lab) addSlot(tb testing.TB, slot uint8, usages ...keyset.Usage) {
	tb.Helper()
	set := keyset.NewDefaults(l.Scheme, usages...)
	set.Algorithm = l.Cipher
	set.ID, set.Tenant, set.Environment = keyset.ID("SET-"+string(rune('0'+slot))), Tenant, keyset.Test
	set.FirstID, set.LastID = l.NewKeyID(tb, slot, 0), l.NewKeyID(tb, slot, 255)
	ref, err := keyset.ParseKeyRef(fmt.Sprintf("alias/lab/slot-%d", slot))
	check(tb, err)
	fingerprint, err := keys.ParseFingerprint(fmt.Sprintf("%032x", slot))
	check(tb, err)
	set.BaseKey, set.BaseKeyFingerprint = ref, fingerprint
	check(tb, set.Validate())
	k, err := keys.GenerateKey(keys.Attributes{
		Algorithm: set.Algorithm, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	})
	check(tb, err)
	defer k.Wipe()
	base, err := dukpt.NewBaseKey(k)
	check(tb, err)
	l.Sets[slot], l.Base[slot], l.ids[slot] = set, base, set.FirstID
}

// NewKeyID returns key id number n of the set of a slot; the bundle has number 0.
func (l *Lab) NewKeyID(tb testing.TB, slot, n uint8) dukpt.KeyID {
	tb.Helper()
	id, err := l.newKeyID(slot, n)
	check(tb, err)
	return id
}

func (l *Lab) newKeyID(slot, n uint8) (dukpt.KeyID, error) {
	raw := make([]byte, 10)
	if l.Scheme == dukpt.AES {
		raw = make([]byte, 12)
	}
	copy(raw, []byte{0xff, 0xff, 0x98, 0x76, 0x54, slot, n})
	return dukpt.ParseInitialKSN(raw)
}

// Bundle makes what `latchkey terminal register` would: each call gives the same keys and a certificate of its own. With
// no endpoints it names one that does not exist.
func (l *Lab) Bundle(tb testing.TB, endpoints ...terminal.Endpoint) *terminal.Bundle {
	tb.Helper()
	if len(endpoints) == 0 {
		endpoints = []terminal.Endpoint{{URL: "https://host.invalid:8443"}}
	}
	cert := l.terminals.issue(tb, identity.Identity{Tenant: Tenant, Role: identity.Terminal, Name: TerminalID})
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	check(tb, err)
	b := &terminal.Bundle{
		Tenant: Tenant, Terminal: TerminalID, Environment: keyset.Test, Chain: cert.Certificate,
		PrivateKey: secret.From(key), Roots: [][]byte{l.services.cert.Raw}, Endpoints: endpoints,
	}
	for _, slot := range []uint8{DataSlot, PINSlot} {
		b.Slots = append(b.Slots, l.slot(tb, slot))
	}
	return b
}

// slot wraps a fresh copy of the initial key of a slot.
func (l *Lab) slot(tb testing.TB, slot uint8) terminal.BundleSlot {
	tb.Helper()
	ik, err := l.Base[slot].Derive(l.ids[slot])
	check(tb, err)
	defer ik.Wipe()
	s, err := terminal.NewBundleSlot(slot, l.Sets[slot], ik)
	check(tb, err)
	return s
}

// KeyID returns the key id of a slot.
func (l *Lab) KeyID(slot uint8) dukpt.KeyID { return l.ids[slot] }

// Server returns the credential of an acquirer's host at 127.0.0.1.
func (l *Lab) Server(tb testing.TB) *tlsconf.Credential {
	tb.Helper()
	return l.credential(tb, l.services, identity.Identity{Tenant: Tenant, Role: identity.AcquirerHost, Name: "HOST-1"})
}

// Decrypt returns the credential of a decryption service at 127.0.0.1.
func (l *Lab) Decrypt(tb testing.TB) *tlsconf.Credential {
	tb.Helper()
	return l.credential(tb, l.services, identity.Identity{Tenant: Tenant, Role: identity.Decrypt, Name: "DECRYPT-1"})
}

// Client returns the credential of a terminal of another name than the lab's own.
func (l *Lab) Client(tb testing.TB, name string) *tlsconf.Credential {
	tb.Helper()
	return l.credential(tb, l.terminals, identity.Identity{Tenant: Tenant, Role: identity.Terminal, Name: name})
}

// Agreement returns the certificate of an agreement key of a terminal of any name.
func (l *Lab) Agreement(tb testing.TB, name string) *x509.Certificate {
	tb.Helper()
	return l.keydist.issue(tb, identity.Identity{Tenant: Tenant, Role: identity.Agreement, Name: name}).Leaf
}

func (l *Lab) credential(tb testing.TB, a *authority, id identity.Identity) *tlsconf.Credential {
	tb.Helper()
	c, err := tlsconf.NewCredential(a.issue(tb, id))
	check(tb, err)
	return c
}

// authority is a root that issues leaves for the length of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(tb testing.TB, name string) *authority {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(tb, err)
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "test " + name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(tb, err)
	cert, err := x509.ParseCertificate(der)
	check(tb, err)
	return &authority{cert: cert, key: key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

func (a *authority) issue(tb testing.TB, id identity.Identity) tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(tb, err)
	cert, err := a.certify(key.Public(), id)
	check(tb, err)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
}

// certify issues a certificate for a public key.
func (a *authority) certify(key crypto.PublicKey, id identity.Identity) (*x509.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{Organization: []string{id.Tenant}, CommonName: id.Name},
		URIs: []*url.URL{id.URI()}, Policies: []x509.OID{id.Role.Policy()},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(12 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
	if id.Role == identity.Terminal {
		template.NotAfter = time.Now().Add(10 * time.Hour)
	}
	if id.Role == identity.Agreement {
		template.KeyUsage = x509.KeyUsageKeyAgreement
	}
	if id.Role.Client() {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	if id.Role.Server() {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func serial() *big.Int {
	var b [15]byte
	_, _ = rand.Read(b[:]) // cannot fail
	return new(big.Int).Add(new(big.Int).SetBytes(b[:]), big.NewInt(1))
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
