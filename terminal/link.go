package terminal

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// What a Link does when its options say nothing else. Of one endpoint that dies and comes back, the first three together are the
// longest time until somebody notices: 30 seconds.
const (
	DefaultDialTimeout     = 5 * time.Second
	DefaultResponseTimeout = 15 * time.Second
	DefaultMaxBackoff      = 10 * time.Second
	DefaultBackoff         = 500 * time.Millisecond
	DefaultIdleTimeout     = 30 * time.Second
)

// maxRetryAfter is the longest that a host keeps a terminal away.
const maxRetryAfter = 5 * time.Minute

// rest is how long an endpoint that failed is tried after the others.
const rest = 20 * time.Second

// patience is how long a Link goes on, in pauses, although every endpoint refuses the certificate: a host that has just
// started, or has not heard yet of a new certificate, refuses it at first.
const patience = 2 * time.Second

// What became of an attempt.
var (
	errSilent         = errors.New("no answer in time")
	errNetworkChanged = errors.New("the network has changed")
	errLeftAlone      = errors.New("terminal: every host wants to be left alone for now")
)

// Exchanger delivers a message and brings the answer back. Link is the one over the network.
type Exchanger interface {
	// Exchange sends message, again and again, until accept returns nil for an answer, the host refuses for good (a
	// HostError, or ErrCertificateRefused), or ctx ends. What accept returns errors for is treated as no answer at all.
	Exchange(ctx context.Context, message []byte, accept func(answer []byte) error) error
}

// LinkState says how well the host can be reached.
type LinkState uint8

// The states of a link.
const (
	Online   LinkState = iota + 1 // the preferred endpoint answers
	Degraded                      // an endpoint fails, or another than the preferred one answers
	Offline                       // no endpoint answers
)

// String returns the state in lower case.
func (s LinkState) String() string {
	switch s {
	case Online:
		return "online"
	case Degraded:
		return "degraded"
	case Offline:
		return "offline"
	}
	return fmt.Sprintf("LinkState(%d)", uint8(s))
}

// LinkOptions say whom a Link calls and how patiently. Endpoints, Credential and Roots are required.
type LinkOptions struct {
	Endpoints       []Endpoint          // in order of preference
	Credential      *tlsconf.Credential // of the terminal
	Roots           *x509.CertPool      // of the services authority
	Gate            tlsconf.Gate        // nil: every acquirer host that the authority certifies is admitted
	DialTimeout     time.Duration       // name, TCP and TLS together; 0: DefaultDialTimeout
	ResponseTimeout time.Duration       // from a connection to the last byte of the answer; 0: DefaultResponseTimeout
	IdleTimeout     time.Duration       // an unused connection is closed after it, before a network on the way forgets it; 0: DefaultIdleTimeout
	Backoff         time.Duration       // mean pause after the first failure is half of it; 0: DefaultBackoff
	MaxBackoff      time.Duration       // the longest pause but for one that a host asks for; 0: DefaultMaxBackoff
	Classical       bool                // key exchange without ML-KEM, for thin links; false: hybrid, as crypto/tls prefers
	Clock           func() time.Time    // judges certificates; nil: time.Now
	// Resolve looks up the addresses of a host, the preferred first; nil: the system's resolver. When it fails, the addresses
	// of the last time are tried.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Sleep waits or returns the error of ctx; nil: real time.
	Sleep func(ctx context.Context, d time.Duration) error
	// Jitter draws from [0, most); nil: uniformly.
	Jitter func(most time.Duration) time.Duration
	// Events, if not nil, is called on each change of state, by the goroutine that exchanges or dials. It must not call the
	// Link.
	Events func(LinkState)
	// Switching, if not nil, is called when another endpoint has answered than the one before, and when the link is back at that
	// one: as Events is, and under the same rule. A link begins at the preferred endpoint.
	Switching func(Switch)

	now func() time.Time // for pauses, with the monotonic clock; tests replace it
}

// LinkCounters count what a Link has done since it was made.
type LinkCounters struct {
	Dials          uint64 // connections that were tried to make
	DialFailures   uint64 // and were not made, TLS included
	Sent           uint64 // attempts to deliver a message over a connection
	Answered       uint64 // answers that were taken
	Silent         uint64 // attempts without an answer in time
	Broken         uint64 // attempts that ended in another error of the network
	Rejected       uint64 // answers that were none, or not genuine
	Refused        uint64 // answers with an HTTP status other than 200
	Pauses         uint64 // pauses after rounds in which no endpoint answered
	NetworkChanges uint64 // calls of NetworkChanged
}

