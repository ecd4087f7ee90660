package remote_test

import (
	"bytes"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/remote"
)

// TestPrint prints what Open returns in every way and looks for the initial key. Errors of Open hold none either.
func TestPrint(t *testing.T) {
	t.Parallel()
	l := newLab(t, keys.AES128, elliptic.P256())
	d := l.seal(t)
	opened, err := remote.Open(d, l.binding, l.agreement, l.options())
	check(t, err)
	defer opened.Wipe()
	k := l.key.Key()
	defer k.Wipe()
	secret := k.Material().Expose()
	wrong := l.binding
	wrong.Nonce[0] ^= 1
	_, refused := remote.Open(d, wrong, l.agreement, l.options())
	for _, v := range []any{opened, *opened, []*remote.Opened{opened}, struct{ o *remote.Opened }{opened}, refused, d, (*remote.Opened)(nil)} {
		text := printed(v)
		for _, form := range []string{
			string(secret[:8]), strings.Trim(fmt.Sprint(secret[:8]), "[]"), hex.EncodeToString(secret[:8]),
			strings.ToUpper(hex.EncodeToString(secret[:8])), base64.StdEncoding.EncodeToString(secret)[:10],
		} {
			if strings.Contains(text, form) {
				t.Errorf("%T prints the initial key as %q", v, form)
			}
		}
	}
	if got := fmt.Sprint(opened); got != "remote.Opened(DATA, key id 1234567800000000)" {
		t.Errorf("prints as %s", got)
	}
}

func printed(v any) string {
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%o", "%b", "%c", "%U"} {
		fmt.Fprintf(&out, verb+"\n", v)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
	j, err := json.Marshal(v)
	return out.String() + log.String() + string(j) + fmt.Sprint(err)
}
