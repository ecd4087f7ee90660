package pin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// TestNothingPrints looks for the digits, as characters and as bytes, in every way a value is likely to be printed.
func TestNothingPrints(t *testing.T) {
	t.Parallel()
	type holder struct {
		Exported PIN
		hidden   PIN
		Opened   Opened
		opened   Opened
		PAN      PAN
		pan      PAN
	}
	p, pan := mustPIN(t, "937261"), mustPAN(t, "4929123458769871")
	o := openedOf(t, Format0, "937261", pan)
	h := holder{p, p, o, o, pan, pan}
	var printed []string
	for _, v := range []any{p, &p, o, &o, pan, &pan, h, &h, []PIN{p}, []Opened{o}, map[string]PAN{"a": pan}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%o", "%b", "%c", "%U", "%t"} {
			printed = append(printed, fmt.Sprintf(verb, v))
		}
		var text, js bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&js, nil)).Info("x", "v", v)
		j, err := json.Marshal(v)
		printed = append(printed, text.String(), js.String(), string(j), fmt.Sprint(err))
	}
	secrets := []string{"937261", "\x09\x03\x07\x02\x06\x01", "090307020601", "9 3 7 2 6 1", "912345", "1234587", "31323334", "49 50 51 52"}
	for _, s := range printed {
		for _, secret := range secrets {
			if strings.Contains(s, secret) {
				t.Errorf("%q shows %q", s, secret)
			}
		}
	}
	if got := fmt.Sprintf("%v %v %s", p, o, pan); got != "[PIN] [PIN] 492912******9871" {
		t.Errorf("prints %q", got)
	}
}
