package decrypt

import (
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/decrypt/aws"
	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/internal/serve"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/pin"
)

// retryAfter is what clients are told when the service cannot work now.
const retryAfter = time.Second

// handlers are the endpoints for acquirer hosts.
type handlers struct {
	service     *decrypt.Service
	permissions *permissions
	metrics     *metrics
	body        int // bytes that a request may have
}

// admit counts a request of a caller, or of a batch its messages, which may be asked so often.
func (h *handlers) admit(r *http.Request, caller decrypt.Caller, action string, n int) error {
	if err := h.service.Admit(r.Context(), caller, action, n); err != nil {
		return h.refused(err)
	}
	return nil
}

// enter waits for a place to work; what it returns gives that back. Nothing has been claimed when there is none.
func (h *handlers) enter(r *http.Request) (leave func(), err error) {
	if err := h.service.Enter(r.Context()); err != nil {
		return nil, h.refused(err)
	}
	return h.service.Leave, nil
}

// endpoint is one method of one path.
type endpoint struct {
	method, path string
	handler      http.Handler
}

// endpoints are all there are: those of latchkey and those in the words of AWS.
func (h *handlers) endpoints() []endpoint {
	out := []endpoint{
		{http.MethodPost, api.PathTransactions, serve.Handler(h.transaction)},
		{http.MethodPost, api.PathAnswer, serve.Handler(h.answer)},
		{http.MethodPost, api.PathBatch, serve.Handler(h.batch)},
		{http.MethodGet, api.PathTerminals + "{id}" + api.PathCounters, serve.Handler(h.counters)},
	}
	for _, r := range aws.Routes(aws.Options{Service: h.service, Caller: h.permissions.caller, Count: h.metrics.call, MaxBody: h.body}) {
		out = append(out, endpoint{http.MethodPost, r.Path, r.Handler})
	}
	return out
}

// routes puts the endpoints on a router. Every path that is no endpoint, and every other method, has its own clear error.
func (h *handlers) routes() http.Handler {
	mux := http.NewServeMux()
	for _, e := range h.endpoints() {
		mux.Handle(e.method+" "+e.path, e.handler)
		mux.Handle(e.path, serve.MethodNotAllowed(e.method))
	}
	mux.Handle("/", serve.Handler(serve.NotFound))
	return plainPaths(mux)
}

// plainPaths refuses paths that mean something else after cleaning or after a second decoding, before the router, which
// would clean them, sees them.
func plainPaths(next http.Handler) http.Handler {
	return serve.Handler(func(w http.ResponseWriter, r *http.Request) error {
		once, err := url.PathUnescape(r.URL.EscapedPath())
		if err != nil || strings.ContainsAny(once, "\x00%\\") || path.Clean(once) != once {
			return problem(refusal(decrypt.CodeKeyIdentifierInvalid, "the path holds an identifier that is none"))
		}
		next.ServeHTTP(w, r)
		return nil
	})
}

func (h *handlers) transaction(w http.ResponseWriter, r *http.Request) error {
	caller, err := h.permissions.caller(r)
	if err != nil {
		return h.early(r, caller, "transaction", err)
	}
	if err := h.admit(r, caller, "transaction", 1); err != nil {
		return err
	}
	body, err := serve.ReadBody(w, r, serve.TypeJSON, h.body)
	if err != nil {
		return err
	}
	parsed, err := api.ParseTransactionRequest(body)
	if err != nil {
		return h.early(r, caller, "transaction", bodyRefusal(err))
	}
	req, err := transactionRequest(parsed)
	if err != nil {
		return h.early(r, caller, "transaction", err)
	}
	leave, err := h.enter(r)
	if err != nil {
		return err
	}
	defer leave()
	res, err := h.service.Transaction(r.Context(), caller, req)
	if err != nil {
		return h.refused(err)
	}
	defer res.Wipe()
	h.metrics.transaction(res)
	serve.Note(r.Context(), slog.String("terminal", string(res.Payload.Terminal)), slog.String("ksn", res.Payload.MAC.KSN.String()),
		slog.String("type", res.Payload.Type.String()), slog.String("counter", res.Status.String()), slog.String("decided", string(res.Code)))
	return write(w, transactionResponse(res))
}

