package keyring

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// Nothing that holds a key shows it, whoever prints it.
func TestPrint(t *testing.T) {
	t.Parallel()
	const digits = "0123456789ABCDEFFEDCBA9876543210"
	r, _ := create(t)
	k := key(t, bdkTDES, digits)
	info, err := r.Import(alias(t, "bdk"), k, keyset.Test)
	if err != nil {
		t.Fatal(err)
	}
	_, claim, err := r.Secret(SecretClaim)
	if err != nil {
		t.Fatal(err)
	}
	ksn := mustKSN(t)
	ops, err := r.Engine().Begin(t.Context(), info.ID, ksn)
	if err != nil {
		t.Fatal(err)
	}
	defer ops.End()
	secrets := []string{string(k.Material().Expose()), string(claim.Expose())}
	for name, v := range map[string]any{
		"ring": r, "engine": r.Engine(), "ops": ops, "entry": r.byID[info.ID], "entry value": *r.byID[info.ID], "info": info,
		"labelled": r.labelled(keyset.Test), "options": cheap,
	} {
		for _, text := range shows(v) {
			for _, s := range secrets {
				b := []byte(s)
				for _, form := range []string{s, fmt.Sprintf("%x", b), fmt.Sprintf("%X", b), fmt.Sprint(b), fmt.Sprintf("%#v", b), strings.Trim(fmt.Sprint(b), "[]")} {
					if strings.Contains(text, form) {
						t.Errorf("%s shows a key: %s", name, text)
					}
				}
			}
		}
	}
}

func shows(v any) []string {
	var out []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		out = append(out, fmt.Sprintf(verb, v))
	}
	var buf bytes.Buffer
	slog.New(slog.NewTextHandler(&buf, nil)).Info("m", "v", v)
	slog.New(slog.NewJSONHandler(&buf, nil)).Info("m", "v", v)
	out = append(out, buf.String())
	if b, err := stdjson.Marshal(v); err == nil {
		out = append(out, string(b))
	}
	if b, err := json.Marshal(v); err == nil {
		out = append(out, string(b))
	}
	return out
}
