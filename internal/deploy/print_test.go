package deploy

import (
	"bytes"
	"crypto/ecdsa"
	stdjson "encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// What holds a key or the passphrase shows neither, whoever prints it.
func TestPrint(t *testing.T) {
	t.Parallel()
	d := deployment(t, keyset.Test)
	p := person(t, d, FirstOperator)
	_, err := d.Keyring()
	must(t, err)
	raw, err := p.signer.(*ecdsa.PrivateKey).Bytes()
	must(t, err)
	decimal := new(big.Int).SetBytes(raw).String() // as math/big prints itself
	r := Registration{ID: "T-1", Passphrase: NewBundlePassphrase(), Signers: []*Person{p}}
	o := Options{Tenant: "ACME", Passphrase: passphrase}
	secrets := [][]byte{passphrase.Expose(), raw, r.Passphrase.Expose()}
	for name, v := range map[string]any{
		"deployment": d, "person": p, "registration": r, "registration pointer": &r, "options": o, "people": []*Person{p}, "nested": struct{ D *Deployment }{d},
	} {
		for _, text := range shows(v) {
			for _, s := range secrets {
				for _, form := range []string{string(s), fmt.Sprintf("%x", s), fmt.Sprintf("%X", s), strings.Trim(fmt.Sprint(s), "[]"), strings.Trim(fmt.Sprintf("%#v", s), "[]byte{}")} {
					if strings.Contains(text, form) {
						t.Errorf("%s shows a secret: %s", name, text)
					}
				}
			}
			if strings.Contains(text, decimal) {
				t.Errorf("%s shows a private key: %s", name, text)
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
	return out
}
