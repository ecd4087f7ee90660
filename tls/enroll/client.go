package enroll

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

// Options say who enrols and where.
type Options struct {
	URL      string           // of the registration authority: https://HOST or https://HOST:PORT. Required
	Tenant   string           // whose terminal it is. Required
	Terminal string           // its name. Required
	Timeout  time.Duration    // for one call, answer included; zero: 30 seconds
	Clock    func() time.Time // what certificates are judged by; nil: time.Now
}

const defaultTimeout = 30 * time.Second

// Client talks to one registration authority for one terminal. It is safe for concurrent use. It repeats nothing.
type Client struct {
	root string
	id   identity.Identity // of the terminal
	list *trustlist.List
	cred *tlsconf.Credential // nil for a visitor
	now  func() time.Time
	told *told
	http *http.Client
}

// told keeps the latest time that the authority has said, in seconds since 1970: for a clock that is behind. It is of connections on which
// the authority has proved who it is.
type told struct {
	base    *http.Transport
	seconds atomic.Int64
}

// RoundTrip implements http.RoundTripper.
func (t *told) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(req)
	if err == nil {
		if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
			t.seconds.Store(max(t.seconds.Load(), date.Unix()))
		}
	}
	return resp, err
}

// CloseIdleConnections closes those of the transport.
func (t *told) CloseIdleConnections() { t.base.CloseIdleConnections() }

// NewVisitor makes the client of a terminal that has no certificate yet, or none that is still good. It can enrol, and ask
// what needs no certificate. The list is one that trustlist.Open returned.
func NewVisitor(o Options, list *trustlist.List) (*Client, error) {
	return newClient(o, list, tlsconf.ClientOptions{Visitor: true})
}

// NewMember makes the client of a terminal that shows the certificate of cred.
func NewMember(o Options, list *trustlist.List, cred *tlsconf.Credential) (*Client, error) {
	if cred == nil {
		return nil, errors.New("enroll: a member shows a credential")
	}
	c, err := newClient(o, list, tlsconf.ClientOptions{Credential: cred})
	if err != nil {
		return nil, err
	}
	if cred.Identity() != c.id {
		c.Close()
		return nil, fmt.Errorf("enroll: the credential is for %v, not for %v", cred.Identity(), c.id)
	}
	c.cred = cred
	return c, nil
}

func newClient(o Options, list *trustlist.List, t tlsconf.ClientOptions) (*Client, error) {
	id, err := identity.New(o.Tenant, identity.Terminal, o.Terminal)
	if err != nil {
		return nil, err
	}
	if list == nil || list.Tenant != id.Tenant {
		return nil, errors.New("enroll: the trust list is missing, or for another tenant")
	}
	if err := checkURL(o.URL, "https"); err != nil {
		return nil, err
	}
	t.Trust, t.ServerRole, t.Gate, t.Clock = list.Trust(), identity.RA, sameTenant(id.Tenant), o.Clock
	config, err := tlsconf.Client(t)
	if err != nil {
		return nil, err
	}
	c := &Client{root: strings.TrimSuffix(o.URL, "/"), id: id, list: list, now: o.Clock}
	if c.now == nil {
		c.now = time.Now
	}
	transport := newTransport()
	transport.TLSClientConfig = config
	c.http = newHTTP(transport, o.Timeout)
	c.told = &told{base: transport}
	c.http.Transport = c.told
	return c, nil
}

// Close ends connections that no call uses.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// sameTenant admits the authority of the terminal's own tenant only.
func sameTenant(tenant string) tlsconf.Gate {
	return tlsconf.GateFunc(func(id identity.Identity, _ string) error {
		if id.Tenant != tenant {
			return fmt.Errorf("enroll: the server belongs to another tenant than %s", tenant)
		}
		return nil
	})
}

// checkURL wants an address and nothing else.
func checkURL(text, scheme string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != scheme || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery ||
		u.Fragment != "" || (u.Path != "" && u.Path != "/") {
		return fmt.Errorf("enroll: the URL of the authority is not %s://HOST:PORT", scheme)
	}
	return nil
}

// newTransport goes straight to the server, without a proxy, over HTTP/1.1.
func newTransport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Protocols:              protocols,
		DisableCompression:     true, // a body is no longer than what came
		MaxResponseHeaderBytes: 16 << 10,
		IdleConnTimeout:        time.Minute,
	}
}

// newHTTP follows no redirect: who answers is who was asked.
func newHTTP(transport *http.Transport, timeout time.Duration) *http.Client {
	if timeout == 0 {
		timeout = defaultTimeout
	}
	return &http.Client{
		Transport:     transport,
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
