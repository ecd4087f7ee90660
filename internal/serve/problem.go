package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Problem is an error as a client sees it. Every text in it is public.
type Problem struct {
	Status     int    // HTTP status, 400 to 599
	Code       string // stable, for programs
	Message    string // what is wrong
	Hint       string // what to do next; may be empty
	RetryAfter time.Duration
}

// Error returns the code and the message.
func (p *Problem) Error() string { return p.Code + ": " + p.Message }

// problemBody is the JSON of a Problem.
type problemBody struct {
	Code    string `json:"Code"`
	Message string `json:"Message"`
	Hint    string `json:"Hint,omitempty"`
}

// The codes that the plumbing itself answers with.
const (
	CodeInternal         = "InternalError"
	CodeNotFound         = "NotFound"
	CodeMethodNotAllowed = "MethodNotAllowed"
	CodeBodyTooLarge     = "BodyTooLarge"
	CodeBodyUnreadable   = "BodyUnreadable"
	CodeMediaType        = "MediaTypeNotSupported"
)

// Problems returns every problem that the plumbing itself answers with, for the list of errors in docs.
func Problems() []Problem {
	return []Problem{
		*notFound(), *methodNotAllowed("GET"), *bodyTooLarge(MaxBody), *bodyUnreadable(), *mediaType(TypeJSON), *internalError(),
	}
}

func notFound() *Problem {
	return &Problem{Status: http.StatusNotFound, Code: CodeNotFound, Message: "no such endpoint",
		Hint: "compare the path with the documentation; a path has no trailing slash"}
}

func methodNotAllowed(allow string) *Problem {
	return &Problem{Status: http.StatusMethodNotAllowed, Code: CodeMethodNotAllowed, Message: "this endpoint takes another method",
		Hint: "use " + allow}
}

func bodyTooLarge(limit int) *Problem {
	return &Problem{Status: http.StatusRequestEntityTooLarge, Code: CodeBodyTooLarge,
		Message: fmt.Sprintf("the body is longer than %d bytes", limit), Hint: "send one message in one request"}
}

func bodyUnreadable() *Problem {
	return &Problem{Status: http.StatusBadRequest, Code: CodeBodyUnreadable, Message: "the body ended before its length",
		Hint: "send the same request again"}
}

func mediaType(want string) *Problem {
	return &Problem{Status: http.StatusUnsupportedMediaType, Code: CodeMediaType, Message: "the body is not " + want,
		Hint: "set the header Content-Type: " + want}
}

func internalError() *Problem {
	return &Problem{Status: http.StatusInternalServerError, Code: CodeInternal, Message: "the service failed",
		Hint: "quote the request id to whoever runs the service"}
}

// problemOf returns the Problem in err, or one that says nothing about any other error.
func problemOf(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	return internalError()
}

// write answers with the problem.
func (p *Problem) write(w http.ResponseWriter) {
	body, err := json.Marshal(problemBody{Code: p.Code, Message: p.Message, Hint: p.Hint})
	if err != nil { // three strings always marshal
		body = []byte(`{"Code":"` + CodeInternal + `","Message":"the service failed"}`)
	}
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((p.RetryAfter+time.Second-1)/time.Second)))
	}
	WriteJSON(w, p.Status, body)
}

// WriteJSON is Write for a body that is JSON already.
func WriteJSON(w http.ResponseWriter, status int, body []byte) { Write(w, status, TypeJSON, body) }

// Write answers with a body of a media type. Answers may hold card data: they are marked as not to be stored.
func Write(w http.ResponseWriter, status int, media string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", media)
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the peer is gone; there is nobody left to tell
}
