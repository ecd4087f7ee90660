package hsm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	"github.com/latchkey-pos/latchkey/keys"
)

// TestPrint prints everything that holds a PIN or the key of a transaction.
func TestPrint(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	token := open(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	put(t, token, keys.AES128)
	base := put(t, token, keys.TDES2)
	ksn := newTill(t, keys.TDES2, "FFFF9876543210E00000").send(t).ksn
	ops, err := token.Engine().Begin(t.Context(), base, ksn)
	if err != nil {
		t.Fatal(err)
	}
	defer ops.End()
	bdk, err := dukpt.NewBaseKey(newKey(t, bdkAttributes(keys.TDES2), tdesBDK))
	if err != nil {
		t.Fatal(err)
	}
	ik, err := bdk.Derive(ksn.KeyID())
	if err != nil {
		t.Fatal(err)
	}
	secrets := [][]byte{[]byte(hsmtest.PIN), unhex(tdesBDK), unhex(aesBDK), ik.Key().Material().Expose(), unhex("042666B49184CFA368DE9628D0397BC9")}
	c, err := token.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	report, err := token.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]any{
		"token": token, "engine": token.Engine(), "operations": ops, "URI": token.URI(), "report": report, "stats": token.Stats(),
		"keys": c.keys.Load().list(), "none": (*Token)(nil),
	} {
		var text bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&text, verb+"\n", v)
		}
		slog.New(slog.NewJSONHandler(&text, nil)).Info("m", "v", v)
		if b, err := json.Marshal(v); err == nil {
			text.Write(b)
		}
		holds(t, name, text.String(), secrets)
	}
	holds(t, "log", log.String(), secrets)
	if !strings.Contains(log.String(), "key loaded") || !strings.Contains(fmt.Sprint(token), "pkcs11:") || fmt.Sprint((*Token)(nil)) == "" {
		t.Errorf("the log says %s, the token prints %v", log.String(), token)
	}
}

func holds(t *testing.T, name, text string, secrets [][]byte) {
	t.Helper()
	for _, s := range secrets {
		for _, form := range []string{string(s), fmt.Sprintf("%x", s), fmt.Sprintf("%X", s), strings.Trim(fmt.Sprint(s), "[]")} {
			if strings.Contains(text, form) {
				t.Errorf("%s shows a secret", name)
			}
		}
	}
}

func TestCheckUsesKeys(t *testing.T) {
	t.Parallel()
	o, faults := withFaults(Options{Clock: fast()}, nil)
	token := open(t, o)
	f, e := *faults, token.Engine()
	if err := e.Check(t.Context()); err != nil { // no keys yet
		t.Fatal(err)
	}
	put(t, token, keys.AES128)
	put(t, token, keys.TDES2)
	for range 4 {
		before := f.count("encrypt")
		if err := e.Check(t.Context()); err != nil || f.count("encrypt") == before {
			t.Errorf("%d uses of a key, %v", f.count("encrypt")-before, err)
		}
	}
	f.die(true)
	for range 3 {
		if err := e.Check(t.Context()); err == nil {
			t.Error("it is well without its token")
		}
	}
	f.revive()
	until(t, "a check", func() bool { return e.Check(t.Context()) == nil })
}
