package terminal

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// Verdict says how a check went.
type Verdict uint8

// The verdicts, the better the lower.
const (
	Fine   Verdict = iota + 1
	Soon           // it works, and something is to be done
	Broken         // it does not work
)

// String returns ok, soon or broken.
func (v Verdict) String() string {
	switch v {
	case Fine:
		return "ok"
	case Soon:
		return "soon"
	case Broken:
		return "broken"
	}
	return fmt.Sprintf("Verdict(%d)", uint8(v))
}

// MarshalText returns what String does.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// Check is one thing that was looked at. It holds no secret.
type Check struct {
	Name    string // state, keys, queue, certificate, trust, dns, tcp, tls, clock
	Of      string // which one, where there are several: a slot or an endpoint
	Verdict Verdict
	Detail  string // what was found
	Next    string // what to do about it; empty when it is fine
}

// fewKeys is when to ask for a new key, clockSlack how far clocks may be apart.
const (
	fewKeys    = 10_000
	clockSlack = 5 * time.Minute
)

// Diagnose looks at everything that a terminal needs to make a sale, in the order in which it needs it, and changes nothing: the
// copies of its state, what is left of its keys, its queue, its certificate and whom it trusts, then each endpoint: its name, its
// port, its handshake, and its clock. It sends no message and uses no key of DUKPT. What cannot be looked at because of
// something before it is left out. ctx bounds all of it; the folder must not be in use.
func Diagnose(ctx context.Context, o Options) []Check {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	t, err := load(o)
	if err != nil {
		return []Check{stateCheck(err)}
	}
	d := diagnosis{t: t, now: o.Clock(), network: t.network(), dialler: newDialler()}
	d.state()
	d.keys()
	d.queue()
	d.certificate()
	d.trust()
	for _, e := range t.holder.endpoints {
		d.endpoint(ctx, e)
	}
	if err := t.Close(); err != nil {
		d.add(Check{Name: "state", Verdict: Broken, Detail: err.Error(), Next: "look at the medium"})
	}
	return d.checks
}

// stateCheck says why a terminal cannot be opened.
func stateCheck(err error) Check {
	c := Check{Name: "state", Verdict: Broken, Detail: err.Error(), Next: "look at the medium: owner, mode, free space, errors"}
	switch {
	case errors.Is(err, ErrNoTerminal):
		c.Next = "enrol the terminal, or import its bundle"
	case errors.Is(err, ErrLocked):
		c.Next = "end the other process, and look again"
	case errors.Is(err, ErrInsecure):
		c.Next = "use the sealer of the device: production keys need one"
	case errors.Is(err, ErrState):
		c.Next = "no whole copy is left, or another device sealed them: have the terminal registered again, in a new folder"
	}
	return c
}

type diagnosis struct {
	t       *Terminal
	now     time.Time
	network LinkOptions
	dialler *dialler
	checks  []Check
}

func (d *diagnosis) add(c Check) { d.checks = append(d.checks, c) }

// state counts files whose copies are not all good. Those without any would not have been opened.
func (d *diagnosis) state() {
	files, worn := 0, 0
	names, err := d.t.store.names("")
	for _, name := range names {
		if _, sealed := sealedUnder(name); !sealed {
			continue
		}
		var file []byte
		if file, err = ReadFile(d.t.store.fs, name); err != nil {
			break
		}
		files++
		if !equalRooms(file) {
			worn++
		}
	}
	c := Check{Name: "state", Verdict: Fine, Detail: fmt.Sprintf("%d files, %d copies of each", files, copies)}
	switch {
	case err != nil:
		c = stateCheck(err)
	case worn > 0:
		c.Verdict = Soon
		c.Detail = fmt.Sprintf("%d of %d files have a bad copy", worn, files)
		c.Next = "the next start mends them; if it comes again, the medium wears out"
	}
	d.add(c)
}