// transactionRequest is a request in the words of package decrypt.
func transactionRequest(parsed api.TransactionRequest) (req decrypt.TransactionRequest, err error) {
	req.Message = parsed.Message
	if parsed.OutgoingPINKey != "" {
		if req.OutgoingPINKey, err = keyset.ParseKeyRef(parsed.OutgoingPINKey); err != nil {
			return req, refusal(decrypt.CodeKeyIdentifierInvalid, "member OutgoingPINKey")
		}
	}
	if parsed.OutgoingPINFormat != "" {
		if req.OutgoingPINFormat, err = pin.ParseFormat(parsed.OutgoingPINFormat); err != nil {
			return req, refusal(decrypt.CodeTranslationNotPermitted, "member OutgoingPINFormat")
		}
	}
	return req, nil
}

func (h *handlers) answer(w http.ResponseWriter, r *http.Request) error {
	caller, err := h.permissions.caller(r)
	if err != nil {
		return h.early(r, caller, "answer", err)
	}
	if err := h.admit(r, caller, "answer", 1); err != nil {
		return err
	}
	body, err := serve.ReadBody(w, r, serve.TypeJSON, h.body)
	if err != nil {
		return err
	}
	parsed, err := api.ParseAnswerRequest(body)
	if err != nil {
		return h.early(r, caller, "answer", bodyRefusal(err))
	}
	digest, err := message.ParseDigest(parsed.RequestDigest)
	if err != nil {
		return h.early(r, caller, "answer", refusal(decrypt.CodeRequestMalformed, "member RequestDigest"))
	}
	result, err := message.ParseResult(string(parsed.Result))
	if err != nil {
		return h.early(r, caller, "answer", refusal(decrypt.CodeRequestMalformed, "member Result"))
	}
	leave, err := h.enter(r)
	if err != nil {
		return err
	}
	defer leave()
	res, err := h.service.Answer(r.Context(), caller, decrypt.AnswerRequest{Digest: digest, Result: result, Body: parsed.Body})
	if err != nil {
		return h.refused(err)
	}
	recorded := api.First
	if res.Again {
		recorded = api.Again
	}
	h.metrics.answers.WithLabelValues(string(recorded)).Inc()
	return write(w, api.AnswerResponse{Ack: res.Ack, Recorded: recorded, Labels: labels(res.Labels)})
}

func (h *handlers) counters(w http.ResponseWriter, r *http.Request) error {
	caller, err := h.permissions.caller(r)
	if err != nil {
		return h.early(r, caller, "counters", err)
	}
	if err := h.admit(r, caller, "counters", 1); err != nil {
		return err
	}
	id, err := keyset.ParseTerminal(r.PathValue("id"))
	if err != nil {
		return h.early(r, caller, "counters", refusal(decrypt.CodeKeyIdentifierInvalid, "terminal id"))
	}
	leave, err := h.enter(r)
	if err != nil {
		return err
	}
	defer leave()
	res, err := h.service.Counters(r.Context(), caller, id)
	if err != nil {
		return h.refused(err)
	}
	out := api.CountersResponse{Tenant: string(res.Tenant), Terminal: string(res.Terminal), Status: res.Status.String()}
	for _, s := range res.Slots {
		out.Slots = append(out.Slots, api.SlotCounters{
			Slot: s.Slot, KeySet: string(s.KeySet), KeyID: s.KeyID.String(),
			High: s.High, Seen: s.Seen, Floor: s.Floor, Remaining: s.Remaining, Conflicts: s.Conflicts, Labels: labels(s.Labels),
		})
	}
	return write(w, out)
}

// write answers with the JSON of v and wipes it.
func write(w http.ResponseWriter, v any) error {
	body, err := api.Format(v)
	if err != nil {
		return err
	}
	defer secret.Wipe(body)
	serve.WriteJSON(w, http.StatusOK, body)
	return nil
}

func refusal(code decrypt.Code, detail string) *decrypt.Refusal {
	return &decrypt.Refusal{Code: code, Detail: detail}
}

