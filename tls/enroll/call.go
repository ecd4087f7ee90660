package enroll

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/est"
)

// ErrClock is wrapped when the certificate of the authority is not good by the clock of the terminal.
var ErrClock = errors.New("enroll: the certificate of the authority is not good by this clock")

// Paths beside those of EST.
const (
	pathTrustList  = "/trust-list"
	pathAssignment = "/enrolment"
	pathKeys       = "/keys"
)

const typeCBOR = "application/cbor"

// maxAnswer is the most that an answer may hold, in bytes.
const maxAnswer = 64 << 10

// answer is what came back without being refused.
type answer struct {
	status int // 200, or 204 without a body
	body   []byte
	tls    *tls.ConnectionState // of the connection that it came over; nil over plain HTTP
}

func (c *Client) get(ctx context.Context, path string) (answer, error) {
	req, err := newRequest(ctx, http.MethodGet, c.root+path, "", nil)
	if err != nil {
		return answer{}, err
	}
	return do(c.http, req, c.now)
}

func (c *Client) post(ctx context.Context, path, contentType string, body []byte) (answer, error) {
	req, err := newRequest(ctx, http.MethodPost, c.root+path, contentType, body)
	if err != nil {
		return answer{}, err
	}
	return do(c.http, req, c.now)
}

// postWithCode is post with the one-time code (RFC 7617). The header must be a string, which cannot be wiped: it is dropped
// as soon as the answer is there, and so is the connection, whose buffers it went through.
func (c *Client) postWithCode(ctx context.Context, path, contentType string, body []byte, code secret.Bytes) (answer, error) {
	req, err := newRequest(ctx, http.MethodPost, c.root+path, contentType, body)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", basic(c.id.Name, code))
	req.Close = true
	defer req.Header.Del("Authorization")
	return do(c.http, req, c.now)
}

func basic(user string, password secret.Bytes) string {
	const scheme = "Basic "
	clear := make([]byte, 0, len(user)+1+password.Len())
	clear = append(append(append(clear, user...), ':'), password.Expose()...)
	defer secret.Wipe(clear)
	text := base64.StdEncoding.AppendEncode([]byte(scheme), clear)
	defer secret.Wipe(text)
	return string(text)
}

func newRequest(ctx context.Context, method, url, contentType string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("enroll: %w", err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if contentType == est.TypeRequest {
		req.Header.Set("Content-Transfer-Encoding", est.TransferEncoding)
	}
	return req, nil
}

// do sends a request and reads the answer. One with another status than 200 or 204 is a *Refusal.
func do(client *http.Client, req *http.Request, now func() time.Time) (answer, error) {
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, unreached(err, now())
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return answer{}, fmt.Errorf("enroll: read the answer: %w", err)
	}
	if len(body) > maxAnswer {
		return answer{}, unacceptable("it has more than %d bytes", maxAnswer)
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNoContent {
		return answer{}, refusalOf(resp, body, now())
	}
	return answer{status: resp.StatusCode, body: body, tls: resp.TLS}, nil
}

// unreached is what became of a call without an answer. Where the certificate of the authority is not good at this time it says both
// times, because the wrong one is more often that of the terminal.
func unreached(err error, now time.Time) error {
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	if !ok || invalid.Reason != x509.Expired || invalid.Cert == nil {
		return fmt.Errorf("enroll: %w", err)
	}
	end := "begins " + invalid.Cert.NotBefore.UTC().Format(time.RFC3339)
	if !now.Before(invalid.Cert.NotBefore) {
		end = "ended " + invalid.Cert.NotAfter.UTC().Format(time.RFC3339)
	}
	return fmt.Errorf("%w: it is %s here, and a certificate of the authority %s: set the clock; if it is right, the authority needs a new certificate: %w",
		ErrClock, now.UTC().Format(time.RFC3339), end, err)
}

func unacceptable(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrAnswer, fmt.Sprintf(format, args...))
}
