package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// Client calls one latchkey-decryptd. It is safe for concurrent use. It sets no time limit of its own and repeats
// nothing: the context of each call limits it, and repeating a call with the same bytes is always safe.
type Client struct {
	root string
	http *http.Client
}

// NewClient returns a client for the service at baseURL, such as "https://127.0.0.1:8443". Its transport, with the
// caller's certificate and the trusted roots, comes from hc, which must not be nil; redirects are never followed, whatever
// hc says. A base URL that is no https URL of a host makes every call fail.
func NewClient(baseURL string, hc *http.Client) *Client {
	own := http.Client{Transport: hc.Transport, Timeout: hc.Timeout}
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{root: strings.TrimSuffix(baseURL, "/"), http: &own}
}

// Transaction has a terminal's message verified, decrypted and translated. Refusals of the service are an *Error.
func (c *Client) Transaction(ctx context.Context, req TransactionRequest) (*TransactionResponse, error) {
	if err := req.validate(); err != nil {
		return nil, err
	}
	var out TransactionResponse
	if err := c.call(ctx, http.MethodPost, PathTransactions, req, &out); err != nil {
		return nil, err
	}
	if err := out.validate(); err != nil {
		return nil, err
	}
	return &out, nil
}

// Batch does for up to MaxBatch messages what Transaction does for one. The results are in their order; what the service refuses
// about one message is its Error.
func (c *Client) Batch(ctx context.Context, req BatchRequest) (*BatchResponse, error) {
	if err := req.validate(); err != nil {
		return nil, err
	}
	var out BatchResponse
	if err := c.call(ctx, http.MethodPost, PathBatch, req, &out); err != nil {
		return nil, err
	}
	if len(out.Results) != len(req.Transactions) {
		return nil, fmt.Errorf("%w: %d results of %d messages", ErrMalformed, len(out.Results), len(req.Transactions))
	}
	for i, r := range out.Results {
		if (r.Response == nil) == (r.Error == nil) || r.Error != nil && r.Error.Code == "" {
			return nil, fmt.Errorf("%w: result %d is neither a response nor an error", ErrMalformed, i+1)
		}
		if r.Response == nil {
			continue
		}
		if err := r.Response.validate(); err != nil {
			return nil, err
		}
	}
	return &out, nil
}

// Answer records the host's decision and returns the acknowledgement for the terminal. Asking again with the same
// decision returns the same acknowledgement; another decision is refused with an *Error.
func (c *Client) Answer(ctx context.Context, req AnswerRequest) (*AnswerResponse, error) {
	if err := req.validate(); err != nil {
		return nil, err
	}
	var out AnswerResponse
	if err := c.call(ctx, http.MethodPost, PathAnswer, req, &out); err != nil {
		return nil, err
	}
	if len(out.Ack) == 0 || (out.Recorded != First && out.Recorded != Again) {
		return nil, fmt.Errorf("%w: Ack or Recorded is missing", ErrMalformed)
	}
	return &out, nil
}

// Counters says where the counters of one of the caller's terminals stand.
func (c *Client) Counters(ctx context.Context, terminal string) (*CountersResponse, error) {
	var out CountersResponse
	if err := c.call(ctx, http.MethodGet, PathTerminals+url.PathEscape(terminal)+PathCounters, nil, &out); err != nil {
		return nil, err
	}
	if out.Terminal != terminal {
		return nil, fmt.Errorf("%w: the answer is about another terminal", ErrMalformed)
	}
	return &out, nil
}

// validate refuses a response without the members that a host decides by.
func (r *TransactionResponse) validate() error {
	decided := r.Code != "" && len(r.Ack) > 0
	switch {
	case !isDigest(r.RequestDigest) || (r.OriginalDigest != "" && !isDigest(r.OriginalDigest)):
		return fmt.Errorf("%w: RequestDigest or OriginalDigest is no digest", ErrMalformed)
	case r.CounterStatus != Fresh && r.CounterStatus != Resend && (r.CounterStatus != None || !decided):
		return fmt.Errorf("%w: CounterStatus is neither FRESH nor RESEND, nor NONE beside Code and Ack", ErrMalformed)
	}
	return nil
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	u, err := url.Parse(c.root)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("api: base URL %q is not https://HOST", c.root)
	}
	var body io.Reader
	if in != nil {
		b, err := Format(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.root+path, body)
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("api: %w", err)
	}
	defer resp.Body.Close()
	return read(resp, out)
}

// read takes at most MaxResponse bytes of a response, of a batch MaxBatchResponse.
func read(resp *http.Response, out any) error {
	limit := MaxResponse
	if _, batch := out.(*BatchResponse); batch {
		limit = MaxBatchResponse
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, int64(limit)+1))
	if err != nil {
		return fmt.Errorf("api: read response: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return refusal(resp.StatusCode, b)
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return fmt.Errorf("%w: the answer is not application/json", ErrMalformed)
	}
	return parse(b, limit, true, out)
}

// Error is a refusal of the service.
type Error struct {
	Status  int    `json:"-"`    // HTTP status
	Code    string `json:"Code"` // stable; docs/errors.md lists them. Empty when the answer was not the service's.
	Message string `json:"Message"`
	Hint    string `json:"Hint,omitzero"` // what to do next
}

// Error returns the code and the message.
func (e *Error) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("api: HTTP status %d without an answer of the service", e.Status)
	}
	return fmt.Sprintf("api: %s: %s", e.Code, e.Message)
}

// IsCode reports whether err is a refusal of the service with this code.
func IsCode(err error, code string) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}

// refusal makes the error of a response that is not 200. A body that is not the service's is dropped: it may be anything.
func refusal(status int, body []byte) error {
	var e Error
	if err := parseResponse(body, &e); err != nil || e.Code == "" {
		return &Error{Status: status}
	}
	e.Status = status
	return &e
}
