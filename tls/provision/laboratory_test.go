package provision_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/feed"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
	"github.com/latchkey-pos/latchkey/tls/provision/provisiontest"
)

const (
	tenant = "SHOP"
	thePin = "0123456789ABCDEFGHJKMNPQRS"
	source = "192.0.2.7:40000"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// clock is a clock that stands until it is moved.
type clock struct{ now atomic.Int64 }

func (c *clock) time() time.Time         { return time.Unix(0, c.now.Load()).UTC() }
func (c *clock) forward(d time.Duration) { c.now.Add(int64(d)) }

// countingIssuer counts what was issued and revoked, and fails on demand.
type countingIssuer struct {
	*catest.Fake
	issued atomic.Int64
	fail   atomic.Pointer[error]
	before atomic.Pointer[func()]
	lost   atomic.Pointer[error] // what is said in place of what was issued

	mu      sync.Mutex
	revoked map[string]int
}

func (i *countingIssuer) Issue(ctx context.Context, req ca.Request) ([]*x509.Certificate, error) {
	if f := i.before.Load(); f != nil {
		(*f)()
	}
	if err := i.fail.Load(); err != nil {
		return nil, *err
	}
	i.issued.Add(1)
	chain, err := i.Fake.Issue(ctx, req)
	if lost := i.lost.Load(); lost != nil {
		return nil, *lost
	}
	return chain, err
}

func (i *countingIssuer) Revoke(ctx context.Context, serial string, reason int) error {
	if err := i.fail.Load(); err != nil {
		return *err
	}
	i.mu.Lock()
	i.revoked[serial] = reason
	i.mu.Unlock()
	return i.Fake.Revoke(ctx, serial, reason)
}

func (i *countingIssuer) Issued(ctx context.Context, keys map[[32]byte]bool, known func(string) bool) (map[string][32]byte, error) {
	if err := i.fail.Load(); err != nil {
		return nil, *err
	}
	return i.Fake.Issued(ctx, keys, known)
}

func (i *countingIssuer) CRL(ctx context.Context) ([]byte, error) {
	if err := i.fail.Load(); err != nil {
		return nil, *err
	}
	return i.Fake.CRL(ctx)
}

// failing has the issuer of terminals fail from now on, and work with nil.
func (l *laboratory) failing(err error) {
	if err == nil {
		l.terminals.fail.Store(nil)
		return
	}
	l.terminals.fail.Store(&err)
}

func (i *countingIssuer) revocation(serial string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.revoked[serial]
}

// laboratory is a registration authority with everything around it.
type laboratory struct {
	t          testing.TB
	clock      *clock
	store      *provisiontest.Model
	terminals  *countingIssuer
	services   *catest.Fake
	keydist    *catest.Fake
	kdh        *kdh
	sets       map[keyset.ID]*keyset.KeySet
	log        *bytes.Buffer
	config     provision.Config
	engine     *provision.Engine
	changes    atomic.Int64
	trustError error
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		check(t, err)
		return v
	}
}

