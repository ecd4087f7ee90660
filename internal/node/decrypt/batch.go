package decrypt

import (
	"errors"
	"log/slog"
	"net/http"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/internal/serve"
)

// batch answers many messages at once. One that cannot be read as a request refuses them all, before anything is claimed.
func (h *handlers) batch(w http.ResponseWriter, r *http.Request) error {
	caller, err := h.permissions.caller(r)
	if err != nil {
		return h.early(r, caller, "transaction", err)
	}
	body, err := serve.ReadBody(w, r, serve.TypeJSON, api.MaxBatchBody)
	if err != nil {
		return err
	}
	parsed, err := api.ParseBatchRequest(body)
	if err != nil {
		return h.early(r, caller, "transaction", bodyRefusal(err))
	}
	if err := h.admit(r, caller, "transaction", len(parsed.Transactions)); err != nil {
		return err
	}
	reqs := make([]decrypt.TransactionRequest, len(parsed.Transactions))
	for i, t := range parsed.Transactions {
		if reqs[i], err = transactionRequest(t); err != nil {
			return h.early(r, caller, "transaction", err)
		}
	}
	leave, err := h.enter(r)
	if err != nil {
		return err
	}
	defer leave()
	results, err := h.service.Batch(r.Context(), caller, reqs)
	if err != nil {
		return h.refused(err)
	}
	out := api.BatchResponse{Results: make([]api.BatchResult, len(results))}
	refusals := 0
	for i, res := range results {
		if res.Err != nil {
			refusals++
			out.Results[i].Error = h.batchError(res.Err)
			continue
		}
		defer res.Result.Wipe()
		h.metrics.transaction(res.Result)
		out.Results[i].Response = transactionResponse(res.Result)
	}
	serve.Note(r.Context(), slog.Int("messages", len(results)), slog.Int("refused", refusals))
	return write(w, out)
}

// batchError counts the refusal of one message and puts it into the words that a call of its own would have been answered with.
func (h *handlers) batchError(err error) *api.Error {
	r, ok := errors.AsType[*decrypt.Refusal](err)
	if !ok {
		r = refusal(decrypt.CodeInternal, "")
	}
	h.metrics.refusal(r.Code)
	p := problem(r)
	return &api.Error{Code: p.Code, Message: p.Message, Hint: p.Hint}
}
