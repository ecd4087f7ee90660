package terminal

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/message"
)

// contentType is that of messages and acknowledgements.
const contentType = "application/cbor"

// maxHostError bounds what is read of an answer that is no acknowledgement.
const maxHostError = 4 << 10

// HostError is an answer of the host that is no acknowledgement: nothing in it is authenticated by the keys of the
// terminal, so nothing changes because of it.
type HostError struct {
	Status     int           // HTTP status
	Code       string        // what the host calls it, at most 64 characters; may be empty
	Message    string        // for a person, at most 200 characters; may be empty
	RetryAfter time.Duration // how long the host wants to be left alone; zero when it does not say
}

// Error returns the status and what the host says.
func (e *HostError) Error() string {
	s := fmt.Sprintf("terminal: the host refuses with status %d", e.Status)
	if e.Code != "" {
		s += " " + e.Code
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// final reports whether sending the same again is useless.
func (e *HostError) final() bool {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return e.Status >= 400 && e.Status < 500
}

// hostError keeps what a host says in its JSON {"Code", "Message"}, bounded and printable.
func hostError(resp *http.Response) *HostError {
	e := &HostError{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header)}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxHostError))
	if err != nil {
		return e // the status is all that came
	}
	var said struct{ Code, Message string }
	if json.Unmarshal(b, &said) == nil {
		e.Code, e.Message = printable(said.Code, 64), printable(said.Message, 200)
	}
	return e
}

// printable keeps the printable ASCII of the first characters: the host is not trusted with the screen.
func printable(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return -1
		}
		return r
	}, s)
	return s[:min(len(s), most)]
}

// retryAfter reads the seconds form of Retry-After (RFC 9110, 10.2.3); a terminal does not trust its clock with dates.
func retryAfter(h http.Header) time.Duration {
	n, err := strconv.ParseUint(h.Get("Retry-After"), 10, 16)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// readAnswer reads an acknowledgement as far as one can be long.
func readAnswer(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, message.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	if len(b) > message.MaxSize {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrAck, message.MaxSize)
	}
	return b, nil
}
