package serve

import (
	"errors"
	"io"
	"mime"
	"net/http"
)

// MaxBody is the most that the body of a request may hold, in bytes.
const MaxBody = 64 << 10

// ReadBody reads the whole body of a request that carries JSON. Errors are a *Problem: another media type, more than
// MaxBody bytes, or a body that breaks off. The caller wipes the body if it is secret.
func ReadBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return nil, mediaType()
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, bodyTooLarge(MaxBody)
	}
	if err != nil {
		return nil, bodyUnreadable()
	}
	return body, nil
}
