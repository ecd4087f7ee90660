package api

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"

	"github.com/latchkey-pos/latchkey/internal/strictjson"
)

var (
	// ErrTooLarge says that a body is longer than MaxBody or MaxResponse, or a message longer than MaxMessage.
	ErrTooLarge = errors.New("api: too large")
	// ErrMalformed says that a body is not the one JSON object that was expected.
	ErrMalformed = errors.New("api: malformed body")
)

// ParseTransactionRequest reads the body of POST /transactions. The body must be one JSON object with exactly the members
// of TransactionRequest: unknown, repeated and wrong-case members, null, empty strings and trailing bytes are refused.
// Errors wrap ErrTooLarge or ErrMalformed and quote no value.
func ParseTransactionRequest(body []byte) (TransactionRequest, error) {
	var r TransactionRequest
	if err := parseRequest(body, &r); err != nil {
		return TransactionRequest{}, err
	}
	if err := r.validate(); err != nil {
		return TransactionRequest{}, err
	}
	return r, nil
}

// ParseAnswerRequest reads the body of POST /transactions/answer, as strictly as ParseTransactionRequest.
func ParseAnswerRequest(body []byte) (AnswerRequest, error) {
	var r AnswerRequest
	if err := parseRequest(body, &r); err != nil {
		return AnswerRequest{}, err
	}
	if err := r.validate(); err != nil {
		return AnswerRequest{}, err
	}
	return r, nil
}

// ParseBatchRequest reads the body of POST /transactions/batch, as strictly as ParseTransactionRequest. One message that is not as
// it should be refuses them all: the host has made a mistake, not a terminal.
func ParseBatchRequest(body []byte) (BatchRequest, error) {
	var r BatchRequest
	if err := parse(body, MaxBatchBody, false, &r); err != nil {
		return BatchRequest{}, err
	}
	if err := r.validate(); err != nil {
		return BatchRequest{}, err
	}
	return r, nil
}

// Format returns a request, a response or an Error as the JSON that travels. Beyond MaxResponse, of a batch MaxBatchResponse, the
// error wraps ErrTooLarge.
func Format(v any) ([]byte, error) {
	b, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return nil, fmt.Errorf("api: format %T: %w", v, err)
	}
	limit := MaxResponse
	switch v.(type) {
	case BatchRequest, *BatchRequest, BatchResponse, *BatchResponse:
		limit = MaxBatchResponse
	}
	if len(b) > limit {
		return nil, fmt.Errorf("%w: %T of %d bytes, want at most %d", ErrTooLarge, v, len(b), limit)
	}
	return b, nil
}

func (r TransactionRequest) validate() error {
	switch {
	case len(r.Message) == 0:
		return fmt.Errorf("%w: member Message is missing", ErrMalformed)
	case len(r.Message) > MaxMessage:
		return fmt.Errorf("%w: message of %d bytes, want at most %d", ErrTooLarge, len(r.Message), MaxMessage)
	case len(r.OutgoingPINKey) > maxName:
		return fmt.Errorf("%w: member OutgoingPINKey has %d bytes, want at most %d", ErrMalformed, len(r.OutgoingPINKey), maxName)
	case r.OutgoingPINFormat != "" && r.OutgoingPINFormat != "ISO_FORMAT_0" && r.OutgoingPINFormat != "ISO_FORMAT_4":
		return fmt.Errorf("%w: member OutgoingPINFormat is neither ISO_FORMAT_0 nor ISO_FORMAT_4", ErrMalformed)
	}
	return nil
}

func (r BatchRequest) validate() error {
	if len(r.Transactions) < 1 || len(r.Transactions) > MaxBatch {
		return fmt.Errorf("%w: member Transactions has %d messages, want 1 to %d", ErrMalformed, len(r.Transactions), MaxBatch)
	}
	for i, t := range r.Transactions {
		if err := t.validate(); err != nil {
			return fmt.Errorf("%w, in message %d", err, i+1)
		}
	}
	return nil
}

func (r AnswerRequest) validate() error {
	switch {
	case !isDigest(r.RequestDigest):
		return fmt.Errorf("%w: member RequestDigest is not 64 lower-case hexadecimal digits", ErrMalformed)
	case r.Result != Approved && r.Result != Declined:
		return fmt.Errorf("%w: member Result is neither APPROVED nor DECLINED", ErrMalformed)
	case len(r.Body) > MaxMessage:
		return fmt.Errorf("%w: answer body of %d bytes, want at most %d", ErrTooLarge, len(r.Body), MaxMessage)
	}
	return nil
}

func isDigest(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if (s[i] < '0' || s[i] > '9') && (s[i] < 'a' || s[i] > 'f') {
			return false
		}
	}
	return true
}

// parseRequest reads a request. An empty string there is a member that the caller meant to fill in.
func parseRequest(body []byte, v any) error { return parse(body, MaxBody, false, v) }

// parseResponse reads a response, whose members are always written, some of them empty.
func parseResponse(body []byte, v any) error { return parse(body, MaxResponse, true, v) }

// parse reads one JSON object into v. Values are never part of the error: they may be card data.
func parse(body []byte, limit int, empty bool, v any) error {
	err := strictjson.Read(body, limit, empty, v)
	switch {
	case errors.Is(err, strictjson.ErrTooLarge):
		return fmt.Errorf("%w: body of %d bytes, want at most %d", ErrTooLarge, len(body), limit)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}
