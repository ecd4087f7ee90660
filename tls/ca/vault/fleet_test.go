package vault_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/serve"
	"github.com/latchkey-pos/latchkey/internal/store/sqlite/registry"
	"github.com/latchkey-pos/latchkey/internal/vaulttest"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/ca/embedded"
	"github.com/latchkey-pos/latchkey/tls/ca/vault"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

// registration is a registration authority with its registry in a file, whose issuer is in a real Vault behind a counting proxy. All
// of it runs by the time of a stage but Vault, which has its own: so the stage is in the past, the role of Vault is told how
// far, and the proxy takes as much from what is asked for.
type registration struct {
	*place
	stage    *stage
	front    *proxy
	engine   *provision.Engine
	services *catest.Fake
	list     *trustlist.List
	url      string // of its listener for terminals
	commits  *commits
	issuer   ca.Issuer
	up       bool
}

// commits is a store that counts what it makes durable.
type commits struct {
	provision.Store
	n atomic.Int64
}

func (c *commits) Update(ctx context.Context, f func(provision.Tx) error) error {
	c.n.Add(1)
	return c.Store.Update(ctx, f)
}

// noKeys is a key-distribution host that is away.
type noKeys struct{}

var errNoKeys = errors.New("there are no keys here")

func (noKeys) Certify(context.Context, remote.CertifyOrder) ([]*x509.Certificate, error) {
	return nil, errNoKeys
}
func (noKeys) Deliver(context.Context, remote.Order) (*remote.Delivery, error) {
	return nil, errNoKeys
}
func (noKeys) Settle(context.Context, remote.Settlement) error   { return errNoKeys }
func (noKeys) Withdraw(context.Context, remote.Withdrawal) error { return errNoKeys }
func (noKeys) Adopt(context.Context, remote.Adoption) error      { return errNoKeys }

func newECDSA(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	return must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
}

// newRegistration makes one over Vault.
func newRegistration(t testing.TB, s *stage) *registration {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "ca")
	own := newOwn(t, s, folder)
	r := &registration{stage: s, up: true}
	r.issuer = r.inVault(t, own, folder)
	r.begin(t, own)
	return r
}

// newEmbedded makes one over the issuer that needs no Vault.
func newEmbedded(t testing.TB, s *stage) *registration {
	t.Helper()
	own := newOwn(t, s, filepath.Join(t.TempDir(), "ca"))
	r := &registration{stage: s, issuer: own}
	r.begin(t, own)
	return r
}

func newOwn(t testing.TB, s *stage, folder string) *embedded.Issuer {
	t.Helper()
	own := must[*embedded.Issuer](t)(embedded.Create(folder, embedded.Terminals, phrase(t), s.clock))
	t.Cleanup(func() { _ = own.Close() })
	return own
}

// inVault sets a Vault up, and puts the proxy before it.
func (r *registration) inVault(t testing.TB, own *embedded.Issuer, folder string) *vault.Issuer {
	t.Helper()
	s, p := r.stage, phrase(t)
	server := vaulttest.Stored(t)
	roots := x509.NewCertPool()
	roots.AddCert(own.Root())
	token := secret.From([]byte(server.Token))
	t.Cleanup(token.Wipe)
	r.place = &place{Server: server, plan: vault.Plan{Tenant: tenant, Mount: vault.DefaultMount, Role: vault.DefaultRole}, options: vault.SetupOptions{
		Server: vault.Server{Address: server.Address}, Token: token, Roots: roots,
		Sign: func(csr []byte) ([]*x509.Certificate, error) {
			return embedded.CertifyIssuing(folder, p, csr, embedded.Options{Clock: s.clock})
		},
	}}
	r.prepared = must[*vault.Prepared](t)(vault.Setup(t.Context(), r.plan, r.options))
	r.front = newProxy(t, server.Address)
	r.front.set(at("/sign/", r.shorten))
	file := filepath.Join(t.TempDir(), "token")
	writeSecret(t, file, server.Token)
	issuer := must[*vault.Issuer](t)(vault.New(vault.Options{
		Server: vault.Server{Address: r.front.URL}, Chain: r.prepared.Chain, Login: &vault.TokenFile{File: file}, Clock: s.clock,
		Timeout: 10 * time.Second, // a disk that is busy is no fault of what is looked at
	}))
	t.Cleanup(func() { _ = issuer.Close() })
	return issuer
}

