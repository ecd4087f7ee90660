package est

import (
	"bytes"
	"encoding/base64"
)

// MaxBody is the most that a body may hold, in bytes: whoever receives one reads no more.
const MaxBody = 64 << 10

const columns = 64

// encode returns base64 in lines of 64 columns, each with its end.
func encode(der []byte) []byte {
	text := make([]byte, base64.StdEncoding.EncodedLen(len(der)))
	base64.StdEncoding.Encode(text, der)
	out := make([]byte, 0, len(text)+len(text)/columns+1)
	for len(text) > 0 {
		n := min(columns, len(text))
		out = append(append(out, text[:n]...), '\n')
		text = text[n:]
	}
	return out
}

// Unwrap returns a body that was made here without its line breaks (RFC 8951, 3): openssl reads none without, strongSwan none with.
func Unwrap(body []byte) []byte { return bytes.ReplaceAll(body, []byte("\n"), nil) }

// decode returns the DER in a body. Line breaks, spaces and tabs may be anywhere or nowhere: clients differ. The rest of
// base64 is read strictly.
func decode(body []byte) ([]byte, error) {
	if len(body) > MaxBody {
		return nil, malformed("the body is too long")
	}
	if bytes.HasPrefix(body, []byte("-----")) {
		return nil, malformed("the body is PEM: leave out its lines of hyphens")
	}
	if len(body) > 1 && body[0] == 0x30 && body[1] >= 0x80 {
		return nil, malformed("the body is DER: send the base64 of it")
	}
	text := make([]byte, 0, len(body))
	for _, c := range body {
		if c != '\r' && c != '\n' && c != ' ' && c != '\t' {
			text = append(text, c)
		}
	}
	der := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(der, text)
	if err != nil {
		return nil, malformed("the body is not base64")
	}
	if n == 0 {
		return nil, malformed("the body is empty")
	}
	return der[:n], nil
}
