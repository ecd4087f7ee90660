package serve

import (
	"errors"
	"io"
	"mime"
	"net/http"
)

// MaxBody is the most that the body of a request usually may hold, in bytes.
const MaxBody = 64 << 10

// TypeJSON is the media type of JSON.
const TypeJSON = "application/json"

// ReadBody reads the whole body of a request. Errors are a *Problem: another media type than this one, more than limit
// bytes, or a body that breaks off. The caller wipes the body if it is secret.
func ReadBody(w http.ResponseWriter, r *http.Request, media string, limit int) ([]byte, error) {
	got, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || got != media {
		return nil, mediaType(media)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(limit)))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, bodyTooLarge(limit)
	}
	if err != nil {
		return nil, bodyUnreadable()
	}
	return body, nil
}
