package feed

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
	"time"

	"github.com/go-json-experiment/json"
)

const (
	// silence is how long an answer, or a part of one, is waited for. The authority gives a sign of life each second.
	silence        = 3 * time.Second
	maxSilence     = 30 * time.Second
	maxAnswerBytes = 4 << 10 // of what is not a page
	mediaJSON      = "application/json"
)

// errSilence says that nothing came for as long as an answer was waited for.
var errSilence = errors.New("nothing comes from the authority")

// Client talks to the registration authority. It is safe for concurrent use.
type Client struct {
	URLs []string // of the authority, such as "https://ra.example:8446"; one after the other is tried
	// HTTP has the transport that shows the caller's certificate and trusts the services authority only. Nothing else of
	// it is used: redirects are not followed, and the time limits are the Client's own.
	HTTP *http.Client
}

// Refusal is an answer of the authority that is not what was asked for. To say the same again helps where Status is 5xx
// or 429.
type Refusal struct {
	Status int    // of HTTP
	Code   string // of the problem, empty if the answer has none
}

// Error says what the authority answered.
func (r *Refusal) Error() string {
	return strings.TrimSpace(fmt.Sprintf("feed: the authority answered %d %s", r.Status, r.Code))
}

// Observe tells the authority what was observed, in several parts if need be, and returns the position in the feed where
// the consequences can be seen: see Follower.WaitFor. After an error any part may have arrived; saying the same again is
// safe. An authority that refuses gives a *Refusal.
func (c Client) Observe(ctx context.Context, o Observations) (epoch, sequence uint64, err error) {
	if err := c.validate(); err != nil {
		return 0, 0, err
	}
	for part := range o.parts() {
		body, err := part.Marshal()
		if err != nil {
			return 0, 0, err
		}
		a, err := c.post(ctx, body)
		if err != nil {
			return 0, 0, err
		}
		if a.Epoch > epoch || a.Epoch == epoch && a.Sequence > sequence {
			epoch, sequence = a.Epoch, a.Sequence
		}
	}
	return epoch, sequence, nil
}

// post sends observations to the first authority that takes them.
func (c Client) post(ctx context.Context, body []byte) (a ObservationsAnswer, err error) {
	for _, root := range c.URLs {
		var answer []byte
		var e error
		answer, e = c.call(ctx, http.MethodPost, root+PathObservations, body, maxSilence)
		if e == nil {
			a, e = parseAnswer(answer)
		}
		if e == nil {
			return a, nil
		}
		err = errors.Join(err, e)
	}
	return ObservationsAnswer{}, err
}

// page asks one authority for what comes after a position.
func (c Client) page(ctx context.Context, root string, epoch, after uint64, patience time.Duration) ([]byte, error) {
	return c.call(ctx, http.MethodGet, fmt.Sprintf("%s%s?epoch=%d&after=%d", root, PathFeed, epoch, after), nil, patience)
}

// call sends a request and returns the body of the answer, which is of the media type that belongs to the method. It
// gives up when nothing comes for as long as its patience.
func (c Client) call(ctx context.Context, method, to string, body []byte, patience time.Duration) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(patience, func() { cancel(errSilence) })
	defer watch.Stop()
	req, err := http.NewRequestWithContext(ctx, method, to, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	want, limit := ContentType, maxPageBytes
	if method == http.MethodPost {
		req.Header.Set("Content-Type", mediaJSON)
		want, limit = mediaJSON, maxAnswerBytes
	}
	own := http.Client{Transport: c.HTTP.Transport}
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := own.Do(req)
	if err != nil {
		return nil, failure(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(resp)
	}
	if media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || media != want {
		return nil, broken("answer is not %s", want)
	}
	b, err := read(&watched{resp.Body, watch, patience}, resp.ContentLength, limit)
	if err != nil {
		return nil, failure(ctx, err)
	}
	return b, nil
}

// refusal reads an answer that is a problem.
func refusal(resp *http.Response) error {
	r := &Refusal{Status: resp.StatusCode}
	var problem struct{ Code string }
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err == nil && json.Unmarshal(body, &problem) == nil && len(problem.Code) <= maxReason {
		r.Code = problem.Code
	}
	return r
}

// failure says why a call failed: that nothing came, if that is why.
func failure(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("feed: %w", err)
}

// watched puts a time limit off with each part that comes.
type watched struct {
	io.Reader
	limit    *time.Timer
	patience time.Duration
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Reader.Read(b)
	if n > 0 {
		w.limit.Reset(w.patience)
	}
	return n, err
}

// read reads to the end, at most limit bytes. expected is the length that was announced, -1 if none was.
func read(r io.Reader, expected int64, limit int) ([]byte, error) {
	if expected > int64(limit) {
		return nil, broken("answer of %d bytes, want at most %d", expected, limit)
	}
	var b bytes.Buffer
	if expected > 0 {
		b.Grow(int(expected) + bytes.MinRead) // a snapshot would be copied many times otherwise
	}
	if _, err := b.ReadFrom(io.LimitReader(r, int64(limit)+1)); err != nil {
		return nil, err
	}
	if b.Len() > limit {
		return nil, broken("answer of more than %d bytes", limit)
	}
	return b.Bytes(), nil
}

// validate refuses what would not be mutual TLS with an authority.
func (c Client) validate() error {
	if c.HTTP == nil || c.HTTP.Transport == nil || len(c.URLs) == 0 {
		return errors.New("feed: the authority's URL and a client with a transport of its own are needed")
	}
	for _, raw := range c.URLs {
		u, err := url.Parse(raw)
		bare := err == nil && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "" && !strings.HasSuffix(raw, "/")
		if !bare || u.Scheme != "https" {
			return errors.New("feed: the URL of an authority is https://HOST:PORT, without a slash at its end")
		}
	}
	return nil
}
