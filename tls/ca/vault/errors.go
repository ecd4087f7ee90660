package vault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// Unavailable is the error of a call that may go well later, without anyone changing the request.
type Unavailable struct {
	Reason string // one line, for the log: what Vault said, or what became of the call. It holds no secrets
	After  time.Duration
	cause  error
}

// Error returns the reason.
func (u *Unavailable) Error() string { return "vault: " + u.Reason }

// Unwrap returns what lies below, if there is something.
func (u *Unavailable) Unwrap() error { return u.cause }

// RetryAfter returns when to come again. It differs from one error to the next.
func (u *Unavailable) RetryAfter() time.Duration { return u.After }

// How long somebody is sent away: as long as the cause is likely to last, and as much again at random.
const (
	shortWait = 2 * time.Second
	spread    = 8 * time.Second
	roleWait  = time.Minute // somebody has to put the role or the policy right
)

// later makes an Unavailable that comes after a wait, and a little later for everyone in another way. The spread grows with
// the wait, because the fleet that has gathered meanwhile does.
func later(wait time.Duration, cause error, format string, args ...any) *Unavailable {
	wait = max(wait, shortWait)
	return &Unavailable{Reason: plain(fmt.Sprintf(format, args...)), After: wait + rand.N(max(wait, spread)), cause: cause}
}

// status returns the status of an answer of Vault, zero when there was none.
func status(err error) int {
	if answer, ok := errors.AsType[*api.ResponseError](err); ok {
		return answer.StatusCode
	}
	return 0
}

// says reports whether an answer of Vault holds a text.
func says(err error, text string) bool {
	answer, ok := errors.AsType[*api.ResponseError](err)
	return ok && strings.Contains(strings.Join(answer.Errors, " "), text)
}

// describe says in one line what became of a call. What the library makes of an error fills several.
func describe(call string, err error) string {
	answer, ok := errors.AsType[*api.ResponseError](err)
	switch {
	case ok && answer.StatusCode == http.StatusServiceUnavailable && says(err, "sealed"):
		return call + ": Vault is sealed"
	case ok && answer.RawError:
		return fmt.Sprintf("%s: status %d, and no errors that Vault would write", call, answer.StatusCode)
	case ok:
		return fmt.Sprintf("%s: status %d: %s", call, answer.StatusCode, strings.Join(answer.Errors, "; "))
	case errors.Is(err, context.DeadlineExceeded):
		return call + ": no answer in time"
	}
	return call + ": " + err.Error()
}

// failure reports whether an error says that Vault is not well, or does not let us in; other errors are answers.
func failure(err error) bool {
	s := status(err)
	return s == 0 || s == http.StatusForbidden || s == http.StatusNotFound || s == http.StatusTooManyRequests || s >= http.StatusInternalServerError
}

// plain makes a text of Vault fit for a log: one line of ASCII, not too long.
func plain(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	const most = 400
	if len(s) > most {
		s = s[:most] + "..."
	}
	return s
}
