package est_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/tls/est"
)

func TestParseBasic(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ user, password string }{
		"a code": {"T-0001", "4XQ7M2B9KTD0"}, "a colon in it": {"T-0001", "a:b"}, "no password": {"T-0001", ""},
	} {
		r := &http.Request{Header: make(http.Header)}
		r.SetBasicAuth(c.user, c.password)
		user, password, ok := est.ParseBasic(r)
		if !ok || user != c.user || string(password.Expose()) != c.password {
			t.Errorf("%s: %q, %q, %t", name, user, password.Expose(), ok)
		}
		if len(r.Header) != 0 {
			t.Errorf("%s: the header is still there", name)
		}
		if _, _, ok := est.ParseBasic(r); ok {
			t.Errorf("%s: it is there twice", name)
		}
	}
	encoded := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for name, values := range map[string][]string{
		"none": nil, "empty": {""}, "no credentials": {"Basic"}, "another scheme": {"Bearer " + encoded("T-0001:x")},
		"two": {"Basic " + encoded("T-0001:x"), "Basic " + encoded("T-0001:x")}, "no colon": {"Basic " + encoded("T-0001")},
		"no user": {"Basic " + encoded(":x")}, "not base64": {"Basic T-0001:x"}, "no padding": {"Basic " + strings.TrimRight(encoded("T-00:x"), "=") + "A"},
		"too long": {"Basic " + encoded("T-0001:"+strings.Repeat("x", 512))},
	} {
		r := &http.Request{Header: http.Header{"Authorization": values}}
		if user, password, ok := est.ParseBasic(r); ok || user != "" || !password.IsZero() {
			t.Errorf("%s: %q, %d bytes, %t", name, user, password.Len(), ok)
		}
	}
}