func (d *diagnosis) keys() {
	for _, s := range d.t.reports(d.t.slots) {
		c := Check{Name: "keys", Of: fmt.Sprintf("slot %d", s.Number), Verdict: Fine, Detail: fmt.Sprintf("%d left", s.Remaining)}
		switch {
		case s.Remaining == 0:
			c.Verdict, c.Detail, c.Next = Broken, "used up", "have the operator order a new key (latchkey terminal rekey), then rekey"
		case s.Remaining < fewKeys:
			c.Verdict, c.Next = Soon, "have the operator order a new key (latchkey terminal rekey), then rekey"
		case !s.Confirmed:
			c.Verdict, c.Detail, c.Next = Soon, c.Detail+", not confirmed", "sign in"
		}
		d.add(c)
	}
}

func (d *diagnosis) queue() {
	q := d.t.Queue()
	c := Check{Name: "queue", Verdict: Fine, Detail: "empty"}
	switch {
	case q.Exceptions > 0:
		c.Verdict, c.Next = Soon, "settle them by hand with the acquirer, then dismiss them"
		c.Detail = fmt.Sprintf("%d without an answer, %d that the host did not take", q.Count, q.Exceptions)
	case q.Count > 0:
		c.Verdict, c.Next = Soon, "resend"
		c.Detail = fmt.Sprintf("%d without an answer, the oldest of %s", q.Count, q.Oldest.Format(time.RFC3339))
	}
	d.add(c)
}

func (d *diagnosis) certificate() {
	leaf, err := x509.ParseCertificate(d.t.holder.chain[0])
	if err != nil { // it would not have been opened
		d.add(Check{Name: "certificate", Verdict: Broken, Detail: err.Error(), Next: "enrol again"})
		return
	}
	c := Check{Name: "certificate", Verdict: Fine, Detail: "until " + leaf.NotAfter.UTC().Format(time.RFC3339)}
	switch {
	case d.now.Before(leaf.NotBefore):
		c.Verdict, c.Next = Soon, "set the clock: until then the terminal goes by the latest time that it knows to be over"
		c.Detail = fmt.Sprintf("the clock, %s, is before its beginning, %s", d.now.UTC().Format(time.RFC3339), leaf.NotBefore.UTC().Format(time.RFC3339))
	case d.now.After(leaf.NotAfter):
		c.Verdict, c.Detail, c.Next = Broken, "ended "+leaf.NotAfter.UTC().Format(time.RFC3339), "check the clock; if it is right, renew at once, or have the terminal registered again"
	case d.t.renewDue(d.now):
		c.Verdict, c.Next = Soon, "renew"
	case d.t.holder.member == nil && leaf.NotAfter.Sub(d.now) < 30*24*time.Hour:
		c.Verdict, c.Next = Soon, "ask for another bundle: a terminal of a bundle is not renewed"
	}
	d.add(c)
}

// trust shows the authorities that hosts are believed by, for a person to compare.
func (d *diagnosis) trust() {
	for n, root := range d.t.holder.roots {
		c := Check{Name: "trust", Of: fmt.Sprintf("root %d", n+1), Verdict: Fine}
		cert, err := x509.ParseCertificate(root)
		switch {
		case err != nil:
			c.Verdict, c.Detail, c.Next = Broken, err.Error(), "enrol again"
		case d.now.After(cert.NotAfter):
			c.Verdict, c.Detail, c.Next = Broken, "ended "+cert.NotAfter.UTC().Format(time.RFC3339), "check the clock; renew brings a later trust list"
		default:
			sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
			c.Detail = fmt.Sprintf("%s, key SHA-256 %x…, until %s", cert.Subject.CommonName, sum[:8], cert.NotAfter.UTC().Format(time.DateOnly))
		}
		if m := d.t.holder.member; m != nil {
			c.Detail += fmt.Sprintf(", trust list %d", m.list.Version)
		}
		d.add(c)
	}
}