// lockedWriter lets several goroutines log into one buffer.
type lockedWriter struct {
	mu sync.Mutex
	w  *bytes.Buffer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// newLaboratory makes a registry in an environment; changes adapt its configuration.
func newLaboratory(t testing.TB, env keyset.Environment, changes ...func(*provision.Config)) *laboratory {
	t.Helper()
	l := &laboratory{t: t, clock: new(clock), store: new(provisiontest.Model), log: new(bytes.Buffer)}
	l.clock.now.Store(noon.UnixNano())
	l.terminals = &countingIssuer{Fake: l.fake(identity.TerminalCA), revoked: make(map[string]int)}
	l.services, l.keydist = l.fake(identity.ServicesCA), l.fake(identity.KeyDistCA)
	l.sets = map[keyset.ID]*keyset.KeySet{
		"DATA":  l.set("DATA", "1234567800000000", "123456780000FFFF", env),
		"OTHER": l.set("OTHER", "1234567800010000", "123456780001FFFF", env),
	}
	l.kdh = newKDH(l)
	signer, chain := l.certified(l.services, identity.RA, "RA-1")
	l.config = provision.Config{
		Store: l.store, Issuer: l.terminals, Distributor: l.kdh, Tenant: tenant, Environment: env, Instance: "RA-1",
		Signer: signer, Chain: chain, Pepper: secret.From(bytes.Repeat([]byte{7}, 32)), KeyDist: l.keydist.Chain(), Clock: l.clock.time,
		Logger:   slog.New(slog.NewJSONHandler(&lockedWriter{w: l.log}, nil)),
		OnChange: func() { l.changes.Add(1) },
		KeySets:  func(id keyset.ID) (*keyset.KeySet, bool) { s, ok := l.sets[id]; return s, ok },
		TrustList: func() ([]byte, string, error) {
			return []byte("trust list"), thePin, l.trustError
		},
		TerminalRate: provision.Rate{Every: time.Second, Burst: 1000},
		SourceRate:   provision.Rate{Every: time.Second, Burst: 1000},
	}
	for _, change := range changes {
		change(&l.config)
	}
	l.start()
	return l
}

// start opens the registry anew, as after a restart.
func (l *laboratory) start() {
	l.t.Helper()
	l.engine = must[*provision.Engine](l.t)(provision.New(l.t.Context(), l.config))
}

func (l *laboratory) fake(a identity.Authority) *catest.Fake {
	l.t.Helper()
	return must[*catest.Fake](l.t)(catest.NewFake(a, catest.Twist{}, l.clock.time))
}

// set makes an AES key set that is delivered.
func (l *laboratory) set(id keyset.ID, first, last string, env keyset.Environment) *keyset.KeySet {
	l.t.Helper()
	s := keyset.NewAESData()
	s.ID, s.Tenant, s.Environment, s.Revision, s.Delivery = id, tenant, env, 1, keyset.Attested
	s.BaseKey = must[keyset.KeyRef](l.t)(keyset.ParseKeyRef("alias/base"))
	s.BaseKeyFingerprint = must[keys.Fingerprint](l.t)(keys.ParseFingerprint("00112233445566778899aabbccddeeff"))
	s.FirstID, s.LastID = keyID(l.t, first), keyID(l.t, last)
	check(l.t, s.Validate())
	return s
}

func keyID(t testing.TB, text string) dukpt.KeyID {
	t.Helper()
	return must[dukpt.KeyID](t)(dukpt.ParseKeyID(text))
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	return must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
}

// certified makes a key with a certificate, which comes first of the chain.
func (l *laboratory) certified(issuer ca.Issuer, role identity.Role, name string) (*ecdsa.PrivateKey, []*x509.Certificate) {
	l.t.Helper()
	key := newKey(l.t)
	chain, err := issuer.Issue(l.t.Context(), ca.Request{
		PublicKey: key.Public(), Identity: identity.Identity{Tenant: tenant, Role: role, Name: name},
	})
	check(l.t, err)
	return key, chain
}

func actor(role identity.Role, name string) provision.Actor {
	return provision.Actor{Identity: identity.Identity{Tenant: tenant, Role: role, Name: name}, Source: "192.0.2.1:1"}
}

var (
	anna    = actor(identity.Operator, "ANNA")
	bert    = actor(identity.Operator, "BERT")
	decrypt = actor(identity.Decrypt, "DECRYPT-1")
)

// do carries an operation out, with a second person where it needs one.
func (l *laboratory) do(op provision.Operation) *provision.Outcome {
	l.t.Helper()
	out := must[*provision.Outcome](l.t)(l.engine.Do(l.t.Context(), anna, op))
	if out.Terminal == nil {
		out = must[*provision.Outcome](l.t)(l.engine.Approve(l.t.Context(), bert, out.Approval.ID))
	}
	return out
}

func (l *laboratory) act(action provision.Action, id keyset.TerminalID) *provision.Terminal {
	l.t.Helper()
	return l.do(provision.Operation{Action: action, Terminal: id}).Terminal
}

func (l *laboratory) register(id keyset.TerminalID, slots ...provision.SlotAssignment) *provision.Terminal {
	l.t.Helper()
	if len(slots) == 0 {
		slots = []provision.SlotAssignment{{Slot: 1, KeySet: "DATA"}}
	}
	return l.do(provision.Operation{
		Action: provision.ActionRegister, Terminal: id, Slots: slots, Endpoints: []string{"https://acquirer.example:8450"},
	}).Terminal
}

// code hands out a code, without its pin.
func (l *laboratory) code(id keyset.TerminalID, change ...func(*provision.Operation)) secret.Bytes {
	l.t.Helper()
	op := provision.Operation{Action: provision.ActionCode, Terminal: id}
	for _, f := range change {
		f(&op)
	}
	return codeOf(l.t, l.do(op).Ticket)
}

func codeOf(t testing.TB, ticket secret.Bytes) secret.Bytes {
	t.Helper()
	code, pin, ok := strings.Cut(string(ticket.Expose()), "-")
	if !ok || pin != thePin {
		t.Fatalf("a ticket of %d characters without the pin", ticket.Len())
	}
	return secret.From([]byte(code))
}

func (l *laboratory) row(id keyset.TerminalID) *provision.Terminal {
	l.t.Helper()
	return must[*provision.Terminal](l.t)(l.engine.Terminal(l.t.Context(), id))
}

// certificates returns those of a role of a terminal, the first one first.
func (l *laboratory) certificates(id keyset.TerminalID, role identity.Role) (out []*provision.Certificate) {
	l.t.Helper()
	issued, _, err := l.engine.Certificates(l.t.Context(), id, "", provision.MaxListed)
	check(l.t, err)
	for _, i := range slices.Backward(issued) {
		if i.Role == role {
			out = append(out, l.certificate(i))
		}
	}
	return out
}

// certificate returns all that is known of a certificate.
func (l *laboratory) certificate(i provision.Issuance) (out *provision.Certificate) {
	l.t.Helper()
	check(l.t, l.store.View(l.t.Context(), func(tx provision.Tx) (err error) {
		out, _, err = tx.Certificate(i.Role, i.Serial)
		return err
	}))
	return out
}

// pageOf returns what the feed answers to who knows it up to a position.
func (l *laboratory) pageOf(epoch, after uint64, wait time.Duration) *feed.Page {
	l.t.Helper()
	b := must[[]byte](l.t)(l.engine.Feed(l.t.Context(), epoch, after, wait))
	return must[*feed.Page](l.t)(feed.ParsePage(b))
}

// sweep does what is due now.
func (l *laboratory) sweep() {
	l.t.Helper()
	check(l.t, l.engine.Sweep(l.t.Context(), l.clock.time().Add(-time.Minute)))
}

// audited counts audit records by action, result and reason; empty ones match everything.
func (l *laboratory) audited(action, result, reason string) (n int) {
	for _, r := range l.store.Leaves() {
		if (action == "" || r.Action == action) && (result == "" || r.Result == result) && (reason == "" || r.Reason == reason) {
			n++
		}
	}
	return n
}

func (l *laboratory) lastAudit() audit.Record {
	all := l.store.Leaves()
	return all[len(all)-1]
}

// device is a terminal.
type device struct {
	l         *laboratory
	id        keyset.TerminalID
	key       *ecdsa.PrivateKey
	chain     []*x509.Certificate
	agreement *ecdsa.PrivateKey
	agreed    []*x509.Certificate
}

func (l *laboratory) device(id keyset.TerminalID) *device {
	return &device{l: l, id: id, key: newKey(l.t)}
}

func (l *laboratory) csr(key *ecdsa.PrivateKey, role identity.Role, id keyset.TerminalID) []byte {
	l.t.Helper()
	return must[[]byte](l.t)(est.NewRequest(key, identity.Identity{Tenant: tenant, Role: role, Name: string(id)}))
}

// enroll shows a code.
func (d *device) enroll(code secret.Bytes) error {
	d.l.t.Helper()
	chain, err := d.l.engine.Enroll(d.l.t.Context(), source, string(d.id), code, d.l.csr(d.key, identity.Terminal, d.id))
	if err == nil {
		d.chain = chain
	}
	return err
}

func (d *device) caller() provision.Caller { return provision.Caller{Leaf: d.chain[0], Source: source} }

func (d *device) serial() string { return identity.Serial(d.chain[0]) }

// renew asks for a certificate for a key over the current one.
func (d *device) renew(key *ecdsa.PrivateKey) ([]*x509.Certificate, error) {
	d.l.t.Helper()
	return d.l.engine.Reenroll(d.l.t.Context(), d.caller(), d.l.csr(key, identity.Terminal, d.id))
}

func (d *device) agree(key *ecdsa.PrivateKey) error {
	d.l.t.Helper()
	chain, err := d.l.engine.EnrollAgreement(d.l.t.Context(), d.caller(), d.l.csr(key, identity.Agreement, d.id))
	if err == nil {
		d.agreement, d.agreed = key, chain
	}
	return err
}

func (d *device) fetch(slot uint8) (*remote.Delivery, error) {
	var exporter [32]byte
	exporter[0] = 1
	req := &remote.Request{Slot: slot}
	_, _ = rand.Read(req.Nonce[:])
	return d.l.engine.Deliver(d.l.t.Context(), d.caller(), exporter, req)
}

func (d *device) admitted() bool { return d.l.admits(d.id, d.serial()) }

func (l *laboratory) admits(id keyset.TerminalID, serial string) bool {
	return l.engine.Admit(identity.Identity{Tenant: tenant, Role: identity.Terminal, Name: string(id)}, serial) == nil
}

// enrolled registers a terminal and enrols it with both keys.
func (l *laboratory) enrolled(id keyset.TerminalID, slots ...provision.SlotAssignment) *device {
	l.t.Helper()
	l.register(id, slots...)
	d := l.device(id)
	check(l.t, d.enroll(l.code(id)))
	check(l.t, d.agree(newKey(l.t)))
	return d
}

// confirm has the decryption service say that a key was proved.
func (d *device) confirm(slot uint8, set keyset.ID, id dukpt.KeyID) error {
	_, err := d.l.engine.Observe(d.l.t.Context(), decrypt, feed.Observations{
		Confirmed: []feed.Confirmation{{Terminal: d.id, Slot: slot, KeySet: set, KeyID: id}},
	})
	return err
}

// active enrols a terminal whose key in slot 1 is confirmed.
func (l *laboratory) active(id keyset.TerminalID) (*device, dukpt.KeyID) {
	l.t.Helper()
	d := l.enrolled(id)
	key := must[*remote.Delivery](l.t)(d.fetch(1)).KeyID
	check(l.t, d.confirm(1, "DATA", key))
	return d, key
}

// refused demands a refusal with a code.
func refused(t testing.TB, what string, err error, want provision.Code) *provision.Refusal {
	t.Helper()
	refusal, ok := errors.AsType[*provision.Refusal](err)
	if !ok || refusal.Code != want {
		t.Errorf("%s: %v, want %s", what, err, want)
		return &provision.Refusal{}
	}
	if _, ok := refusal.Code.Info(); !ok {
		t.Errorf("%s: code %s is not listed", what, refusal.Code)
	}
	return refusal
}

// kdh is a key-distribution host in memory.
type kdh struct {
	l      *laboratory
	base   *dukpt.BaseKey
	signer *ecdsa.PrivateKey
	chain  []*x509.Certificate

	mu        sync.Mutex
	last      map[keyset.ID]dukpt.KeyID
	orders    []remote.Order
	certified int
	withdrawn []remote.Withdrawal
	adopted   []remote.Adoption
	settled   []remote.Settlement
	fail      error
	delivered func(*remote.Delivery) // changes the answer
	certify   []*x509.Certificate    // the answer, if not nil
}

// kdhRefusal is how a key-distribution host refuses.
type kdhRefusal struct{ unavailable bool }

func (r *kdhRefusal) Error() string {
	return "keydist: SomeCode: the agreement key is on another curve"
}
func (r *kdhRefusal) Unavailable() bool { return r.unavailable }

func newKDH(l *laboratory) *kdh {
	k := &kdh{l: l, last: make(map[keyset.ID]dukpt.KeyID)}
	k.signer, k.chain = l.certified(l.keydist, identity.KDH, "KDH-1")
	base := must[keys.Key](l.t)(keys.GenerateKey(keys.Attributes{
		Algorithm: keys.AES128, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	}))
	defer base.Wipe()
	k.base = must[*dukpt.BaseKey](l.t)(dukpt.NewBaseKey(base))
	return k
}

func (k *kdh) failing(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail = err
}

// Certify certifies whatever key it is given.
func (k *kdh) Certify(ctx context.Context, o remote.CertifyOrder) ([]*x509.Certificate, error) {
	if _, err := o.Marshal(); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return nil, k.fail
	}
	k.certified++
	if k.certify != nil {
		return k.certify, nil
	}
	id := identity.Identity{Tenant: string(o.Tenant), Role: identity.Agreement, Name: string(o.Terminal)}
	pub, err := est.CheckRequest(o.CSR, est.Policy{Identity: id})
	if err != nil {
		return nil, err
	}
	return k.l.keydist.Issue(ctx, ca.Request{PublicKey: pub, Identity: id})
}

