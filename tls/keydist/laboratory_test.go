package keydist_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/keydist"
	"github.com/latchkey-pos/latchkey/tls/keydist/keydisttest"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

// ra is the registration authority that gives the orders.
var ra = keydist.Caller{Identity: identity.Identity{Tenant: "ACME", Role: identity.RA, Name: "RA-1"}, Source: "10.0.0.1"}

// laboratory is a host with everything around it in memory.
type laboratory struct {
	tb        testing.TB
	host      *keydist.Host
	store     *keydisttest.Model
	terminals *catest.Fake
	keydist   *catest.Fake
	maker     *maker
	config    keydist.Config
	makers    *keydist.Makers // nil: none

	mu       sync.Mutex
	now      time.Time
	sets     map[keyset.ID]*keyset.KeySet
	observed []string
	keysFail error
}

func must[T any](tb testing.TB) func(T, error) T {
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

func newLaboratory(tb testing.TB) *laboratory {
	tb.Helper()
	l := &laboratory{tb: tb, store: new(keydisttest.Model), now: noon, sets: map[keyset.ID]*keyset.KeySet{}}
	l.terminals = must[*catest.Fake](tb)(catest.NewFake(identity.TerminalCA, catest.Twist{}, l.clock))
	l.keydist = must[*catest.Fake](tb)(catest.NewFake(identity.KeyDistCA, catest.Twist{}, l.clock))
	l.maker = newMaker(tb)
	l.makers = l.maker.document(1)
	signer := newKey(tb, elliptic.P256())
	l.addSet(keyset.NewTDESData(), "CODE", keyset.Code, "FFFF9876543210E00000", "FFFF987654FFFFE00000")
	l.addSet(keyset.NewTDESPIN(), "SHORT", keyset.Code, "FFFF9876600000000000", "FFFF9876600000400000") // three key ids
	l.addSet(keyset.NewAESPIN(), "MADE", keyset.Attested, "1234567800000001", "12345678FFFFFFFF")
	l.addSet(keyset.NewAESData(), "NONE", keyset.DeliveryNone, "1234567900000001", "12345679FFFFFFFF")
	wide := keyset.NewAESData()
	wide.Algorithm = keys.AES256
	l.addSet(wide, "WIDE", keyset.Code, "1234567A00000001", "1234567AFFFFFFFF")
	l.config = keydist.Config{
		Tenant: "ACME", Environment: keyset.Test, Store: l.store, Issuer: l.keydist, Blocks: remote.InHost(l.initialKey), KeySets: l.keySet,
		Describe: func(ref keyset.KeyRef) keydist.KeyInfo {
			return keydist.KeyInfo{KCV: "0123AB", Labels: audit.Labels{KeyMode: "software", PINExposure: "host-memory", Environment: "test"}}
		},
		Signer: signer, Chain: l.issue(l.keydist, identity.KDH, "KDH-SIGNER-1", signer),
		Trust:  tlsconf.Trust{Terminals: roots(l.terminals), KeyDist: roots(l.keydist)},
		Makers: func() *keydist.Makers { return l.makers }, Clock: l.clock, Instance: "KDH-1", Logger: slog.New(slog.DiscardHandler), Observe: l.observe,
	}
	l.start()
	return l
}

// start makes the host anew, as after a restart or a change of the configuration.
func (l *laboratory) start() {
	l.tb.Helper()
	l.host = must[*keydist.Host](l.tb)(keydist.New(l.config))
}

func (l *laboratory) clock() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

func (l *laboratory) advance(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now = l.now.Add(d)
}

func (l *laboratory) observe(action, result string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.observed = append(l.observed, action+" "+result)
}

func (l *laboratory) keySet(id keyset.ID) (*keyset.KeySet, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.sets[id]
	return s, ok
}

// change puts another revision of a set in force.
func (l *laboratory) change(id keyset.ID, f func(*keyset.KeySet)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := l.sets[id].NextRevision()
	f(next)
	l.sets[id] = next
}

func (l *laboratory) addSet(s *keyset.KeySet, id keyset.ID, delivery keyset.Delivery, first, last string) {
	l.tb.Helper()
	s.ID, s.Tenant, s.Environment, s.Delivery = id, "ACME", keyset.Test, delivery
	s.BaseKey = must[keyset.KeyRef](l.tb)(keyset.ParseKeyRef("alias/bdk-" + string(id[0]) + "x"))
	s.BaseKeyFingerprint = must[keys.Fingerprint](l.tb)(keys.ParseFingerprint(fmt.Sprintf("%032x", id[0])))
	s.FirstID = must[dukpt.KeyID](l.tb)(dukpt.ParseKeyID(first))
	s.LastID = must[dukpt.KeyID](l.tb)(dukpt.ParseKeyID(last))
	if err := s.Validate(); err != nil {
		l.tb.Fatal(err)
	}
	l.sets[id] = s
}

// initialKey derives under the base key of a name.
func (l *laboratory) initialKey(ctx context.Context, ref keyset.KeyRef, id dukpt.KeyID) (*dukpt.InitialKey, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keysFail != nil {
		return nil, l.keysFail
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, s := range l.sets {
		if s.BaseKey == ref {
			base, err := baseKey(s)
			if err != nil {
				return nil, err
			}
			defer base.Wipe()
			return base.Derive(id)
		}
	}
	return nil, errors.New("no such key")
}

func baseKey(s *keyset.KeySet) (*dukpt.BaseKey, error) {
	size := map[keys.Algorithm]int{keys.TDES2: 16, keys.AES128: 16, keys.AES256: 32}[s.Algorithm]
	material := sha256.Sum256([]byte(s.BaseKey.String()))
	k, err := keys.NewKey(keys.Attributes{
		Algorithm: s.Algorithm, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	}, oddParity(material[:size]))
	if err != nil {
		return nil, err
	}
	defer k.Wipe()
	return dukpt.NewBaseKey(k)
}

// oddParity sets the parity that TDES keys have; AES keys do not mind.
func oddParity(b []byte) []byte {
	for i, v := range b {
		ones := 0
		for bit := 1; bit < 8; bit++ {
			ones += int(v >> bit & 1)
		}
		b[i] = v&0xfe | byte(1-ones%2)
	}
	return b
}

func (l *laboratory) issue(f *catest.Fake, role identity.Role, name string, key *ecdsa.PrivateKey) []*x509.Certificate {
	l.tb.Helper()
	return must[[]*x509.Certificate](l.tb)(f.Issue(l.tb.Context(), ca.Request{
		PublicKey: key.Public(), Identity: identity.Identity{Tenant: "ACME", Role: role, Name: name},
	}))
}

func newKey(tb testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	tb.Helper()
	return must[*ecdsa.PrivateKey](tb)(ecdsa.GenerateKey(curve, rand.Reader))
}

func roots(f *catest.Fake) *x509.CertPool {
	pool, chain := x509.NewCertPool(), f.Chain()
	pool.AddCert(chain[len(chain)-1])
	return pool
}

func der(chain []*x509.Certificate) (out [][]byte) {
	for _, c := range chain {
		out = append(out, c.Raw)
	}
	return out
}

// device is a terminal that has enrolled.
type device struct {
	lab            *laboratory
	name           keyset.TerminalID
	tlsKey, key    *ecdsa.PrivateKey
	tls, agreement []*x509.Certificate
	attestation    [][]byte
}

// enrol makes a terminal with certificates of both authorities.
func (l *laboratory) enrol(name keyset.TerminalID, curve elliptic.Curve) *device {
	l.tb.Helper()
	d := &device{lab: l, name: name, tlsKey: newKey(l.tb, elliptic.P256()), key: newKey(l.tb, curve)}
	d.tls = l.issue(l.terminals, identity.Terminal, string(name), d.tlsKey)
	d.agreement = l.issue(l.keydist, identity.Agreement, string(name), d.key)
	return d
}

func random32(tb testing.TB) (b [32]byte) {
	tb.Helper()
	_, _ = rand.Read(b[:]) // cannot fail
	return b
}

func (d *device) order(set keyset.ID, slot uint8) remote.Order {
	return remote.Order{
		Tenant: "ACME", Terminal: d.name, Slot: slot, KeySet: set, TLSChain: der(d.tls), AgreementChain: der(d.agreement),
		Nonce: random32(d.lab.tb), Exporter: random32(d.lab.tb), Attestation: d.attestation,
	}
}

// open opens a delivery as the terminal does.
func (d *device) open(o remote.Order, got *remote.Delivery) (*remote.Opened, error) {
	key, err := d.key.ECDH()
	if err != nil {
		return nil, err
	}
	return remote.Open(got, remote.Binding{
		Tenant: o.Tenant, Terminal: o.Terminal, Slot: o.Slot, TLS: d.tls[0], Agreement: d.agreement[0], Nonce: o.Nonce, Exporter: o.Exporter,
	}, key, remote.OpenOptions{
		Roots: d.lab.config.Trust.KeyDist, Now: d.lab.clock(), Environment: keyset.Test, KeySet: o.KeySet, Installed: o.Replaces,
	})
}

// fetch orders a key, opens it and compares it with the one derived here.
func (d *device) fetch(set keyset.ID, slot uint8) dukpt.KeyID {
	d.lab.tb.Helper()
	o := d.order(set, slot)
	got := must[*remote.Delivery](d.lab.tb)(d.lab.host.Deliver(d.lab.tb.Context(), ra, o))
	opened := must[*remote.Opened](d.lab.tb)(d.open(o, got))
	defer opened.Wipe()
	s, _ := d.lab.keySet(set)
	base := must[*dukpt.BaseKey](d.lab.tb)(baseKey(s))
	defer base.Wipe()
	want := must[*dukpt.InitialKey](d.lab.tb)(base.Derive(got.KeyID))
	defer want.Wipe()
	if a, b := opened.Key.Key().KCV(), want.Key().KCV(); a != b || opened.Key.KeyID() != got.KeyID {
		d.lab.tb.Fatalf("the key of %v has check value %v, want %v", got.KeyID, a, b)
	}
	return got.KeyID
}

func (d *device) settlement(set keyset.ID, slot uint8, id dukpt.KeyID, state keyset.SlotState) remote.Settlement {
	return remote.Settlement{Tenant: "ACME", Terminal: d.name, Slot: slot, KeySet: set, KeyID: id, State: state}
}

func (d *device) certifyOrder(key *ecdsa.PrivateKey) remote.CertifyOrder {
	d.lab.tb.Helper()
	id := identity.Identity{Tenant: "ACME", Role: identity.Agreement, Name: string(d.name)}
	csr := must[[]byte](d.lab.tb)(est.NewRequest(key, id))
	return remote.CertifyOrder{Tenant: "ACME", Terminal: d.name, TLSChain: der(d.tls), CSR: csr}
}

// maker certifies the agreement keys of its devices.
type maker struct {
	tb            testing.TB
	key, otherKey *ecdsa.PrivateKey
	root, other   *x509.Certificate // of this maker, and of one that nobody trusts
}

func newMaker(tb testing.TB) *maker {
	tb.Helper()
	m := &maker{tb: tb, key: newKey(tb, elliptic.P256()), otherKey: newKey(tb, elliptic.P256())}
	m.root, m.other = m.newRoot(m.key), m.newRoot(m.otherKey)
	return m
}

func (m *maker) newRoot(key *ecdsa.PrivateKey) *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "maker"}, NotBefore: noon.AddDate(-1, 0, 0), NotAfter: noon.AddDate(20, 0, 0),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	return m.sign(t, t, key.Public().(*ecdsa.PublicKey), key)
}

