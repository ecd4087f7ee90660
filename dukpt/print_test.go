package dukpt

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// checkPrints prints v in every likely way and looks for eight bytes of each secret in every likely form.
func checkPrints(t *testing.T, name string, v any, secrets [][]byte) {
	t.Helper()
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%o", "%b", "%c", "%U"} {
		fmt.Fprintf(&out, verb+"\n", v)
	}
	var text bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("x", "v", v)
	slog.New(slog.NewJSONHandler(&text, nil)).Info("x", "v", v)
	j, err := json.Marshal(v)
	fmt.Fprintln(&out, text.String(), string(j), err)
	printed := out.String()
	for _, s := range secrets {
		part := s[:8]
		for _, form := range []string{
			string(part), strings.Trim(fmt.Sprint(part), "[]"), hex.EncodeToString(part), strings.ToUpper(hex.EncodeToString(part)),
			base64.StdEncoding.EncodeToString(s)[:10], strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", part), "[]byte{"), "}"),
		} {
			if strings.Contains(printed, form) {
				t.Errorf("%s prints a key as %q", name, form)
			}
		}
	}
}
