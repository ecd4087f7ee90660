package provision

import (
	"context"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"

	"github.com/latchkey-pos/latchkey/internal/serve"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// Paths beside those of EST.
const (
	PathTrustList = "/trust-list"
	PathEnrolment = "/enrolment"
	PathKeys      = "/keys"
	PathCRL       = "/crl/terminals"
	PathStatus    = "/ocsp/terminals"
)

const (
	maxBody  = 16 << 10 // bytes of a request of a terminal
	typeCBOR = "application/cbor"
	typeCRL  = "application/pkix-crl"
	realm    = `Basic realm="latchkey enrolment", charset="UTF-8"`
)

// endpoint is one method on one path.
type endpoint struct {
	method, path string
	answer       serve.Handler
}

// TerminalHandler serves terminals, enrolled and not: EST (RFC 7030), the trust list, their assignment and their keys. It
// is for a listener whose configuration comes from tlsconf.Server with Visitors, and which Guard of tlsconf.Connections
// wraps. Visitors get no further than their first certificate.
func TerminalHandler(e *Engine) http.Handler {
	return routes([]endpoint{
		{http.MethodGet, est.PathCACerts, e.serveCACerts},
		{http.MethodGet, est.PathAttributes, e.serveAttributes},
		{http.MethodPost, est.PathEnroll, e.serveEnroll},
		{http.MethodPost, est.PathReenroll, e.member(e.serveReenroll)},
		{http.MethodGet, est.PathAgreementCACerts, e.member(e.serveAgreementCACerts)},
		{http.MethodPost, est.PathAgreementEnroll, e.member(e.serveAgreementEnroll)},
		{http.MethodGet, PathTrustList, e.serveTrustList},
		{http.MethodGet, PathEnrolment, e.member(e.serveEnrolment)},
		{http.MethodPost, PathKeys, e.member(e.serveKeys)},
	})
}

// LegacyHandler serves the certificates of terminals by EST, first ones and renewals, and nothing else: no keys, no agreement keys
// and no assignment. It is for a listener of tlsconf.LegacyServer with Visitors, wrapped as that of TerminalHandler; counts and
// limits are those of the engine, whichever way a terminal comes. Base64 is in one line: strongSwan reads no other.
func LegacyHandler(e *Engine) http.Handler {
	next := routes([]endpoint{
		{http.MethodGet, est.PathCACerts, e.serveCACerts},
		{http.MethodGet, est.PathAttributes, e.serveAttributes},
		{http.MethodPost, est.PathEnroll, e.serveEnroll},
		{http.MethodPost, est.PathReenroll, e.member(e.serveReenroll)},
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), unwrapped{}, true)))
	})
}

// unwrapped is the key of contexts whose answers are in one line.
type unwrapped struct{}

// PublicationHandler serves what proves itself, to everyone and without TLS: the trust list, the revocation list, and, where an
// issuer signs them, answers about single certificates.
func PublicationHandler(e *Engine) http.Handler {
	all := []endpoint{
		{http.MethodGet, PathTrustList, e.serveTrustList},
		{http.MethodGet, PathCRL, e.serveCRL},
	}
	if e.config.Status == nil {
		return routes(all)
	}
	return e.statusByGET(routes(append(all, endpoint{http.MethodPost, PathStatus, e.serveStatus})))
}

func routes(endpoints []endpoint) http.Handler {
	mux := http.NewServeMux()
	for _, p := range endpoints {
		mux.Handle(p.method+" "+p.path, problems(p.answer))
		mux.Handle(p.path, serve.MethodNotAllowed(p.method))
	}
	mux.Handle("/", serve.Handler(serve.NotFound))
	return mux
}

// problems makes refusals the problems that a client sees.
func problems(h serve.Handler) serve.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		err := h(w, r)
		if refusal, ok := errors.AsType[*Refusal](err); ok && refusal.Status() == http.StatusUnauthorized {
			w.Header().Set("WWW-Authenticate", realm)
		}
		return Problem(r.Context(), err)
	}
}

// Problem makes a refusal the problem that a client sees, and notes its cause for the log. Any other error stays what it
// is: a fault of ours.
func Problem(ctx context.Context, err error) error {
	refusal, ok := errors.AsType[*Refusal](err)
	if !ok {
		return err
	}
	if refusal.Cause != nil {
		serve.Note(ctx, slog.String("cause", refusal.Cause.Error()))
	}
	return refusal.Problem()
}

// Problem returns the refusal as a client sees it.
func (r *Refusal) Problem() *serve.Problem {
	info, ok := r.Code.Info()
	if !ok {
		info, _ = CodeInternal.Info()
	}
	p := &serve.Problem{
		Status: info.HTTPStatus, Code: string(info.Code), Message: info.Meaning, Hint: info.Hint, RetryAfter: r.RetryAfter,
	}
	if r.Detail != "" {
		p.Message += ": " + r.Detail
	}
	return p
}

// Status returns the HTTP status of the answer that carries the refusal.
func (r *Refusal) Status() int { return r.Problem().Status }

// member is a handler for terminals that have connected with a certificate.
type member func(w http.ResponseWriter, r *http.Request, c Caller) error

// member refuses visitors. Whether the certificate is current is asked where it matters, in the transaction.
func (e *Engine) member(h member) serve.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		leaf, err := peer(r.TLS)
		if err != nil {
			return err
		}
		return h(w, r, Caller{Leaf: leaf, Source: r.RemoteAddr})
	}
}