// Link posts messages to an acquirer's host: HTTP/1.1 with kept-alive connections over mutual TLS 1.3, to several
// endpoints in order of preference. An endpoint that fails is tried after the others for a while, and then first again.
//
// No TLS session is kept: a resumed one would show the certificate from before a renewal, and sends more bytes than a full
// handshake. Exchange is called by one goroutine at a time; every other method is safe for concurrent use.
type Link struct {
	mu       sync.Mutex
	o        LinkOptions
	targets  []*target
	dialler  *dialler
	state    LinkState
	serving  string // URL of the endpoint that answered last; the preferred one before
	counters LinkCounters
	network  context.Context // ends when the network changes
	changed  context.CancelFunc
}

type target struct {
	record *EndpointCounters // guarded by the link's mu
	url    string
	host   string // with port
	client *http.Client
	dial   func(context.Context) (net.Conn, error)
	rests  time.Time // until when it comes after the others
	closed time.Time // until when its host wants not to be asked
}

// NewLink prepares a link; it connects when there is something to send.
func NewLink(o LinkOptions) (*Link, error) {
	l := &Link{dialler: newDialler()}
	l.network, l.changed = context.WithCancel(context.Background())
	if err := l.reset(o); err != nil {
		return nil, err
	}
	return l, nil
}

// reset has the link go by other options from now on: idle connections are dropped. On error nothing changes.
func (l *Link) reset(o LinkOptions) error {
	o.setDefaults()
	if len(o.Endpoints) == 0 {
		return errors.New("terminal: a link needs an endpoint")
	}
	var targets []*target
	for _, e := range o.Endpoints {
		t, err := l.target(o, e)
		if err != nil {
			return err
		}
		targets = append(targets, t)
	}
	l.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keepRecords(targets)
	l.o, l.targets = o, targets
	return nil
}

func (o *LinkOptions) setDefaults() {
	setDefault(&o.DialTimeout, DefaultDialTimeout)
	setDefault(&o.ResponseTimeout, DefaultResponseTimeout)
	setDefault(&o.IdleTimeout, DefaultIdleTimeout)
	setDefault(&o.Backoff, DefaultBackoff)
	setDefault(&o.MaxBackoff, DefaultMaxBackoff)
	if o.Gate == nil {
		o.Gate = tlsconf.OpenGate()
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Resolve == nil {
		o.Resolve = resolve
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	if o.Jitter == nil {
		o.Jitter = func(most time.Duration) time.Duration { return rand.N(most) }
	}
	if o.Events == nil {
		o.Events = func(LinkState) {}
	}
	if o.Switching == nil {
		o.Switching = func(Switch) {}
	}
	if o.now == nil {
		o.now = time.Now
	}
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d <= 0 {
		*d = v
	}
}

func (l *Link) target(o LinkOptions, e Endpoint) (*target, error) {
	if err := e.validate(); err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	u, err := url.Parse(e.URL)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	name := e.ServerName
	if name == "" {
		name = u.Hostname()
	}
	config, err := tlsconf.Client(tlsconf.ClientOptions{
		Credential: o.Credential, Trust: tlsconf.Trust{Services: o.Roots}, ServerRole: identity.AcquirerHost,
		ServerName: name, Gate: o.Gate, Clock: o.Clock, Classical: o.Classical,
	})
	if err != nil {
		return nil, err
	}
	t := &target{record: &EndpointCounters{URL: e.URL}, url: u.JoinPath("messages").String(), host: hostPort(u)}
	t.dial = func(ctx context.Context) (net.Conn, error) { return l.connect(ctx, o, t.host, config) }
	transport := &http.Transport{
		DialTLSContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return t.dial(ctx) },
		IdleConnTimeout:        o.IdleTimeout,
		Protocols:              new(http.Protocols),
		MaxIdleConnsPerHost:    1,
		MaxResponseHeaderBytes: 16 << 10,
		DisableCompression:     true,
	}
	transport.Protocols.SetHTTP1(true)
	t.client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return t, nil
}

// hostPort is where a URL leads.
func hostPort(u *url.URL) string { return net.JoinHostPort(u.Hostname(), portOf(u)) }

func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	return "443"
}

// Close drops idle connections. Those of Dial are their owner's.
func (l *Link) Close() {
	l.mu.Lock()
	targets := l.targets
	l.mu.Unlock()
	for _, t := range targets {
		t.client.CloseIdleConnections()
	}
}

// State returns how the last attempt went, zero before the first.
func (l *Link) State() LinkState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Counters returns what was counted so far.
func (l *Link) Counters() LinkCounters {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counters
}