// begin opens the registry and listens.
func (r *registration) begin(t testing.TB, own *embedded.Issuer) {
	t.Helper()
	s := r.stage
	r.services = must[*catest.Fake](t)(catest.NewFake(identity.ServicesCA, catest.Twist{}, s.clock))
	r.open(t)
	signer := newECDSA(t)
	doc := must[[]byte](t)(trustlist.Sign(&trustlist.List{
		Tenant: tenant, Version: 1, NotBefore: s.clock().UTC().Truncate(time.Second), Terminals: []*x509.Certificate{own.Root()},
		Services: r.services.Chain()[1:], KeyDist: must[*catest.Fake](t)(catest.NewFake(identity.KeyDistCA, catest.Twist{}, s.clock)).Chain()[1:],
	}, signer))
	pin := must[trustlist.Pin](t)(trustlist.PinOf(signer.Public()))
	r.list = must[*trustlist.List](t)(trustlist.Open(doc, trustlist.Accepted{Tenant: tenant, Pins: []trustlist.Pin{pin}}))
	r.listen(t)
}

// open opens the registry. Terminals renew from 94 to 95 percent of the life of their certificates: all of them on one day.
func (r *registration) open(t testing.TB) {
	t.Helper()
	store := must[*registry.Store](t)(registry.Open(filepath.Join(t.TempDir(), "registry.db"), registry.Options{Create: true}))
	t.Cleanup(func() { _ = store.Close() })
	r.commits = &commits{Store: store}
	set := keyset.NewAESData()
	set.ID, set.Tenant, set.Environment, set.Revision, set.Delivery = "DATA", tenant, keyset.Test, 1, keyset.Attested
	set.BaseKey = must[keyset.KeyRef](t)(keyset.ParseKeyRef("alias/base"))
	set.BaseKeyFingerprint = must[keys.Fingerprint](t)(keys.ParseFingerprint("00112233445566778899aabbccddeeff"))
	set.FirstID, set.LastID = must[dukpt.KeyID](t)(dukpt.ParseKeyID("1234567800000000")), must[dukpt.KeyID](t)(dukpt.ParseKeyID("123456780000FFFF"))
	key, chain := r.certified(t, identity.RA)
	r.engine = must[*provision.Engine](t)(provision.New(t.Context(), provision.Config{
		Store: r.commits, Issuer: r.issuer, Distributor: noKeys{}, Tenant: tenant, Environment: keyset.Test, Instance: "RA-1",
		Signer: key, Chain: chain, Pepper: secret.From(bytes.Repeat([]byte{7}, 32)), Clock: r.stage.clock,
		KeySets:    func(keyset.ID) (*keyset.KeySet, bool) { return set, true },
		TrustList:  func() ([]byte, string, error) { return []byte("list"), "0123456789ABCDEFGHJKMNPQRS", nil },
		Renewal:    provision.Window{After: 94, Before: 95},
		SourceRate: provision.Rate{Every: time.Millisecond, Burst: 1 << 20}, // all of them have one address here
	}))
}

func (r *registration) certified(t testing.TB, role identity.Role) (*ecdsa.PrivateKey, []*x509.Certificate) {
	t.Helper()
	key := newECDSA(t)
	return key, must[[]*x509.Certificate](t)(r.services.Issue(t.Context(), ca.Request{
		PublicKey: key.Public(), Identity: identity.Identity{Tenant: tenant, Role: role, Name: "RA-1"},
		DNSNames: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)},
	}))
}

// listen serves terminals over TLS.
func (r *registration) listen(t testing.TB) {
	t.Helper()
	key, chain := r.certified(t, identity.RA)
	config := must[*tls.Config](t)(tlsconf.Server(tlsconf.ServerOptions{
		Credential: credential(t, key, chain), Trust: r.list.Trust(), Accept: []identity.Role{identity.Terminal}, Gate: r.engine, Visitors: true,
		Clock: r.stage.clock,
	}))
	connections := new(tlsconf.Connections)
	ln := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	server := &http.Server{
		Handler:   connections.Guard(r.engine, serve.Wrap(provision.TerminalHandler(r.engine), slog.New(slog.DiscardHandler), nil)),
		TLSConfig: config, ConnState: connections.ConnState, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute,
	}
	go func() { _ = server.ServeTLS(ln, "", "") }() // ends with Close
	t.Cleanup(func() { _ = server.Close() })
	r.url = "https://" + ln.Addr().String()
}