// peer returns the certificate of a terminal at the other end.
func peer(cs *tls.ConnectionState) (*x509.Certificate, error) {
	if cs == nil {
		return nil, refuse(CodeCertificateRequired, "")
	}
	id, _, err := tlsconf.Peer(*cs)
	if err != nil || id.Role != identity.Terminal {
		return nil, refuse(CodeCertificateRequired, "")
	}
	return cs.PeerCertificates[0], nil
}

func (e *Engine) serveCACerts(w http.ResponseWriter, r *http.Request) error {
	return writeCerts(w, r, e.config.Issuer.Chain())
}

func (e *Engine) serveAgreementCACerts(w http.ResponseWriter, r *http.Request, _ Caller) error {
	return writeCerts(w, r, e.config.KeyDist)
}

func (e *Engine) serveAttributes(w http.ResponseWriter, r *http.Request) error {
	der, err := est.Attributes(elliptic.P256())
	if err != nil {
		return err
	}
	writeEST(w, r, est.TypeAttributes, est.EncodeRequest(der))
	return nil
}

func (e *Engine) serveEnroll(w http.ResponseWriter, r *http.Request) error {
	terminal, code, ok := est.ParseBasic(r)
	defer code.Wipe()
	if !ok {
		return refuse(CodeCredentialsRequired, "")
	}
	csr, err := readCSR(w, r)
	if err != nil {
		return err
	}
	chain, err := e.Enroll(r.Context(), r.RemoteAddr, terminal, code, csr)
	if err != nil {
		return err
	}
	return writeCerts(w, r, chain)
}

func (e *Engine) serveReenroll(w http.ResponseWriter, r *http.Request, c Caller) error {
	csr, err := readCSR(w, r)
	if err != nil {
		return err
	}
	chain, err := e.Reenroll(r.Context(), c, csr)
	if err != nil {
		return err
	}
	return writeCerts(w, r, chain)
}

func (e *Engine) serveAgreementEnroll(w http.ResponseWriter, r *http.Request, c Caller) error {
	csr, err := readCSR(w, r)
	if err != nil {
		return err
	}
	chain, err := e.EnrollAgreement(r.Context(), c, csr)
	if err != nil {
		return err
	}
	return writeCerts(w, r, chain)
}

func (e *Engine) serveTrustList(w http.ResponseWriter, _ *http.Request) error {
	doc, _, err := e.config.TrustList()
	if err != nil || len(doc) == 0 {
		return &Refusal{Code: CodeTrustListUnavailable, Cause: err}
	}
	serve.Write(w, http.StatusOK, typeCBOR, doc)
	return nil
}

func (e *Engine) serveCRL(w http.ResponseWriter, r *http.Request) error {
	der, err := e.CRL(r.Context())
	if err != nil {
		return err
	}
	serve.Write(w, http.StatusOK, typeCRL, der)
	return nil
}

func (e *Engine) serveEnrolment(w http.ResponseWriter, r *http.Request, c Caller) error {
	a, err := e.Assignment(r.Context(), c)
	if err != nil {
		return err
	}
	body, err := a.Marshal()
	if err != nil {
		return err
	}
	serve.Write(w, http.StatusOK, typeCBOR, body)
	return nil
}

func (e *Engine) serveKeys(w http.ResponseWriter, r *http.Request, c Caller) error {
	body, err := readBody(w, r, typeCBOR)
	if err != nil {
		return err
	}
	req, err := remote.ParseRequest(body)
	if err != nil {
		return refuse(CodeRequestMalformed, "%v", err)
	}
	exporter, err := remote.Exporter(r.TLS)
	if err != nil {
		return &Refusal{Code: CodeChannelUnbound, Cause: err}
	}
	d, err := e.Deliver(r.Context(), c, exporter, req)
	if err != nil {
		return err
	}
	body, err = d.Marshal()
	if err != nil {
		return err
	}
	serve.Write(w, http.StatusOK, typeCBOR, body)
	return nil
}

// readCSR reads the signing request of an EST body.
func readCSR(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := readBody(w, r, est.TypeRequest)
	if err != nil {
		return nil, err
	}
	der, err := est.DecodeRequest(body)
	if err != nil {
		return nil, csrRefusal(err)
	}
	return der, nil
}

// readBody reads a body of a media type, at most maxBody bytes of it.
func readBody(w http.ResponseWriter, r *http.Request, want string) ([]byte, error) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != want {
		return nil, refuse(CodeMediaTypeNotSupported, "want %s", want)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, refuse(CodeBodyTooLarge, "want at most %d bytes", maxBody)
	}
	if err != nil {
		return nil, refuse(CodeBodyUnreadable, "")
	}
	return body, nil
}

// writeCerts answers with certificates as EST wants them.
func writeCerts(w http.ResponseWriter, r *http.Request, certs []*x509.Certificate) error {
	body, err := est.EncodeCerts(certs)
	if err != nil {
		return err
	}
	writeEST(w, r, est.TypeCerts, body)
	return nil
}

// writeEST answers in the encoding of EST: in lines, or without them to clients of LegacyHandler.
func writeEST(w http.ResponseWriter, r *http.Request, media string, body []byte) {
	if r.Context().Value(unwrapped{}) != nil {
		body = est.Unwrap(body)
	}
	w.Header().Set("Content-Transfer-Encoding", est.TransferEncoding)
	serve.Write(w, http.StatusOK, media, body)
}
