package enroll_test

import (
	"net/http"
	"testing"
	"time"
	"unicode"

	"github.com/latchkey-pos/latchkey/tls/enroll"
)

// FuzzRefusal: whatever an authority says when it refuses, the texts can be shown and the wait is bounded.
func FuzzRefusal(f *testing.F) {
	const good = `{"Code":"Busy","Message":"too many at once","Hint":"wait"}`
	now := time.Unix(1_700_000_000, 0)
	resp := &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"7"}}}
	if r := enroll.RefusalOf(resp, []byte(good), now); r.Code != "Busy" || r.RetryAfter != 7*time.Second {
		f.Fatalf("seed: %+v", r)
	}
	f.Add([]byte(good), "7")
	f.Add([]byte(`{"Code":"X"}`), now.Add(time.Hour).UTC().Format(http.TimeFormat))
	f.Add([]byte(`{"Code":"X","Message":"\u001b"}`), "-1")
	f.Fuzz(func(t *testing.T, body []byte, after string) {
		resp := &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {after}}}
		r := enroll.RefusalOf(resp, body, now)
		if r.Status != http.StatusServiceUnavailable || r.RetryAfter < 0 || r.RetryAfter > 24*time.Hour {
			t.Fatalf("%q gives %+v", after, r)
		}
		if r.Code == "" && r.Message+r.Hint != "" {
			t.Fatalf("%q gives texts without a code: %+v", body, r)
		}
		for _, c := range r.Code + r.Message + r.Hint + r.Error() {
			if !unicode.IsPrint(c) {
				t.Fatalf("%q gives %q, %q, %q", body, r.Code, r.Message, r.Hint)
			}
		}
	})
}