func (l *Link) count(c func(*LinkCounters)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c(&l.counters)
}

// NetworkChanged tells the link that the device is on another network: every connection is closed, those of Dial too, a message
// on its way is sent again at once over a new one, and a pause ends. It may be called at any time.
func (l *Link) NetworkChanged() {
	l.mu.Lock()
	l.counters.NetworkChanges++
	for _, t := range l.targets {
		t.rests = time.Time{}
	}
	changed := l.changed
	l.network, l.changed = context.WithCancel(context.Background())
	l.mu.Unlock()
	changed()
	l.dialler.closeAll()
	l.Close()
}

// current returns what Exchange and Dial go by now.
func (l *Link) current() (LinkOptions, []*target, context.Context) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.o, l.targets, l.network
}

// Exchange implements Exchanger. Each round tries every endpoint, those that failed lately last; between rounds it pauses for a
// random time below a limit that doubles (full jitter), beside what the hosts ask for. A host that answers 4xx, other than 408,
// 425 and 429, refuses for good. When every endpoint refuses the certificate, and goes on doing so for two seconds, that is for
// good too: ErrCertificateRefused.
func (l *Link) Exchange(ctx context.Context, message []byte, accept func([]byte) error) error {
	var shut time.Duration // how long every endpoint has refused the certificate
	for round := 0; ; round++ {
		_, _, network := l.current()
		wait, err := l.round(ctx, func(t *target) error { return l.post(ctx, t, message, accept) })
		if err == nil {
			return nil
		}
		if h, ok := errors.AsType[*HostError](err); ok && h.final() {
			return err
		}
		refused := errors.Is(err, ErrCertificateRefused)
		if ctx.Err() != nil || refused && shut >= patience {
			return err
		}
		if network.Err() != nil {
			round, shut = -1, 0
			continue
		}
		pause, e := l.pause(ctx, network, wait, round)
		if e != nil {
			return err
		}
		if refused {
			shut += pause
		} else {
			shut = 0
		}
	}
}

// pause waits between two rounds, until the network changes at most, and returns how long it meant to.
func (l *Link) pause(ctx, network context.Context, wait time.Duration, round int) (time.Duration, error) {
	l.count(func(c *LinkCounters) { c.Pauses++ })
	o, _, _ := l.current()
	d := wait + o.backoff(round)
	until, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(network, cancel)()
	err := o.Sleep(until, d)
	if err != nil && ctx.Err() == nil && network.Err() != nil {
		err = nil
	}
	return d, err
}

// round makes one attempt at every endpoint that may be asked. It returns the time until the first may be that may not, when none was, and
// the last error, which is ErrCertificateRefused only when every endpoint says so.
func (l *Link) round(ctx context.Context, attempt func(*target) error) (wait time.Duration, err error) {
	order, _ := l.order()
	for n, t := range order {
		e := attempt(t)
		if e == nil {
			l.succeed(t)
			return 0, nil
		}
		l.fail(ctx, t, e)
		if err == nil || !errors.Is(e, ErrCertificateRefused) {
			err = e
		}
		if refused, ok := errors.AsType[*HostError](e); ok && refused.final() {
			return 0, err
		}
		if ctx.Err() != nil {
			return 0, err
		}
		if n+1 < len(order) {
			l.enter(Degraded)
		}
	}
	l.enter(Offline)
	if err == nil {
		err = errLeftAlone
	}
	_, wait = l.order()
	return wait, err
}

// order returns the endpoints in the order to try them in, without those whose hosts want to be left alone; when these are all,
// how long until the first of them.
func (l *Link) order() (order []*target, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.o.now()
	var resting []*target
	for _, t := range l.targets {
		switch {
		case now.Before(t.closed):
			if d := t.closed.Sub(now); wait == 0 || d < wait {
				wait = d
			}
		case now.Before(t.rests):
			resting = append(resting, t)
		default:
			order = append(order, t)
		}
	}
	if order = append(order, resting...); len(order) > 0 {
		wait = 0
	}
	return order, wait
}

// succeed and fail note how an endpoint did.
func (l *Link) succeed(t *target) {
	l.mu.Lock()
	t.rests, t.closed = time.Time{}, time.Time{}
	preferred := len(l.targets) > 0 && t == l.targets[0]
	l.mu.Unlock()
	if preferred {
		l.enter(Online)
	} else {
		l.enter(Degraded)
	}
	l.serve(t)
}

