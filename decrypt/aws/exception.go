package aws

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/serve"
)

// typeHeader is where clients look first for the name of an exception.
const typeHeader = "X-Amzn-Errortype"

// Exception is a kind of error of the service model. It is comparable.
type Exception struct {
	Name   string
	Status int
	Reason string // of a VerificationFailedException
}

// The exceptions.
var (
	accessDenied       = Exception{Name: "AccessDeniedException", Status: http.StatusForbidden}
	internalServer     = Exception{Name: "InternalServerException", Status: http.StatusInternalServerError}
	resourceNotFound   = Exception{Name: "ResourceNotFoundException", Status: http.StatusNotFound}
	validation         = Exception{Name: "ValidationException", Status: http.StatusBadRequest}
	throttling         = Exception{Name: "ThrottlingException", Status: http.StatusTooManyRequests}
	verificationFailed = Exception{Name: "VerificationFailedException", Status: http.StatusBadRequest, Reason: "INVALID_MAC"}
)

// ExceptionOf returns the exception that carries a code. What a second try may mend is an InternalServerException or, of a rate that
// was too high, a ThrottlingException: clients try both again by themselves; nothing else is. A KSN that is used up is no ThrottlingException for that reason.
func ExceptionOf(code decrypt.Code) Exception {
	switch code {
	case decrypt.CodeMACInvalid:
		return verificationFailed
	case decrypt.CodeRateLimited:
		return throttling
	case decrypt.CodeKeyNotFound, decrypt.CodeKeySetUnknown, decrypt.CodeTerminalUnknown, decrypt.CodeKeyIDMismatch, decrypt.CodeNotFound:
		return resourceNotFound
	case decrypt.CodeRoleNotPermitted, decrypt.CodeTenantMismatch, decrypt.CodePathNotPermitted, decrypt.CodePurposeNotPermitted,
		decrypt.CodePINKeyNotPermitted, decrypt.CodeKeyNotPermitted, decrypt.CodeDirectionNotPermitted, decrypt.CodeEnvironmentMismatch, decrypt.CodeTerminalNotActive,
		decrypt.CodeTerminalRevoked, decrypt.CodeTerminalBlocked, decrypt.CodeTerminalQuarantined, decrypt.CodeKeySetBlocked,
		decrypt.CodeKeySetRetired, decrypt.CodeSlotNotActive, decrypt.CodeSlotUnknown:
		return accessDenied
	}
	if info, ok := code.Info(); !ok || info.HTTPStatus >= http.StatusInternalServerError {
		return internalServer
	}
	return validation
}

// exceptionBody is the JSON of an exception. Code and Hint are ours; clients that do not know them pass them over.
type exceptionBody struct {
	Type      string        `json:"__type"`
	Message   string        `json:"message"`
	Code      string        `json:"Code"`
	Hint      string        `json:"Hint,omitzero"`
	Reason    string        `json:"Reason,omitzero"`
	FieldList []fieldOfList `json:"fieldList,omitempty"`
}

// fieldOfList says what is wrong with one member.
type fieldOfList struct {
	Path    string `json:"path"`
	Message string `json:"message"`
}

// memberError is a member with a value that cannot be used.
type memberError struct{ path, text string }

// Error returns the path and the text, which quotes no value.
func (e *memberError) Error() string { return "member " + e.path + ": " + e.text }

// Unwrap returns the refusal that it is.
func (e *memberError) Unwrap() error {
	return &decrypt.Refusal{Code: decrypt.CodeRequestMalformed, Detail: e.Error()}
}

func invalid(path, format string, args ...any) error {
	return &memberError{path, fmt.Sprintf(format, args...)}
}

// unsupported refuses what the service model has and this service has not.
func unsupported(format string, args ...any) error {
	return &decrypt.Refusal{Code: decrypt.CodeNotSupported, Detail: fmt.Sprintf(format, args...)}
}

// throw writes an error as an exception and returns its code.
func throw(w http.ResponseWriter, err error) decrypt.Code {
	r := refusalOf(err)
	e := ExceptionOf(r.Code)
	info, known := r.Code.Info()
	body := exceptionBody{Type: e.Name, Code: string(r.Code), Message: string(r.Code), Reason: e.Reason}
	if known {
		body.Message, body.Hint = string(r.Code)+": "+info.Meaning, info.Hint
	}
	if r.Detail != "" {
		body.Message += ": " + r.Detail
	}
	if m, ok := errors.AsType[*memberError](err); ok {
		body.FieldList = []fieldOfList{{m.path, m.text}}
	}
	w.Header().Set(typeHeader, e.Name)
	switch {
	case r.RetryAfter > 0:
		w.Header().Set("Retry-After", strconv.FormatInt(int64((r.RetryAfter+time.Second-1)/time.Second), 10))
	case e == internalServer && r.Code != decrypt.CodeInternal:
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter/time.Second)))
	}
	text, err := json.Marshal(body, json.Deterministic(true))
	if err != nil { // strings always marshal
		text = []byte(`{"__type":"` + e.Name + `"}`)
	}
	serve.WriteJSON(w, e.Status, text)
	return r.Code
}

// retryAfter is what clients are told when the service cannot work now.
const retryAfter = time.Second

// refusalOf makes a refusal of every error: one of the plumbing has a code of the same list, and of any other nothing is told.
func refusalOf(err error) *decrypt.Refusal {
	if r, ok := errors.AsType[*decrypt.Refusal](err); ok {
		return r
	}
	if p, ok := errors.AsType[*serve.Problem](err); ok {
		return &decrypt.Refusal{Code: decrypt.Code(p.Code), Detail: p.Message}
	}
	return &decrypt.Refusal{Code: decrypt.CodeInternal}
}
