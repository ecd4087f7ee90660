package terminal

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// What a Link does when its options say nothing else.
const (
	DefaultDialTimeout     = 10 * time.Second
	DefaultResponseTimeout = 20 * time.Second
	DefaultBackoff         = 500 * time.Millisecond
	DefaultMaxBackoff      = 30 * time.Second
)

// contentType is that of messages and acknowledgements.
const contentType = "application/cbor"

// patience is how long a Link goes on, in pauses, although every endpoint refuses the certificate: a host that has just
// started, or has not heard yet of a new certificate, refuses it at first.
const patience = 2 * time.Second

// maxHostError bounds what is read of an answer that is no acknowledgement.
const maxHostError = 4 << 10

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
	Endpoints       []Endpoint
	Credential      *tlsconf.Credential // of the terminal
	Roots           *x509.CertPool      // of the services authority
	Gate            tlsconf.Gate        // nil: every acquirer host that the authority certifies is admitted
	DialTimeout     time.Duration       // TCP and TLS together; 0: DefaultDialTimeout
	ResponseTimeout time.Duration       // from the first byte sent to the last received; 0: DefaultResponseTimeout
	Backoff         time.Duration       // mean pause after the first failure is half of it; 0: DefaultBackoff
	MaxBackoff      time.Duration       // the longest pause, Retry-After too; 0: DefaultMaxBackoff
	Clock           func() time.Time    // judges certificates; nil: time.Now
	// Sleep waits or returns the error of ctx; nil: real time.
	Sleep func(ctx context.Context, d time.Duration) error
	// Jitter draws from [0, most); nil: uniformly.
	Jitter func(most time.Duration) time.Duration
	// Events, if not nil, is called on each change of state, by the goroutine that exchanges.
	Events func(LinkState)
}

// Link posts messages to an acquirer's host: HTTP/1.1 with kept-alive connections over mutual TLS 1.3, to several
// endpoints in order of preference. It is used by one goroutine at a time.
type Link struct {
	o       LinkOptions
	targets []target
	state   LinkState
}

type target struct {
	url    string
	client *http.Client
}

// HostError is an answer of the host that is no acknowledgement: nothing in it is authenticated by the keys of the
// terminal, so nothing changes because of it.
type HostError struct {
	Status  int    // HTTP status
	Code    string // what the host calls it, at most 64 characters; may be empty
	Message string // for a person, at most 200 characters; may be empty
}

