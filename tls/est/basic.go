package est

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// maxBasic is more than a terminal id and a one-time code take.
const maxBasic = 512

// ParseBasic takes user and password out of a request (RFC 7617) and removes the header, so that nothing logs it later. It
// reports false unless there is exactly one header Authorization, of the scheme Basic, with a user. The caller wipes the
// password.
func ParseBasic(r *http.Request) (user string, password secret.Bytes, ok bool) {
	const header = "Authorization"
	values := r.Header.Values(header)
	r.Header.Del(header)
	if len(values) != 1 || len(values[0]) > maxBasic {
		return "", secret.Bytes{}, false
	}
	scheme, text, found := strings.Cut(values[0], " ")
	if !found || !strings.EqualFold(scheme, "Basic") {
		return "", secret.Bytes{}, false
	}
	b, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(text))
	defer secret.Wipe(b)
	if err != nil {
		return "", secret.Bytes{}, false
	}
	name, code, found := bytes.Cut(b, []byte(":"))
	if !found || len(name) == 0 {
		return "", secret.Bytes{}, false
	}
	return string(name), secret.From(code), true
}