// bodyRefusal tells a body that is too long from one that is not the expected object.
func bodyRefusal(err error) error {
	if errors.Is(err, api.ErrTooLarge) {
		return refusal(decrypt.CodeBodyTooLarge, err.Error())
	}
	return refusal(decrypt.CodeRequestMalformed, err.Error())
}

// early records a refusal that ends a request before the service has seen it, and counts it.
func (h *handlers) early(r *http.Request, caller decrypt.Caller, action string, err error) error {
	return h.refused(h.service.Refuse(r.Context(), caller, action, err))
}

// refused counts a refusal and gives it the form of an answer.
func (h *handlers) refused(err error) error {
	r, ok := errors.AsType[*decrypt.Refusal](err)
	if !ok {
		return err
	}
	h.metrics.refusal(r.Code)
	return problem(r)
}

// problem is the one place where a refusal gets its HTTP status and its hint.
func problem(r *decrypt.Refusal) *serve.Problem {
	info, ok := r.Code.Info()
	if !ok {
		return &serve.Problem{Status: http.StatusInternalServerError, Code: serve.CodeInternal, Message: "the service failed"}
	}
	p := &serve.Problem{Status: info.HTTPStatus, Code: string(info.Code), Message: info.Meaning, Hint: info.Hint}
	if r.Detail != "" {
		p.Message += ": " + r.Detail
	}
	if r.Unavailable() && info.HTTPStatus != http.StatusInternalServerError {
		p.RetryAfter = retryAfter
	}
	if r.RetryAfter > 0 {
		p.RetryAfter = r.RetryAfter
	}
	return p
}

// transactionResponse is a result in the words of the wire.
func transactionResponse(res *decrypt.TransactionResult) *api.TransactionResponse {
	p := res.Payload
	out := &api.TransactionResponse{
		RequestDigest: res.Digest.String(), Type: p.Type.String(), Tenant: string(p.Tenant), Terminal: string(p.Terminal),
		BootCounter: p.BootCounter, Sequence: p.Sequence, Time: p.Time, Offline: p.Offline, Queued: p.Queued, Body: p.Body,
		CounterStatus: counterStatus(res.Status), CounterAuthenticated: res.Authenticated, Labels: labels(res.Labels),
		Held: res.Decided == message.Held, Reversed: res.Decided == message.Reversed, Code: string(res.Code), Ack: res.Ack,
	}
	if res.Original != res.Digest {
		out.OriginalDigest = res.Original.String()
	}
	if a := p.Amount; a != nil {
		out.Amount = &api.Amount{Minor: a.Minor, Currency: a.Currency.String(), Exponent: a.Exponent}
	}
	if o := p.Original; o != nil {
		out.Original = &api.Original{Sequence: o.Sequence, KSN: o.KSN.String(), Digest: o.Digest.String()}
	}
	if rec := res.Recorded; rec != nil {
		out.RecordedResult = &api.Recorded{Result: api.Result(rec.Result.String()), Body: rec.Body, Ack: rec.Ack}
	}
	for i := range res.Fields {
		out.Fields = append(out.Fields, field(&res.Fields[i]))
	}
	return out
}

func field(f *decrypt.FieldResult) api.Field {
	out := api.Field{
		Slot: f.Slot, KSN: f.KSN.String(), Usage: f.Usage.String(), KeySet: string(f.KeySet), KCV: f.KCV,
		MaskedPAN: f.MaskedPAN, ClearData: f.Clear.Expose(), Labels: labels(f.Labels),
	}
	if len(f.PINBlock) > 0 {
		out.PINBlock = strings.ToUpper(hex.EncodeToString(f.PINBlock))
		out.PINFormat, out.PINKey, out.PINKeyKCV = f.PINFormat.String(), f.PINKey.String(), f.PINKeyKCV
	}
	return out
}

func labels(l engine.Labels) api.Labels {
	return api.Labels{KeyMode: l.KeyMode.String(), PINExposure: l.PINExposure.String(), Environment: l.Environment.String()}
}

func counterStatus(s decrypt.CounterStatus) api.CounterStatus {
	return api.CounterStatus(s.String())
}
