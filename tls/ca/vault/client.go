package vault

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"
)

// dialTimeout is for a connection alone: a Vault that is not there is known sooner than one that is slow.
const dialTimeout = time.Second

// connector makes clients of one Vault over one pool of connections.
type connector struct {
	server  Server
	timeout time.Duration
	http    *http.Client
}

func newConnector(s Server, timeout time.Duration, connections int) *connector {
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:     s.TLS,
		TLSHandshakeTimeout: timeout,
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: connections,
		IdleConnTimeout:     time.Minute,
	}
	return &connector{s, timeout, &http.Client{
		Transport:     &noting{transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a token goes to this address only
	}}
}

// client returns a client without a token.
func (c *connector) client() (*api.Client, error) {
	client, err := api.NewClient(&api.Config{
		Address: c.server.Address, HttpClient: c.http, Timeout: c.timeout, MaxRetries: 0, DisableRedirects: true,
	})
	if err != nil {
		return nil, err
	}
	client.SetHeaders(http.Header{api.RequestHeaderName: {"true"}}) // and not those of the environment
	client.ClearToken()
	if c.server.Namespace != "" {
		client.SetNamespace(c.server.Namespace)
	}
	return client, nil
}

func (c *connector) close() { c.http.CloseIdleConnections() }

// noting is a transport that notes when Vault says to come again, which the errors of the library leave out.
type noting struct{ next *http.Transport }

// waitKey is where a context has the note.
type waitKey struct{}

// withNote gives a context a note of how long Vault wants us to wait, in nanoseconds.
func withNote(ctx context.Context) (context.Context, *atomic.Int64) {
	note := new(atomic.Int64)
	return context.WithValue(ctx, waitKey{}, note), note
}

// maxRetryAfter bounds what is believed.
const maxRetryAfter = 10 * time.Minute

// RoundTrip implements http.RoundTripper.
func (n *noting) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := n.next.RoundTrip(r)
	note, ok := r.Context().Value(waitKey{}).(*atomic.Int64)
	if err != nil || !ok || resp.StatusCode < 400 {
		return resp, err
	}
	if seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 31); err == nil {
		note.Store(int64(min(time.Duration(seconds)*time.Second, maxRetryAfter)))
	}
	return resp, nil
}

// CloseIdleConnections lets http.Client reach the transport below.
func (n *noting) CloseIdleConnections() { n.next.CloseIdleConnections() }
