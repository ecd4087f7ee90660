package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/latchkey-pos/latchkey/internal/strictjson"
)

const (
	maxRequest  = 64 << 10
	maxPart     = 1 << 20 // of a part of a list
	maxResponse = 64 << 20
)

// ErrUnreachable is wrapped when the registration authority gave no answer.
var ErrUnreachable = errors.New("admin: the registration authority cannot be reached")

// Error is a refusal of the registration authority.
type Error struct {
	Status     int           // HTTP status
	Code       string        // stable, for programs
	Message    string        // what is wrong
	Hint       string        // what to do next; may be empty
	RetryAfter time.Duration // zero when nothing was said
}

// Error returns the code and the message.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Client asks a registration authority. It is safe for concurrent use. It repeats nothing: the context of each call
// limits it. Refusals are an *Error; no answer wraps ErrUnreachable.
type Client struct {
	root string
	http *http.Client
}

// NewClient returns a client for the services address at baseURL. Its transport, with the caller's certificate and the
// trusted roots, comes from hc; redirects are never followed.
func NewClient(baseURL string, hc *http.Client) *Client {
	own := http.Client{Transport: hc.Transport, Timeout: hc.Timeout}
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{root: strings.TrimSuffix(baseURL, "/"), http: &own}
}

// Do asks for an operation. An outcome with an Approval waits for a second person.
func (c *Client) Do(ctx context.Context, op Operation) (*Outcome, error) {
	var out Outcome
	return &out, c.json(ctx, http.MethodPost, PathOperations, op, &out)
}

// Approve approves what somebody else has asked for, and returns what became of it.
func (c *Client) Approve(ctx context.Context, id string) (*Outcome, error) {
	var out Outcome
	return &out, c.json(ctx, http.MethodPost, PathApprovals+"/"+url.PathEscape(id), struct{}{}, &out)
}

// Approvals lists what waits for a second person.
func (c *Client) Approvals(ctx context.Context) ([]Approval, error) {
	var out approvalList
	err := c.json(ctx, http.MethodGet, PathApprovals, nil, &out)
	return out.Approvals, err
}

// Enlist has a part of a list registered, or only looked at.
func (c *Client) Enlist(ctx context.Context, p Part) ([]Enlisted, error) {
	var out enlistedList
	if err := c.json(ctx, http.MethodPost, PathFleet, p, &out); err != nil {
		return nil, err
	}
	if len(out.Terminals) != len(p.All) {
		return nil, fmt.Errorf("admin: answer: %d terminals, want %d", len(out.Terminals), len(p.All))
	}
	for i, e := range out.Terminals {
		if e.Terminal != p.All[i].Terminal {
			return nil, fmt.Errorf("admin: answer: terminal %d is another one", i+1)
		}
	}
	return out.Terminals, nil
}

// Campaign says how far a key set is from being out of use, with every slot that it is in.
func (c *Client) Campaign(ctx context.Context, set string) (*Campaign, error) {
	var out Campaign
	all, err := pages(func(after string) ([]HitSlot, bool, error) {
		out = Campaign{}
		err := c.json(ctx, http.MethodGet, listPath(PathCampaigns+"/"+url.PathEscape(set), queryAfter, after), nil, &out)
		return out.Hit, out.More, err
	}, func(h HitSlot) string { return h.Terminal })
	out.Hit, out.More = all, false
	return &out, err
}

// CampaignCounts is Campaign without the slots.
func (c *Client) CampaignCounts(ctx context.Context, set string) (*Campaign, error) {
	var out Campaign
	err := c.json(ctx, http.MethodGet, listPath(PathCampaigns+"/"+url.PathEscape(set), queryLimit, "1"), nil, &out)
	out.Hit, out.More = nil, false
	return &out, err
}

// Terminals lists the terminals, by name: all of them, however many requests that takes.
func (c *Client) Terminals(ctx context.Context) ([]Terminal, error) {
	return c.Select(ctx, Selection{})
}