// Deliver gives out the next key id beyond what it knows of.
func (k *kdh) Deliver(_ context.Context, o remote.Order) (*remote.Delivery, error) {
	if _, err := o.Marshal(); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return nil, k.fail
	}
	k.orders = append(k.orders, o)
	set := k.l.sets[o.KeySet]
	last := k.last[o.KeySet]
	if !o.Beyond.IsZero() && (last.IsZero() || o.Beyond.Compare(last) > 0) {
		last = o.Beyond
	}
	next := set.FirstID
	if !last.IsZero() {
		next, _ = last.Next() // a set ends long before
	}
	k.last[o.KeySet] = next
	ik, err := k.base.Derive(next)
	if err != nil {
		return nil, err
	}
	defer ik.Wipe()
	leaf, err := x509.ParseCertificate(o.TLSChain[0])
	if err != nil {
		return nil, err
	}
	agreement, err := x509.ParseCertificate(o.AgreementChain[0])
	if err != nil {
		return nil, err
	}
	binding := remote.Binding{
		Tenant: o.Tenant, Terminal: o.Terminal, Slot: o.Slot, TLS: leaf, Agreement: agreement, Nonce: o.Nonce, Exporter: o.Exporter,
	}
	d, err := remote.Seal(binding, set, o.Replaces, ik, k.l.clock.time().Truncate(time.Second), k.signer, k.chain)
	if err == nil && k.delivered != nil {
		k.delivered(d)
	}
	return d, err
}

// Settle notes what became of a key.
func (k *kdh) Settle(_ context.Context, s remote.Settlement) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return k.fail
	}
	k.settled = append(k.settled, s)
	return nil
}

// Withdraw notes which key ids are not to be given out.
func (k *kdh) Withdraw(_ context.Context, w remote.Withdrawal) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return k.fail
	}
	k.withdrawn = append(k.withdrawn, w)
	return nil
}

// settlements returns what became of a key, in order.
func (k *kdh) settlements(id dukpt.KeyID) (out []keyset.SlotState) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.settled {
		if s.KeyID == id {
			out = append(out, s.State)
		}
	}
	return out
}

// hosted asks for a certificate of a server on this machine.
func hosted(key *ecdsa.PrivateKey, id identity.Identity) ca.Request {
	return ca.Request{PublicKey: key.Public(), Identity: id, DNSNames: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}}
}
