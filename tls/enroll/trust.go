package enroll

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

// FetchTrustList gets the trust list from baseURL, http://HOST or http://HOST:PORT. Nothing protects the connection; the
// list is believed only if trustlist.Open does, given what was accepted so far, and the error then wraps
// trustlist.ErrTrust. It returns the document, to be kept, and the list in it.
func FetchTrustList(ctx context.Context, baseURL string, accepted trustlist.Accepted) ([]byte, *trustlist.List, error) {
	if err := checkURL(baseURL, "http"); err != nil {
		return nil, nil, err
	}
	client := newHTTP(newTransport(), 0)
	defer client.CloseIdleConnections()
	req, err := newRequest(ctx, http.MethodGet, strings.TrimSuffix(baseURL, "/")+pathTrustList, "", nil)
	if err != nil {
		return nil, nil, err
	}
	a, err := do(client, req, time.Now)
	if err != nil {
		return nil, nil, err
	}
	list, err := trustlist.Open(a.body, accepted)
	if err != nil {
		return nil, nil, err
	}
	return a.body, list, nil
}

// TrustList returns the current trust list as the authority sent it. Nothing of it is verified: that is trustlist.Open.
func (c *Client) TrustList(ctx context.Context) ([]byte, error) {
	a, err := c.get(ctx, pathTrustList)
	if err != nil {
		return nil, err
	}
	return a.body, nil
}
