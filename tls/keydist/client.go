package keydist

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// callTimeout bounds one call. A terminal that waits asks again by itself.
const callTimeout = 7 * time.Second

// Client gives orders to a host: what the registration authority has. It is safe for concurrent use.
//
// A call takes at most seven seconds. Certify, Settle, Withdraw and Adopt are sent a second time when no answer came; a Deliver never is,
// because each one uses up a key id. What the host refuses is a *Refusal; every other error means that the host was not
// reached or did not answer as one.
type Client struct {
	root string
	http *http.Client
}

// NewClient returns a client for the host at baseURL, such as "https://localhost:8448". The transport of hc has the
// certificate of the registration authority and the trusted roots; redirects are never followed, whatever hc says. A base
// URL that is not https://HOST:PORT makes every call fail.
func NewClient(baseURL string, hc *http.Client) *Client {
	own := http.Client{Transport: hc.Transport, Timeout: hc.Timeout}
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{root: strings.TrimSuffix(baseURL, "/"), http: &own}
}

// checkRoot refuses a base URL that could lead elsewhere than it seems to.
func (c *Client) checkRoot() error {
	u, err := url.Parse(c.root)
	if err != nil || u.Host == "" || c.root != "https://"+u.Host {
		return errors.New("keydist: the base URL of the host is not https://HOST:PORT")
	}
	return nil
}

// Certify has the agreement key of a terminal certified. The result is the leaf, then the issuing certificates.
func (c *Client) Certify(ctx context.Context, o remote.CertifyOrder) ([]*x509.Certificate, error) {
	body, err := o.Marshal()
	if err != nil {
		return nil, err
	}
	b, err := c.twice(ctx, PathAgreement, body)
	if err != nil {
		return nil, err
	}
	chain, err := parseCertificates(b)
	if err != nil {
		return nil, err
	}
	if err := checkCertified(o, chain[0]); err != nil {
		return nil, err
	}
	return chain, nil
}

// checkCertified refuses a certificate that is for somebody else, or for another key than that of the order.
func checkCertified(o remote.CertifyOrder, leaf *x509.Certificate) error {
	id, err := identity.FromCertificate(leaf)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrAnswer, err)
	}
	if want := (identity.Identity{Tenant: string(o.Tenant), Role: identity.Agreement, Name: string(o.Terminal)}); id != want {
		return fmt.Errorf("%w: a certificate for %v, want %v", ErrAnswer, id, want)
	}
	csr, err := x509.ParseCertificateRequest(o.CSR)
	if err != nil {
		return fmt.Errorf("%w: a certificate for a request that is none", ErrAnswer)
	}
	if key, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !key.Equal(csr.PublicKey) {
		return fmt.Errorf("%w: a certificate for another key", ErrAnswer)
	}
	return nil
}

// Deliver has the next key of a set delivered. It is sent once: a caller that gets no answer may have used up a key id.
func (c *Client) Deliver(ctx context.Context, o remote.Order) (*remote.Delivery, error) {
	body, err := o.Marshal()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	b, _, err := c.once(ctx, PathDelivery, body)
	if err != nil {
		return nil, err
	}
	d, err := remote.ParseDelivery(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	return d, nil
}

// Settle says what became of a key.
func (c *Client) Settle(ctx context.Context, o remote.Settlement) error {
	body, err := o.Marshal()
	if err != nil {
		return err
	}
	_, err = c.twice(ctx, PathSettlement, body)
	return err
}

// Withdraw says which key ids of a set are never to be given out.
func (c *Client) Withdraw(ctx context.Context, o remote.Withdrawal) error {
	body, err := o.Marshal()
	if err != nil {
		return err
	}
	_, err = c.twice(ctx, PathWithdrawal, body)
	return err
}

// Adopt says which keys terminals have from elsewhere.
func (c *Client) Adopt(ctx context.Context, o remote.Adoption) error {
	body, err := o.Marshal()
	if err != nil {
		return err
	}
	_, err = c.twice(ctx, PathAdoption, body)
	return err
}

// twice sends an order that may be given again, and once more when no answer came.
func (c *Client) twice(ctx context.Context, path string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	b, answered, err := c.once(ctx, path, body)
	if err != nil && !answered && ctx.Err() == nil {
		b, _, err = c.once(ctx, path, body)
	}
	return b, err
}

// once sends an order and reports whether an answer came, be it an error.
func (c *Client) once(ctx context.Context, path string, body []byte) (_ []byte, answered bool, _ error) {
	if err := c.checkRoot(); err != nil {
		return nil, true, err // nothing changes when it is sent again
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.root+path, bytes.NewReader(body))
	if err != nil {
		return nil, false, fmt.Errorf("keydist: %w", err)
	}
	req.Header.Set("Content-Type", ContentType)
	req.Header.Set("Accept", ContentType)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, false, fmt.Errorf("keydist: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // read only
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, false, fmt.Errorf("keydist: answer of the host: %w", err)
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNoContent {
		return nil, true, refusalOf(resp.StatusCode, b)
	}
	media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	silent := path == PathSettlement || path == PathWithdrawal || path == PathAdoption
	if (resp.StatusCode == http.StatusNoContent) != silent || !silent && (err != nil || media != ContentType) {
		return nil, true, fmt.Errorf("%w: not %s", ErrAnswer, ContentType)
	}
	return b, true, nil
}

// refusalOf makes the error of an answer that carries none. A body that is not the host's is dropped: it may be anything.
func refusalOf(status int, body []byte) error {
	var p struct {
		Code    string `json:"Code"`
		Message string `json:"Message"`
		Hint    string `json:"Hint,omitzero"`
	}
	if len(body) > maxAnswer || json.Unmarshal(body, &p, json.RejectUnknownMembers(true)) != nil {
		return fmt.Errorf("%w: HTTP status %d", ErrAnswer, status)
	}
	info, ok := Code(p.Code).Info()
	if !ok || info.HTTPStatus != status {
		return fmt.Errorf("%w: HTTP status %d", ErrAnswer, status)
	}
	detail, _ := strings.CutPrefix(strings.TrimPrefix(p.Message, info.Meaning), ": ")
	return &Refusal{Code: info.Code, Detail: detail}
}