func (l *Link) fail(ctx context.Context, t *target, err error) {
	h, said := errors.AsType[*HostError](err)
	if ctx.Err() != nil || errors.Is(err, errNetworkChanged) || said && h.final() {
		return // that says nothing about the endpoint, or that it is well
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.o.now()
	t.rests = now.Add(rest)
	if said && h.RetryAfter > 0 {
		t.closed = now.Add(min(h.RetryAfter, maxRetryAfter))
	}
}

func (l *Link) enter(s LinkState) {
	l.mu.Lock()
	changed, events := l.state != s, l.o.Events
	l.state = s
	l.mu.Unlock()
	if changed {
		events(s)
	}
}

// post makes one attempt at one endpoint. A connection that has died while nobody used it is replaced at once: net/http does
// that for requests that it may repeat, and these it may.
func (l *Link) post(ctx context.Context, t *target, message []byte, accept func([]byte) error) error {
	o, _, network := l.current()
	began, caller := o.now(), ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(network, func() { cancel(errNetworkChanged) })()
	deadline := time.AfterFunc(o.DialTimeout, func() { cancel(errSilent) })
	defer deadline.Stop()
	connected := false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) {
		connected = true
		deadline.Reset(o.ResponseTimeout)
		if planted.On(planted.LinkNoDeadline) {
			deadline.Stop()
		}
	}})
	err := exchange(ctx, t, message, accept)
	if err != nil && ctx.Err() != nil && !spoken(err) {
		err = fmt.Errorf("terminal: %w", context.Cause(ctx))
	}
	if connected && tlsconf.CertificateRefused(err) { // the host itself said so: an alert from before could be anybody's
		err = fmt.Errorf("%w: %w", ErrCertificateRefused, err)
	}
	l.count(func(c *LinkCounters) {
		c.attempt(connected, err)
		t.record.attempt(connected, caller.Err() != nil, err, o.now().Sub(began))
	})
	return err
}

// exchange posts a message and has the answer looked at.
func exchange(ctx context.Context, t *target, message []byte, accept func([]byte) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(message))
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header["Idempotency-Key"] = nil // the message is its own: net/http may repeat it, and sends no such header
	resp, err := t.client.Do(req)
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	defer resp.Body.Close() // only read
	if resp.StatusCode != http.StatusOK {
		return hostError(resp)
	}
	if kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";"); kind != contentType {
		return fmt.Errorf("%w: content type %.40q", ErrAck, kind)
	}
	answer, err := readAnswer(resp.Body)
	if err != nil {
		return err
	}
	return accept(answer)
}

// spoken reports whether somebody has answered, if not as wanted.
func spoken(err error) bool {
	_, refused := errors.AsType[*HostError](err)
	return refused || errors.Is(err, ErrAck)
}

// attempt counts an attempt.
func (c *LinkCounters) attempt(connected bool, err error) {
	if !connected {
		return // a dial, and counted as such
	}
	c.Sent++
	_, refused := errors.AsType[*HostError](err)
	switch {
	case err == nil:
		c.Answered++
	case refused:
		c.Refused++
	case errors.Is(err, ErrAck):
		c.Rejected++
	case errors.Is(err, errSilent):
		c.Silent++
	default:
		c.Broken++
	}
}

// Dial makes a connection to the first endpoint that takes one, over mutual TLS 1.3 as messages go, for another protocol than
// theirs: ISO 8583 behind two bytes of length, perhaps. Only host and port of the endpoints count. The handshake is done; whether
// the host takes the certificate of the terminal is known with the first byte that it sends.
//
// A peer that is gone ends the connection: what was sent and is not acknowledged by TCP within some 20 seconds, on Linux, or three
// probes without a reply on an idle one. A host that is there and silent is for the deadlines of the caller, who closes the
// connection. NetworkChanged ends it too.
func (l *Link) Dial(ctx context.Context) (conn net.Conn, err error) {
	_, err = l.round(ctx, func(t *target) (err error) {
		o, _, network := l.current()
		began := o.now()
		if conn, err = t.dial(ctx); err != nil {
			err = fmt.Errorf("terminal: %w", err)
		}
		l.count(func(*LinkCounters) {
			t.record.attempt(false, ctx.Err() != nil || network.Err() != nil, err, o.now().Sub(began))
		})
		return err
	})
	return conn, err
}

// backoff draws the pause after a round: uniform below Backoff x 2^round, bounded by MaxBackoff.
func (o LinkOptions) backoff(round int) time.Duration {
	return o.Jitter(doubled(o.Backoff, o.MaxBackoff, round))
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

var _ Exchanger = (*Link)(nil)