// Selection says which terminals of a list are wanted. Empty members want all.
type Selection struct {
	Group  string
	Labels []string // KEY=VALUE, all of them
	KeySet string   // that have a slot of this set, or a key of it that is not retired
}

// Select is Terminals for those that are wanted.
func (c *Client) Select(ctx context.Context, s Selection) ([]Terminal, error) {
	return pages(func(after string) ([]Terminal, bool, error) {
		var out terminalList
		err := c.json(ctx, http.MethodGet, listPath(PathTerminals, queryAfter, after, queryGroup, s.Group,
			queryLabels, strings.Join(s.Labels, ","), queryKeySet, s.KeySet), nil, &out)
		return out.Terminals, out.More, err
	}, func(t Terminal) string { return t.Terminal })
}

// Terminal returns one terminal.
func (c *Client) Terminal(ctx context.Context, id string) (*Terminal, error) {
	var out Terminal
	return &out, c.json(ctx, http.MethodGet, PathTerminals+"/"+url.PathEscape(id), nil, &out)
}

// Certificates lists the certificates that were issued to terminals, the latest first: all of them, however many requests
// that takes.
func (c *Client) Certificates(ctx context.Context) ([]Certificate, error) {
	return c.CertificatesOf(ctx, "")
}

// CertificatesOf lists the certificates that were issued to one terminal, the latest first.
func (c *Client) CertificatesOf(ctx context.Context, terminal string) ([]Certificate, error) {
	return pages(func(after string) ([]Certificate, bool, error) {
		var out certificateList
		err := c.json(ctx, http.MethodGet, listPath(PathCertificates, queryTerminal, terminal, queryAfter, after), nil, &out)
		return out.Certificates, out.More, err
	}, func(cert Certificate) string { return cert.Serial })
}

// pages asks for one page after the other. Each begins behind the last entry of the one before.
func pages[R any](ask func(after string) ([]R, bool, error), name func(R) string) ([]R, error) {
	out, after := []R{}, ""
	for {
		page, more, err := ask(after)
		if err != nil {
			return nil, err
		}
		out = append(out, page...)
		if !more {
			return out, nil
		}
		if len(page) == 0 || name(page[len(page)-1]) == after {
			return nil, errors.New("admin: answer: a page that leads nowhere")
		}
		after = name(page[len(page)-1])
	}
}

// listPath is a path with those parameters that have a value.
func listPath(path string, parameters ...string) string {
	q := url.Values{}
	for i := 0; i < len(parameters); i += 2 {
		if parameters[i+1] != "" {
			q.Set(parameters[i], parameters[i+1])
		}
	}
	if len(q) == 0 {
		return path
	}
	return path + "?" + q.Encode()
}

// CRL returns the revocation list of terminals in DER.
func (c *Client) CRL(ctx context.Context) ([]byte, error) {
	return c.call(ctx, http.MethodGet, PathCRL, nil)
}

func (c *Client) json(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in, json.Deterministic(true)); err != nil {
			return fmt.Errorf("admin: %w", err)
		}
	}
	answer, err := c.call(ctx, method, path, body)
	if err != nil {
		return err
	}
	if err := strictjson.Read(answer, maxResponse, true, out); err != nil {
		return fmt.Errorf("admin: answer: %w", err)
	}
	return nil
}

// call makes one exchange and returns the body of an answer with status 200 or 202.
func (c *Client) call(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.root+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer resp.Body.Close() // only read
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusAccepted {
		return answer, nil
	}
	return nil, refusal(resp, answer)
}

func refusal(resp *http.Response, body []byte) error {
	e := &Error{Status: resp.StatusCode, Code: "Status" + strconv.Itoa(resp.StatusCode), Message: http.StatusText(resp.StatusCode)}
	var said struct {
		Code    string `json:"Code"`
		Message string `json:"Message"`
		Hint    string `json:"Hint"`
	}
	if strictjson.Read(body, maxRequest, true, &said) == nil && said.Code != "" {
		e.Code, e.Message, e.Hint = said.Code, said.Message, said.Hint
	}
	if n, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16); err == nil {
		e.RetryAfter = time.Duration(n) * time.Second
	}
	return e
}
