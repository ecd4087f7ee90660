package enroll

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
)

// ErrAnswer is wrapped when the registration authority answered with something that is not to be used: not what was asked
// for, or not in its form. Asking again gives another answer at best.
var ErrAnswer = errors.New("enroll: answer not acceptable")

// Refusal is an answer of the registration authority that is not what was asked for: a refusal, or a request to come again
// (RFC 7030, 4.2.3), which has status 202 and RetryAfter. The texts are as the authority sent them, and empty when it sent
// none that could be shown.
type Refusal struct {
	Status     int           `json:"-"`    // HTTP status
	Code       string        `json:"Code"` // stable, for programs
	Message    string        `json:"Message"`
	Hint       string        `json:"Hint,omitzero"` // what to do next
	RetryAfter time.Duration `json:"-"`             // how long to wait before asking again; zero when nothing was said
}

// Error returns the code and the message, or the status when there are none.
func (r *Refusal) Error() string {
	if r.Code == "" {
		return fmt.Sprintf("enroll: HTTP status %d", r.Status)
	}
	return "enroll: " + r.Code + ": " + r.Message
}

const (
	maxText  = 512            // bytes of one text
	maxRetry = 24 * time.Hour // whoever says longer has a wrong clock
)

// refusalOf makes a Refusal of a response and its body. A body that is not the authority's is dropped.
func refusalOf(resp *http.Response, body []byte, now time.Time) *Refusal {
	var r Refusal
	if err := json.Unmarshal(body, &r, json.RejectUnknownMembers(true)); err != nil || !r.showable() {
		r = Refusal{}
	}
	r.Status, r.RetryAfter = resp.StatusCode, retryAfter(resp.Header.Get("Retry-After"), now)
	return &r
}

// showable reports whether the texts are there and can go to a screen or a log as they are.
func (r *Refusal) showable() bool {
	for _, s := range []string{r.Code, r.Message, r.Hint} {
		if len(s) > maxText || strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) {
			return false
		}
	}
	return r.Code != ""
}

// retryAfter reads both forms of the header (RFC 9110, 10.2.3). What cannot be read says nothing.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetry)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(at.Sub(now), 0), maxRetry)
	}
	return 0
}