func (m *maker) sign(template, parent *x509.Certificate, pub *ecdsa.PublicKey, key *ecdsa.PrivateKey) *x509.Certificate {
	m.tb.Helper()
	b := must[[]byte](m.tb)(x509.CreateCertificate(rand.Reader, template, parent, pub, key))
	return must[*x509.Certificate](m.tb)(x509.ParseCertificate(b))
}

// document trusts the maker with these devices.
func (m *maker) document(revision uint64, devices ...string) *keydist.Makers {
	m.tb.Helper()
	list := must[*keydist.AllowList](m.tb)(keydist.ParseAllowList([]byte(strings.Join(devices, "\n"))))
	return &keydist.Makers{Tenant: "ACME", Environment: keyset.Test, Revision: revision, Roots: []*x509.Certificate{m.root}, Devices: list}
}

// attest certifies a public key. The changes make something else of it.
func (m *maker) attest(pub *ecdsa.PublicKey, device string, changes ...func(*x509.Certificate)) *x509.Certificate {
	return m.sign(m.template(device, changes...), m.root, pub, m.key)
}

func (m *maker) template(device string, changes ...func(*x509.Certificate)) *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber: big.NewInt(0x0abc), Subject: pkix.Name{CommonName: "terminal", SerialNumber: device},
		NotBefore: noon.AddDate(-1, 0, 0), NotAfter: noon.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageKeyAgreement, BasicConstraintsValid: true,
	}
	for _, change := range changes {
		change(t)
	}
	return t
}

// refused demands a code.
func refused(tb testing.TB, what string, err error, want keydist.Code) {
	tb.Helper()
	if r, ok := errors.AsType[*keydist.Refusal](err); !ok || r.Code != want {
		tb.Errorf("%s: %v, want %s", what, err, want)
	}
}
