package api_test

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/api"
)

func TestPrint(t *testing.T) {
	t.Parallel()
	const track, block = ";4111111111111111=29121010000000000?", "1B9C1845EB993A7A"
	f := api.Field{Slot: 1, KSN: "FFFF9876543210E00001", Usage: "data", KeySet: "CARDS", MaskedPAN: "411111******1111", ClearData: []byte(track)}
	p := api.Field{Slot: 2, Usage: "pin", PINBlock: block, PINKey: "alias/zone-1"}
	r := api.TransactionResponse{Type: "sale", Tenant: "SHOP", Terminal: "T-1", Sequence: 7, CounterStatus: api.Fresh, Fields: []api.Field{f, p}}
	var out strings.Builder
	text, js := slog.New(slog.NewTextHandler(&out, nil)), slog.New(slog.NewJSONHandler(&out, nil))
	for _, v := range []any{f, &f, []api.Field{f, p}, r, &r, struct{ R api.TransactionResponse }{r}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d"} {
			fmt.Fprintf(&out, verb, v)
		}
	}
	for _, v := range []any{f, &f, r, &r} {
		text.Info("v", "v", v)
		js.Info("v", "v", v)
	}
	for _, leak := range []string{track, track[1:17], block, base64.StdEncoding.EncodeToString([]byte(track))[:20], fmt.Sprintf("%x", track[:8]), fmt.Sprint([]byte(track[:4]))[1:8]} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("printed %q", leak)
		}
	}
	if !strings.Contains(out.String(), "411111******1111") {
		t.Error("nothing was printed")
	}
	wire, err := api.Format(&r)
	if err != nil || !strings.Contains(string(wire), base64.StdEncoding.EncodeToString([]byte(track))) {
		t.Errorf("the wire lost the data: %v", err)
	}
}