// Error returns the status and what the host says.
func (e *HostError) Error() string {
	s := fmt.Sprintf("terminal: the host refuses with status %d", e.Status)
	if e.Code != "" {
		s += " " + e.Code
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// NewLink prepares a link; it connects when there is something to send.
func NewLink(o LinkOptions) (*Link, error) {
	l := new(Link)
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
	next := &Link{o: o, state: l.state}
	for _, e := range o.Endpoints {
		t, err := next.target(e)
		if err != nil {
			return err
		}
		next.targets = append(next.targets, t)
	}
	l.Close()
	*l = *next
	return nil
}

func (o *LinkOptions) setDefaults() {
	setDefault(&o.DialTimeout, DefaultDialTimeout)
	setDefault(&o.ResponseTimeout, DefaultResponseTimeout)
	setDefault(&o.Backoff, DefaultBackoff)
	setDefault(&o.MaxBackoff, DefaultMaxBackoff)
	if o.Gate == nil {
		o.Gate = tlsconf.OpenGate()
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
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d <= 0 {
		*d = v
	}
}

func (l *Link) target(e Endpoint) (target, error) {
	if err := e.validate(); err != nil {
		return target{}, fmt.Errorf("terminal: %w", err)
	}
	u, err := url.Parse(e.URL)
	if err != nil {
		return target{}, fmt.Errorf("terminal: %w", err)
	}
	name := e.ServerName
	if name == "" {
		name = u.Hostname()
	}
	config, err := tlsconf.Client(tlsconf.ClientOptions{
		Credential: l.o.Credential, Trust: tlsconf.Trust{Services: l.o.Roots}, ServerRole: identity.AcquirerHost,
		ServerName: name, Gate: l.o.Gate, Clock: l.o.Clock,
	})
	if err != nil {
		return target{}, err
	}
	transport := &http.Transport{
		DialContext:            (&net.Dialer{Timeout: l.o.DialTimeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    l.o.DialTimeout,
		Protocols:              new(http.Protocols),
		MaxIdleConnsPerHost:    1,
		MaxResponseHeaderBytes: 16 << 10,
		DisableCompression:     true,
	}
	transport.Protocols.SetHTTP1(true)
	return target{
		url: u.JoinPath("messages").String(),
		client: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Close drops idle connections.
func (l *Link) Close() {
	for _, t := range l.targets {
		t.client.CloseIdleConnections()
	}
}

// State returns how the last attempt went, zero before the first.
func (l *Link) State() LinkState { return l.state }

// Exchange implements Exchanger. Each round tries every endpoint in order; between rounds it pauses for a random time
// below a limit that doubles (full jitter), or as long as the host asks. A host that answers 4xx, other than 408, 425
// and 429, refuses for good. When every endpoint refuses the certificate, and goes on doing so for two seconds, that is for
// good too: ErrCertificateRefused.
func (l *Link) Exchange(ctx context.Context, message []byte, accept func([]byte) error) error {
	var shut time.Duration // how long every endpoint has refused the certificate
	for round := 0; ; round++ {
		wait, err := l.round(ctx, message, accept)
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
		pause := min(max(wait, l.backoff(round)), l.o.MaxBackoff)
		if e := l.o.Sleep(ctx, pause); e != nil {
			return err
		}
		if refused {
			shut += pause
		} else {
			shut = 0
		}
	}
}

// round tries every endpoint once. It returns the longest pause that a host has asked for and the last error, which is
// ErrCertificateRefused only when every endpoint says so.
func (l *Link) round(ctx context.Context, message []byte, accept func([]byte) error) (wait time.Duration, err error) {
	for i, t := range l.targets {
		after, e := l.post(ctx, t, message, accept)
		if e == nil {
			if i == 0 {
				l.enter(Online)
			} else {
				l.enter(Degraded)
			}
			return 0, nil
		}
		wait = max(wait, after)
		if err == nil || !errors.Is(e, ErrCertificateRefused) {
			err = e
		}
		if refused, ok := errors.AsType[*HostError](e); ok && refused.final() {
			return wait, err
		}
		if i+1 < len(l.targets) {
			l.enter(Degraded)
		}
	}
	l.enter(Offline)
	return wait, err
}

func (l *Link) enter(s LinkState) {
	if l.state != s {
		l.state = s
		l.o.Events(s)
	}
}

// post makes one attempt at one endpoint.
func (l *Link) post(ctx context.Context, t target, message []byte, accept func([]byte) error) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, l.o.DialTimeout+l.o.ResponseTimeout)
	defer cancel()
	connected := false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected = true }})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(message))
	if err != nil {
		return 0, fmt.Errorf("terminal: %w", err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := t.client.Do(req)
	if connected && tlsconf.CertificateRefused(err) { // the host itself said so: an alert from before could be anybody's
		return 0, fmt.Errorf("%w: %w", ErrCertificateRefused, err)
	}
	if err != nil {
		return 0, fmt.Errorf("terminal: %w", err)
	}
	defer resp.Body.Close() // only read
	if resp.StatusCode != http.StatusOK {
		return retryAfter(resp.Header), hostError(resp)
	}
	if kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";"); kind != contentType {
		return 0, fmt.Errorf("%w: content type %.40q", ErrAck, kind)
	}
	answer, err := readAnswer(resp.Body)
	if err != nil {
		return 0, err
	}
	return 0, accept(answer)
}

func readAnswer(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, message.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	if len(b) > message.MaxSize {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrAck, message.MaxSize)
	}
	return b, nil
}

// final reports whether sending the same again is useless.
func (e *HostError) final() bool {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return e.Status >= 400 && e.Status < 500
}

// hostError keeps what a host says in its JSON {"Code", "Message"}, bounded and printable.
func hostError(resp *http.Response) *HostError {
	e := &HostError{Status: resp.StatusCode}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxHostError))
	if err != nil {
		return e // the status is all that came
	}
	var said struct{ Code, Message string }
	if json.Unmarshal(b, &said) == nil {
		e.Code, e.Message = printable(said.Code, 64), printable(said.Message, 200)
	}
	return e
}

// printable keeps the printable ASCII of the first characters: the host is not trusted with the screen.
func printable(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), most)]
}

// retryAfter reads the seconds form of Retry-After (RFC 9110, 10.2.3); a terminal does not trust its clock with dates.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.ParseUint(h.Get("Retry-After"), 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// backoff draws the pause after a round: uniform below Backoff x 2^round, bounded by MaxBackoff.
func (l *Link) backoff(round int) time.Duration {
	most := l.o.MaxBackoff
	if round < 20 {
		most = min(most, l.o.Backoff<<round)
	}
	return l.o.Jitter(most)
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
