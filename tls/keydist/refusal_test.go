package keydist_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/serve"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

// TestEveryCodeTeaches wants a status, a meaning and a hint for each code, in one style, and no code twice.
func TestEveryCodeTeaches(t *testing.T) {
	t.Parallel()
	all := keydist.Codes()
	for i, info := range all {
		if info.HTTPStatus < 400 || info.HTTPStatus > 599 || info.Meaning == "" || info.Hint == "" || strings.HasSuffix(info.Meaning+info.Hint, ".") {
			t.Errorf("%+v", info)
		}
		if i > 0 && all[i-1].Code >= info.Code {
			t.Errorf("%s is not after %s", info.Code, all[i-1].Code)
		}
		if got, ok := info.Code.Info(); !ok || got != info {
			t.Errorf("%s: %+v, %v", info.Code, got, ok)
		}
		r := &keydist.Refusal{Code: info.Code, Detail: "slot 3"}
		if r.Unavailable() != (info.HTTPStatus >= 500 || info.HTTPStatus == 429) || (r.RetryAfter() > 0) != (info.HTTPStatus == 429) || !strings.Contains(r.Error(), string(info.Code)) || !strings.HasSuffix(r.Error(), info.Meaning+": slot 3") {
			t.Errorf("%s: unavailable %v, text %q", info.Code, r.Unavailable(), r)
		}
		if slices.ContainsFunc(serve.Problems(), func(p serve.Problem) bool { return p.Code == string(info.Code) }) {
			t.Errorf("%s is a code of the plumbing", info.Code)
		}
	}
	if r := (&keydist.Refusal{Code: "NoSuchCode"}); !r.Unavailable() || r.Error() != "keydist: NoSuchCode" {
		t.Errorf("an unknown code: %v, %v", r.Unavailable(), r)
	}
}
