package terminal_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/rogue"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
)

// TestPrint prints everything that can hold a secret in every way and looks for the secrets.
func TestPrint(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	b := lab.Bundle(t)
	medium := imported(t, lab)
	sealer, err := terminal.OpenInsecureFile(medium)
	check(t, err)
	term := open(t, medium, &terminaltest.Wire{Host: lab.Host})
	bad, err := rogue.New(b)
	check(t, err)
	defer bad.Close()
	engine, err := terminal.OpenSoftwareEngine(medium, sealer, []terminal.Slot{b.Slots[0].Slot}, 0)
	check(t, err)
	defer engine.Close()
	sealed := medium.Content()["device.key"]
	canaries := [][]byte{
		b.PrivateKey.Expose(), b.PrivateKey.Expose()[40:56], b.Slots[0].KBPK.Expose(), b.Slots[1].KBPK.Expose(), sealed,
		[]byte(track), []byte("4761739001010119"),
	}
	r := sale(t, true)
	o := options(t, terminaltest.NewRA(t, lab))
	canaries = append(canaries, []byte(terminaltest.Code))
	for _, v := range []any{b, *b, b.Slots[0], b.Slots, sealer, term, engine, r, &r, bad, o, &o} {
		for _, text := range printed(v) {
			for _, c := range canaries {
				for _, form := range forms(c) {
					if strings.Contains(text, form) {
						t.Errorf("%T prints a secret: %.80s", v, text)
					}
				}
			}
		}
	}
	if !strings.Contains(fmt.Sprint(b), "ACME/T-0001") {
		t.Errorf("a bundle prints as %v", b)
	}
}

func printed(v any) (out []string) {
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d"} {
		out = append(out, fmt.Sprintf(verb, v))
	}
	if j, err := json.Marshal(v); err == nil {
		out = append(out, string(j))
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "v", v)
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "v", v)
	return append(out, log.String())
}

// forms spells bytes as they could be printed.
func forms(b []byte) []string {
	return []string{
		string(b), hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)),
		strings.Trim(fmt.Sprint(b), "[]"), strings.Trim(strings.TrimPrefix(fmt.Sprintf("%#v", b), "[]byte"), "{}"),
	}
}