func credential(t testing.TB, key *ecdsa.PrivateKey, chain []*x509.Certificate) *tlsconf.Credential {
	t.Helper()
	c := tls.Certificate{PrivateKey: key}
	for _, cert := range chain {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	return must[*tlsconf.Credential](t)(tlsconf.NewCredential(c))
}

// behind is how far the stage is behind the clock of Vault.
func (r *registration) behind() time.Duration { return time.Since(r.stage.clock()) }

// align has certificates of Vault begin by the time of the stage: within its minute of backdating, for half a minute of real time.
func (r *registration) align(t testing.TB) {
	t.Helper()
	if r.up {
		r.Must("PATCH", r.plan.Mount+"/roles/"+r.plan.Role, map[string]any{"not_before_duration": fmt.Sprintf("%ds", int64((r.behind() + 55*time.Second).Seconds()))})
	}
}

// shorten has a certificate end by the time of the stage.
func (r *registration) shorten(_ http.ResponseWriter, q *http.Request, _ func(http.ResponseWriter)) bool {
	var asked map[string]any
	body, err := io.ReadAll(q.Body)
	if err == nil {
		err = json.Unmarshal(body, &asked)
	}
	if ttl, bad := time.ParseDuration(fmt.Sprint(asked["ttl"])); err == nil && bad == nil {
		asked["ttl"] = fmt.Sprintf("%ds", int64((ttl - r.behind()).Seconds()))
		body, _ = json.Marshal(asked) // what was JSON before
	}
	q.Body = io.NopCloser(bytes.NewReader(body))
	return false
}

// down ends Vault with kill -9, and up starts it again.
func (r *registration) down() {
	r.Kill()
	r.up = false
}

func (r *registration) start(t testing.TB) {
	t.Helper()
	r.Start()
	r.Unseal()
	r.up = true
	r.align(t)
}

// till is one terminal of the fleet: it asks over TLS, or asks the engine as the listener would.
type till struct {
	fleet *fleet
	id    keyset.TerminalID
	wire  bool
	key   *ecdsa.PrivateKey
	chain []*x509.Certificate
	next  *ecdsa.PrivateKey // on its way to a certificate
	csr   []byte
	owed  time.Duration // how long to stay away, as the authority said; zero once it has gone to sleep for that

	after, before time.Time
}

// fleet is many terminals and what they saw.
type fleet struct {
	r    *registration
	all  []*till
	done atomic.Int64 // certificates that were renewed

	mu       sync.Mutex
	attempts int     // renewals that were asked for, in all
	refused  int     // and told to come again
	early    int     // before they were to
	broken   []error // that came to an end in another way
	expired  int     // certificates that ended first
	margin   time.Duration
	arrivals map[int64]int // by span
	issued   map[int64]int
}

func (f *fleet) note(change func(span int64)) {
	span := f.r.stage.clock().UnixNano() / int64(f.r.stage.span)
	f.mu.Lock()
	defer f.mu.Unlock()
	change(span)
}

// enrolled registers n terminals and enrols them, the first of which are for TLS.
func (r *registration) enrolled(t testing.TB, n, wired int) *fleet {
	t.Helper()
	f := &fleet{r: r, arrivals: make(map[int64]int), issued: make(map[int64]int), margin: time.Hour * 1e6}
	for i := range n {
		f.all = append(f.all, &till{fleet: f, id: keyset.TerminalID(fmt.Sprintf("T-%05d", i)), wire: i < wired})
	}
	const part = 200
	var failed atomic.Bool
	for first := 0; first < n; first += part {
		r.align(t)
		var group sync.WaitGroup
		turns := make(chan struct{}, 8)
		for _, one := range f.all[first:min(first+part, n)] {
			group.Go(func() {
				turns <- struct{}{}
				defer func() { <-turns }()
				if err := one.enrol(t.Context()); err != nil {
					failed.Store(true)
					t.Errorf("%s: %v", one.id, err)
				}
			})
		}
		group.Wait()
		if failed.Load() {
			t.FailNow()
		}
	}
	return f
}

func (d *till) identity() identity.Identity {
	return identity.Identity{Tenant: tenant, Role: identity.Terminal, Name: string(d.id)}
}

func (d *till) enrol(ctx context.Context) error {
	code, err := d.register(ctx)
	if err != nil {
		return err
	}
	defer code.Wipe()
	if err := d.prepare(); err != nil {
		return err
	}
	if d.chain, err = d.fleet.r.engine.Enroll(ctx, "192.0.2.7:40000", string(d.id), code, d.csr); err != nil {
		return err
	}
	return d.adopt(ctx)
}

// register has an operator register the terminal and hand out a code.
func (d *till) register(ctx context.Context) (secret.Bytes, error) {
	e := d.fleet.r.engine
	anna := provision.Actor{Identity: identity.Identity{Tenant: tenant, Role: identity.Operator, Name: "ANNA"}, Source: "192.0.2.1:1"}
	if _, err := e.Do(ctx, anna, provision.Operation{
		Action: provision.ActionRegister, Terminal: d.id, Slots: []provision.SlotAssignment{{Slot: 1, KeySet: "DATA"}}, Endpoints: []string{"https://acquirer.example"},
	}); err != nil {
		return secret.Bytes{}, err
	}
	out, err := e.Do(ctx, anna, provision.Operation{Action: provision.ActionCode, Terminal: d.id})
	if err != nil {
		return secret.Bytes{}, err
	}
	defer out.Ticket.Wipe()
	code, _, _ := bytes.Cut(out.Ticket.Expose(), []byte("-"))
	return secret.From(bytes.Clone(code)), nil
}

// prepare makes the first key and its request.
func (d *till) prepare() (err error) {
	if d.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err == nil {
		d.csr, err = est.NewRequest(d.key, d.identity())
	}
	return err
}

// adopt asks when to renew, with the certificate in use.
func (d *till) adopt(ctx context.Context) error {
	a, err := d.assignment(ctx)
	if err == nil {
		d.after, d.before = a.RenewAfter, a.RenewBefore
	}
	return err
}

func (d *till) caller() provision.Caller {
	return provision.Caller{Leaf: d.chain[0], Source: "192.0.2.7:40000"}
}

// member is the client of the terminal.
func (d *till) member() (*enroll.Client, error) {
	c := tls.Certificate{PrivateKey: d.key}
	for _, cert := range d.chain {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	cred, err := tlsconf.NewCredential(c)
	if err != nil {
		return nil, err
	}
	return enroll.NewMember(enroll.Options{URL: d.fleet.r.url, Tenant: tenant, Terminal: string(d.id), Clock: d.fleet.r.stage.clock}, d.fleet.r.list, cred)
}

func (d *till) assignment(ctx context.Context) (*remote.Assignment, error) {
	if d.wire {
		c, err := d.member()
		if err != nil {
			return nil, err
		}
		defer c.Close()
		return c.Assignment(ctx)
	}
	a, err := d.fleet.r.engine.Assignment(ctx, d.caller())
	return a, told(err)
}

func (d *till) reenrol(ctx context.Context) ([]*x509.Certificate, error) {
	if d.wire {
		c, err := d.member()
		if err != nil {
			return nil, err
		}
		defer c.Close()
		return c.Reenroll(ctx, d.csr)
	}
	if err := d.fleet.r.engine.Admit(d.identity(), identity.Serial(d.chain[0])); err != nil {
		return nil, err
	}
	chain, err := d.fleet.r.engine.Reenroll(ctx, d.caller(), d.csr)
	return chain, told(err)
}

// told is a refusal as a client hears it.
func told(err error) error {
	r, is := errors.AsType[*provision.Refusal](err)
	if !is {
		return err
	}
	p := r.Problem()
	return &enroll.Refusal{Status: p.Status, Code: p.Code, Message: p.Message, RetryAfter: p.RetryAfter.Truncate(time.Second)}
}

// run has the terminal renew by the schedule of the client until ctx ends.
func (d *till) run(ctx context.Context) {
	s := d.fleet.r.stage
	_ = enroll.Schedule{
		Window: func() (after, before time.Time, ok bool) { return d.window() },
		Renew:  d.renew, Clock: s.clock, Sleep: d.sleep,
		Failed: func(err error) {
			if r, is := errors.AsType[*enroll.Refusal](err); is && r.Status == http.StatusServiceUnavailable {
				d.owed = r.RetryAfter
				d.fleet.note(func(int64) { d.fleet.refused++ })
				return
			}
			d.fleet.note(func(int64) { d.fleet.broken = append(d.fleet.broken, fmt.Errorf("%s: %w", d.id, err)) })
		},
	}.Run(ctx) // ends with ctx
}

// sleep is that of the stage, and notes a sleep that is shorter than the authority said: what the terminal wants counts, because the stage
// has everybody sleep until the end of a span.
func (d *till) sleep(ctx context.Context, want time.Duration) error {
	if want < d.owed {
		d.fleet.note(func(int64) { d.fleet.early++ })
	}
	d.owed = 0
	return d.fleet.r.stage.sleep(ctx, want)
}

// window is that of the certificate, and nothing while a renewal is under way, as with a Terminal.
func (d *till) window() (after, before time.Time, ok bool) {
	if d.next != nil {
		return time.Time{}, time.Time{}, true
	}
	return d.after, d.before, true
}

func (d *till) renew(ctx context.Context) error {
	f := d.fleet
	now := f.r.stage.clock()
	left := d.chain[0].NotAfter.Sub(now)
	f.note(func(span int64) {
		f.attempts++
		f.arrivals[span]++
		f.margin = min(f.margin, left)
		if left <= 0 {
			f.expired++
		}
	})
	if d.next == nil {
		next, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		if d.csr, err = est.NewRequest(next, d.identity()); err != nil {
			return err
		}
		d.next = next
	}
	chain, err := d.reenrol(ctx)
	if err != nil {
		return err
	}
	d.key, d.chain, d.next = d.next, chain, nil
	f.note(func(span int64) { f.issued[span]++ })
	f.done.Add(1)
	return d.adopt(ctx)
}