// endpoint goes as far towards a host as a message would, and asks nothing of it.
func (d *diagnosis) endpoint(ctx context.Context, e Endpoint) {
	u, err := url.Parse(e.URL)
	if err != nil { // it would not have been opened
		d.add(Check{Name: "dns", Of: e.URL, Verdict: Broken, Detail: err.Error(), Next: "have the address of the host put right"})
		return
	}
	if !d.resolve(ctx, u) {
		return
	}
	began := time.Now()
	dialling, cancel := context.WithTimeout(ctx, d.network.DialTimeout)
	conn, err := d.dialler.dial(dialling, d.network, hostPort(u))
	cancel()
	if err != nil {
		d.add(Check{
			Name: "tcp", Of: u.Host, Verdict: Broken, Detail: err.Error(),
			Next: "check the network, and that nothing on the way blocks port " + portOf(u),
		})
		return
	}
	_ = conn.Close() // nothing was sent
	d.add(Check{Name: "tcp", Of: u.Host, Verdict: Fine, Detail: fmt.Sprintf("connected in %v", time.Since(began).Round(time.Millisecond))})
	d.handshake(ctx, e, u)
}

func (d *diagnosis) resolve(ctx context.Context, u *url.URL) bool {
	c := Check{Name: "dns", Of: u.Host, Verdict: Fine}
	if _, err := netip.ParseAddr(u.Hostname()); err == nil {
		c.Detail = "an address, nothing to look up"
		d.add(c)
		return true
	}
	addrs, err := d.dialler.addresses(ctx, d.network, u.Hostname())
	if err != nil {
		c.Verdict, c.Detail, c.Next = Broken, err.Error(), "check the network and its name server"
		d.add(c)
		return false
	}
	c.Detail = fmt.Sprintf("%d addresses, %s first", len(addrs), addrs[0])
	d.add(c)
	return true
}

// handshake asks a host for nothing over the mutual TLS of messages: with TLS 1.3 a client hears only with the first answer
// whether its certificate was taken. That answer carries the clock of the host.
func (d *diagnosis) handshake(ctx context.Context, e Endpoint, u *url.URL) {
	c := Check{Name: "tls", Of: u.Host, Verdict: Fine}
	o := d.t.o.Network
	o.Endpoints = []Endpoint{e}
	l, err := d.t.holder.link(o, d.t.credential)
	var resp *http.Response
	if err == nil {
		defer l.Close()
		resp, err = l.ask(ctx)
	}
	if err != nil {
		c.Verdict, c.Detail, c.Next = Broken, err.Error(), handshakeHint(err)
		d.add(c)
		return
	}
	c.Detail = "both sides are who they should be"
	if s := resp.TLS; s != nil {
		c.Detail += fmt.Sprintf(", %s, %s", tls.VersionName(s.Version), s.CurveID)
	}
	d.add(c)
	d.clock(u, resp.Header.Get("Date"))
}

func handshakeHint(err error) string {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok || errors.Is(err, tlsconf.ErrRefused) {
		return "who answers there is not the acquirer's host that this terminal trusts: check the clock and the address; if they are right, somebody is in between"
	}
	if tlsconf.CertificateRefused(err) {
		return "the host refuses this terminal's certificate: ask the operator (latchkey terminal show)"
	}
	return "check that the acquirer's host runs, and that nothing on the way speaks for it"
}

func (d *diagnosis) clock(u *url.URL, date string) {
	c := Check{Name: "clock", Of: u.Host, Verdict: Fine}
	theirs, err := http.ParseTime(date)
	apart := d.now.Sub(theirs).Abs()
	switch {
	case err != nil:
		c.Detail = "the host does not say its time"
	case apart > clockSlack:
		c.Verdict, c.Next = Soon, "set the clock: certificates are judged by it"
		c.Detail = fmt.Sprintf("%v apart from the host's", apart.Round(time.Minute)) // the host says whole seconds, and the answer took some
	default:
		c.Detail = "as the host's"
	}
	d.add(c)
}

// ask makes a request that carries no message, to the first endpoint. Any answer will do.
func (l *Link) ask(ctx context.Context) (*http.Response, error) {
	o, targets, _ := l.current()
	ctx, cancel := context.WithTimeout(ctx, o.DialTimeout+o.ResponseTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, targets[0].url, nil)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	resp, err := targets[0].client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	return resp, resp.Body.Close()
}
