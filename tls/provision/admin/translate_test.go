package admin

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/latchkey-pos/latchkey/internal/serve"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// TestCausesAreForTheLog has the cause of a refusal in the log and not in the answer.
func TestCausesAreForTheLog(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	h := serve.Wrap(serve.Handler(func(_ http.ResponseWriter, r *http.Request) error {
		return provision.Problem(r.Context(), &provision.Refusal{Code: provision.CodeStoreUnavailable, Cause: errors.New("the disk is gone")})
	}), slog.New(slog.NewJSONHandler(&log, nil)), nil)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	if w.Code != 503 || !strings.Contains(log.String(), "the disk is gone") || strings.Contains(w.Body.String(), "disk is gone") {
		t.Errorf("answer %d %s, log %s", w.Code, w.Body, log.String())
	}
}

// FuzzParsePart reads parts of lists as the face does: what reads is written back and reads as the same part.
func FuzzParsePart(f *testing.F) {
	for _, seed := range []string{
		`{"Dry":true,"Terminals":[{"Terminal":"T-1","Slots":[{"Slot":1,"KeySet":"DATA-1"}],"Endpoints":["https://a.example"]}]}`,
		`{"Approval":"X","Seed":"` + strings.Repeat("0a", 32) + `","Terminals":[{"Terminal":"T-1","Group":"G","Labels":[{"Key":"k","Value":"v"}]},{"Terminal":"T-2"}]}`,
	} {
		if _, err := parsePart([]byte(seed)); err != nil {
			f.Fatalf("%s: %v", seed, err)
		}
		f.Add([]byte(seed))
	}
	f.Add([]byte(`{"Terminals":[{"Terminal":"T-1"}]}`))
	f.Add([]byte(`{"Dry":true,"Terminals":[{"Terminal":"T-1","Labels":[{"Key":"k"}]}]}`))
	f.Add([]byte(`{"Dry":true,"Terminals":[]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := parsePart(body)
		if err != nil {
			if q, ok := errors.AsType[*serve.Problem](err); !ok || q.Status != http.StatusBadRequest {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		w := Part{Approval: p.Approval, Dry: p.Dry}
		if !p.Dry {
			w.Seed = hex.EncodeToString(p.Seed.Expose())
		}
		for _, r := range p.All {
			w.All = append(w.All, describeRegistration(r))
		}
		again, err := json.Marshal(w)
		if err != nil {
			t.Fatal(err)
		}
		same, err := parsePart(again)
		if err != nil || !same.Seed.Equal(p.Seed) || fmt.Sprint(same.All) != fmt.Sprint(p.All) || same.Approval != p.Approval {
			t.Fatalf("%s reads as %+v, and %s as %+v (%v)", body, p, again, same, err)
		}
	})
}

// FuzzParseOperation reads operations as the face does: what reads is written back and reads as the same operation, and
// what does not is a problem of the caller.
func FuzzParseOperation(f *testing.F) {
	for _, seed := range []string{
		`{"Action":"block","Terminal":"T-1"}`,
		`{"Action":"register","Terminal":"T-1","Slots":[{"Slot":1,"KeySet":"DATA-1"}],"Endpoints":["https://localhost:8444"],"Reason":"shop \u0037"}`,
		`{"Action":"code","Terminal":"T-1","Short":true,"Lifetime":900}`,
		`{"Action":"drain","Terminal":"T-1","Slot":1,"KeyId":"1234567800000001","First":3,"Last":9,"Count":2,"Until":1800000000}`,
		`{"Action":"label","Terminal":"T-1","Group":"NORTH","Labels":[{"Key":"city","Value":"Graz"}]}`,
		`{"Action":"register-fleet","Total":2,"Lifetime":900,"Parts":["` + strings.Repeat("0a", 32) + `"]}`,
		`{"Action":"compromise-set","KeySet":"DATA-1","Successor":"DATA-2"}`,
		`{"Action":"rekey","Terminal":"T-1","Slots":[{"Slot":2,"KeySet":"DATA-1"}],"Endpoints":[]}`,
	} {
		if _, err := parseOperation([]byte(seed)); err != nil {
			f.Fatalf("%s: %v", seed, err)
		}
		f.Add([]byte(seed))
	}
	f.Add([]byte(`{"Action":"block","Terminal":"T-1","Reason":null}`))
	f.Add([]byte(`{"Action":"label","Terminal":"T-1","Labels":[{"Key":"z"}]}`))
	f.Add([]byte(`{"Action":"label","Terminal":"T-1","Labels":[{"Value":"z"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		op, err := parseOperation(body)
		if err != nil {
			if p, ok := errors.AsType[*serve.Problem](err); !ok || p.Status != http.StatusBadRequest {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		again, err := json.Marshal(describeOperation(op))
		if err != nil {
			t.Fatalf("%s is not written back: %v", body, err)
		}
		same, err := parseOperation(again)
		if err != nil || !reflect.DeepEqual(same, op) {
			t.Fatalf("%s reads as %+v, and %s as %+v (%v)", body, op, again, same, err)
		}
	})
}

// describeRegistration is a terminal of a list in the words of the wire.
func describeRegistration(r provision.Registration) Registration {
	return Registration{
		Terminal: string(r.Terminal), Slots: describeSlots(r.Slots), Endpoints: r.Endpoints, Group: string(r.Group), Labels: describeLabels(r.Labels),
	}
}
