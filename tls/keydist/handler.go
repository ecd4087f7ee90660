package keydist

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/internal/serve"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// The endpoints of a host, each for POST. Bodies of orders and answers are ContentType; errors are JSON, as of package
// internal/serve.
const (
	PathAgreement  = "/agreement"  // a remote.CertifyOrder -> certificates, leaf first: {v: 1, certificates: [DER]}
	PathDelivery   = "/delivery"   // a remote.Order -> a remote.Delivery
	PathSettlement = "/settlement" // a remote.Settlement -> 204, no body
	PathWithdrawal = "/withdrawal" // a remote.Withdrawal -> 204, no body
	PathAdoption   = "/adoption"   // a remote.Adoption -> 204, no body

	ContentType = "application/cbor"
)

// retryAfter is what callers are told when the host cannot work now.
const retryAfter = time.Second

// Handler returns the endpoints of a host. Who calls is taken from the verified certificate of the connection and from
// nothing else, so it belongs behind a tlsconf.Server.
func Handler(h *Host) http.Handler {
	mux := http.NewServeMux()
	for path, answer := range map[string]endpoint{
		PathAgreement:  {h, actionCertify, h.agreement},
		PathDelivery:   {h, actionDeliver, h.delivery},
		PathSettlement: {h, actionSettle, h.settlement},
		PathWithdrawal: {h, actionWithdraw, h.withdrawal},
		PathAdoption:   {h, actionAdopt, h.adoption},
	} {
		mux.Handle("POST "+path, serve.Handler(answer.serve))
		mux.Handle(path, serve.MethodNotAllowed(http.MethodPost))
	}
	mux.Handle("/", serve.Handler(serve.NotFound))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.ContainsAny(r.URL.EscapedPath(), "%\\") || strings.Contains(r.URL.Path, "//") || strings.Contains(r.URL.Path, "/.") {
			serve.Handler(serve.NotFound).ServeHTTP(w, r) // the router would clean the path
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// endpoint is one of them.
type endpoint struct {
	host   *Host
	action string
	answer func(ctx context.Context, caller Caller, body []byte) ([]byte, error)
}

func (e endpoint) serve(w http.ResponseWriter, r *http.Request) error {
	caller, err := peer(r)
	if err != nil {
		return problem(e.host.order(caller, e.action).end(r.Context(), "", err))
	}
	body, err := serve.ReadBody(w, r, ContentType, serve.MaxBody)
	if err != nil {
		return err
	}
	answer, err := e.answer(r.Context(), caller, body)
	if err != nil {
		return problem(err)
	}
	if answer == nil {
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	serve.Write(w, http.StatusOK, ContentType, answer)
	return nil
}

// peer says who calls.
func peer(r *http.Request) (_ Caller, err error) {
	caller := Caller{Source: serve.Source(r)}
	if r.TLS == nil {
		return caller, refuse(CodeRoleNotPermitted, "the connection is not TLS")
	}
	if caller.Identity, _, err = tlsconf.Peer(*r.TLS); err != nil {
		return caller, refuse(CodeRoleNotPermitted, "no certificate of ours")
	}
	return caller, nil
}

func (h *Host) agreement(ctx context.Context, caller Caller, body []byte) ([]byte, error) {
	o, err := remote.ParseCertifyOrder(body)
	if err != nil {
		return nil, h.malformed(ctx, caller, actionCertify, err)
	}
	serve.Note(ctx, slog.String("terminal", string(o.Terminal)))
	chain, err := h.Certify(ctx, caller, *o)
	if err != nil {
		return nil, err
	}
	return encodeCertificates(chain)
}

func (h *Host) delivery(ctx context.Context, caller Caller, body []byte) ([]byte, error) {
	o, err := remote.ParseOrder(body)
	if err != nil {
		return nil, h.malformed(ctx, caller, actionDeliver, err)
	}
	serve.Note(ctx, slog.String("terminal", string(o.Terminal)), slog.Int("slot", int(o.Slot)), slog.String("key-set", string(o.KeySet)))
	d, err := h.Deliver(ctx, caller, *o)
	if err != nil {
		return nil, err
	}
	serve.Note(ctx, slog.String("key-id", d.KeyID.String()))
	return d.Marshal()
}

func (h *Host) settlement(ctx context.Context, caller Caller, body []byte) ([]byte, error) {
	o, err := remote.ParseSettlement(body)
	if err != nil {
		return nil, h.malformed(ctx, caller, actionSettle, err)
	}
	serve.Note(ctx, slog.String("terminal", string(o.Terminal)), slog.String("key-id", o.KeyID.String()), slog.String("state", o.State.String()))
	return nil, h.Settle(ctx, caller, *o)
}

func (h *Host) withdrawal(ctx context.Context, caller Caller, body []byte) ([]byte, error) {
	o, err := remote.ParseWithdrawal(body)
	if err != nil {
		return nil, h.malformed(ctx, caller, actionWithdraw, err)
	}
	serve.Note(ctx, slog.String("key-set", string(o.KeySet)), slog.String("through", o.Through.String()))
	return nil, h.Withdraw(ctx, caller, *o)
}

func (h *Host) adoption(ctx context.Context, caller Caller, body []byte) ([]byte, error) {
	o, err := remote.ParseAdoption(body)
	if err != nil {
		return nil, h.malformed(ctx, caller, actionAdopt, err)
	}
	serve.Note(ctx, slog.String("key-set", string(o.KeySet)), slog.Int("keys", len(o.Keys)))
	return nil, h.Adopt(ctx, caller, *o)
}

// malformed records an order that is none, if it came from somebody who may give one.
func (h *Host) malformed(ctx context.Context, caller Caller, action string, err error) error {
	o := h.order(caller, action)
	if refused := o.admit(); refused != nil {
		return o.end(ctx, "", refused)
	}
	return o.end(ctx, "", refuse(CodeOrderMalformed, err.Error()))
}

// problem gives a refusal its HTTP status and its hint.
func problem(err error) error {
	r, ok := errors.AsType[*Refusal](err)
	if !ok {
		return err
	}
	info, ok := r.Code.Info()
	if !ok {
		return err // the client learns of an internal error
	}
	p := &serve.Problem{Status: info.HTTPStatus, Code: string(info.Code), Message: info.Meaning, Hint: info.Hint}
	if r.Detail != "" {
		p.Message += ": " + r.Detail
	}
	if r.Unavailable() {
		p.RetryAfter = cmp.Or(r.RetryAfter(), retryAfter)
	}
	return p
}
