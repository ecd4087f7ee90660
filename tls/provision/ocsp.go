package provision

import (
	"context"
	"crypto/x509"
	"math/big"
	"net/http"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/internal/serve"
	"github.com/latchkey-pos/latchkey/tls/ca/status"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// StatusSigner is an issuer that signs what is known of one of its certificates. It is safe for concurrent use.
type StatusSigner interface {
	SignStatus(ctx context.Context, a status.Answer) ([]byte, error)
}

const (
	// statusLifetime is how long an answer is good, and may be kept by who asked.
	statusLifetime = time.Hour
	statusSigners  = 8 // at once
	statusTimeout  = 5 * time.Second
)

// statusRate is how many answers are signed for whoever asks. Everybody may, and each answer costs the key of the authority a
// signature; who comes beyond it is told to try later, which needs none.
var statusRate = Rate{Every: 5 * time.Millisecond, Burst: 400}

// CertificateStatus answers a question of OCSP (DER) about a certificate of the terminals authority: revoked or good as the
// registry has it, unknown for what it has never given anybody. The answer is never nil: where there is nothing to be signed it says
// why.
func (e *Engine) CertificateStatus(ctx context.Context, request []byte) []byte {
	r, err := status.ParseRequest(request)
	if err != nil {
		return status.Malformed
	}
	return e.answerStatus(ctx, r)
}

func (e *Engine) answerStatus(ctx context.Context, r status.Request) []byte {
	if e.config.Status == nil || r.About(e.config.Issuer.Chain()[0]) != nil {
		return status.Unauthorized
	}
	if e.statuses.take("", e.now()) > 0 {
		return status.TryLater
	}
	select {
	case e.signers <- struct{}{}:
		defer func() { <-e.signers }()
	default:
		return status.TryLater
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	a, err := e.statusOf(ctx, r.Serial())
	if err == nil {
		a.Request = r
		var der []byte
		if der, err = e.config.Status.SignStatus(ctx, a); err == nil {
			return der
		}
	}
	e.log(ctx, "the status of a certificate is not answered", err)
	return status.TryLater
}

// statusOf looks a certificate up.
func (e *Engine) statusOf(ctx context.Context, serial *big.Int) (a status.Answer, err error) {
	now := e.now()
	a = status.Answer{State: status.Unknown, From: now, Until: now.Add(statusLifetime)}
	err = e.view(ctx, func(tx Tx) error {
		c, ok, err := tx.Certificate(identity.Terminal, identity.Serial(&x509.Certificate{SerialNumber: serial}))
		switch {
		case err != nil || !ok:
		case c.Revoked.IsZero():
			a.State = status.Good
		default:
			a.State, a.Revoked, a.Reason = status.Revoked, c.Revoked, c.Reason
		}
		return err
	})
	return a, err
}

// serveStatus answers POST requests of RFC 6960, appendix A. What went wrong is in the answer, which HTTP calls a good one.
func (e *Engine) serveStatus(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r, status.TypeRequest)
	if err != nil {
		return err
	}
	serve.Write(w, http.StatusOK, status.TypeResponse, e.CertificateStatus(r.Context(), body))
	return nil
}

// statusByGET takes the GET requests of RFC 6960, appendix A.1, out before a mux sees them: base64 has slashes, also two in a row, and
// a mux would send who asked to a path without.
func (e *Engine) statusByGET(next http.Handler) http.Handler {
	const prefix = PathStatus + "/"
	get := problems(func(w http.ResponseWriter, r *http.Request) error {
		answer := status.Malformed
		if q, err := status.ParsePath(strings.TrimPrefix(r.URL.EscapedPath(), prefix)); err == nil {
			answer = e.answerStatus(r.Context(), q)
		}
		serve.Write(w, http.StatusOK, status.TypeResponse, answer)
		return nil
	})
	other := serve.MethodNotAllowed(http.MethodGet)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.EscapedPath(), prefix) {
			next.ServeHTTP(w, r)
			return
		}
		r.Pattern = prefix // what is counted and logged, in place of a question
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			other.ServeHTTP(w, r)
			return
		}
		r.Pattern = http.MethodGet + " " + prefix
		get.ServeHTTP(w, r)
	})
}
