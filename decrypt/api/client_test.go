package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
)

func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	return NewClient(s.URL+"/", s.Client())
}

func answer(status int, kind, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // the client may have gone
	}
}

func TestClientTransaction(t *testing.T) {
	t.Parallel()
	want := TransactionResponse{
		RequestDigest: digest, Type: "sale", Tenant: "ACME", Terminal: "T-1", BootCounter: 2, Sequence: 3,
		Amount:        &Amount{Minor: 1250, Currency: "EUR", Exponent: 2},
		CounterStatus: Fresh, CounterAuthenticated: true,
		Fields: []Field{{
			Slot: 1, KSN: "FFFF9876543210E00001", Usage: "data", KeySet: "KS-1", KCV: "08D7B4", MaskedPAN: "411111******1111",
			ClearData: []byte("4111111111111111"), Labels: Labels{KeyMode: "software", PINExposure: "host-memory", Environment: "test"},
		}},
		RecordedResult: &Recorded{Result: Approved, Body: []byte{9}, Ack: []byte{1, 2}},
	}
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		req, err := ParseTransactionRequest(body)
		if err != nil || r.Method != http.MethodPost || r.URL.Path != PathTransactions || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s %v %v", r.Method, r.URL, r.Header, err)
		}
		if string(req.Message) != "msg" || req.OutgoingPINKey != "alias/zone-1" {
			t.Errorf("request %+v", req)
		}
		b, err := Format(want)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(b) // the client may have gone
	})
	got, err := c.Transaction(t.Context(), TransactionRequest{Message: []byte("msg"), OutgoingPINKey: "alias/zone-1"})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("got %+v, want %+v", *got, want)
	}
}

func TestClientRefusals(t *testing.T) {
	t.Parallel()
	elsewhere := httptest.NewTLSServer(answer(200, "application/json", `{"Ack":"AQID","Recorded":"FIRST"}`))
	t.Cleanup(elsewhere.Close)
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    error // nil: an *Error
		status  int
		code    string
	}{
		{"a refusal", answer(409, "application/json", `{"Code":"KsnReplayed","Message":"used","Hint":"none"}`), nil, 409, "KsnReplayed"},
		{"a refusal that is not ours", answer(502, "text/html", "<h1>proxy says 4111111111111111</h1>"), nil, 502, ""},
		{"a refusal with a member more", answer(409, "application/json", `{"Code":"KsnReplayed","Message":"used","X":1}`), nil, 409, ""},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, nil, 307, ""},
		{"no content", answer(204, "application/json", ""), nil, 204, ""},
		{"not JSON", answer(200, "application/json", "hello"), ErrMalformed, 0, ""},
		{"another kind", answer(200, "text/plain", `{"Ack":"AQID","Recorded":"FIRST"}`), ErrMalformed, 0, ""},
		{"unknown member", answer(200, "application/json", `{"Ack":"AQID","Recorded":"FIRST","More":1}`), ErrMalformed, 0, ""},
		{"null", answer(200, "application/json", `{"Ack":null,"Recorded":"FIRST"}`), ErrMalformed, 0, ""},
		{"member missing", answer(200, "application/json", `{"Recorded":"FIRST"}`), ErrMalformed, 0, ""},
		{"unknown recording", answer(200, "application/json", `{"Ack":"AQID","Recorded":"MAYBE"}`), ErrMalformed, 0, ""},
		{"endless", answer(200, "application/json", `{"Ack":"`+strings.Repeat("AAAA", MaxResponse)+`"}`), ErrTooLarge, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := serve(t, tt.handler).Answer(t.Context(), AnswerRequest{RequestDigest: digest, Result: Approved})
			if got != nil || err == nil {
				t.Fatalf("got %+v, %v", got, err)
			}
			if strings.Contains(err.Error(), "4111111111111111") {
				t.Errorf("error quotes the answer: %v", err)
			}
			if tt.want != nil {
				if !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				return
			}
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Status != tt.status || e.Code != tt.code || IsCode(err, "KsnReplayed") != (tt.code == "KsnReplayed") {
				t.Errorf("got %#v, want status %d and code %q", err, tt.status, tt.code)
			}
		})
	}
}

func TestClientChecksBeforeItSends(t *testing.T) {
	t.Parallel()
	c := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("a bad request was sent") })
	if _, err := c.Transaction(t.Context(), TransactionRequest{}); !errors.Is(err, ErrMalformed) {
		t.Errorf("empty message: %v", err)
	}
	if _, err := c.Transaction(t.Context(), TransactionRequest{Message: make([]byte, MaxMessage+1)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("long message: %v", err)
	}
	if _, err := c.Answer(t.Context(), AnswerRequest{RequestDigest: "x", Result: Approved}); !errors.Is(err, ErrMalformed) {
		t.Errorf("bad digest: %v", err)
	}
	for _, base := range []string{"http://127.0.0.1:1", "127.0.0.1:1", "https://", "https://u:p@127.0.0.1:1", "https://127.0.0.1:1/?a=b"} {
		_, err := NewClient(base, http.DefaultClient).Transaction(t.Context(), TransactionRequest{Message: []byte("m")})
		if err == nil || !strings.Contains(err.Error(), "is not https://HOST") {
			t.Errorf("base URL %s: %v", base, err)
		}
	}
}

func TestClientContext(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	c := serve(t, func(http.ResponseWriter, *http.Request) {
		close(entered)
		<-release
	})
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-entered
		cancel()
	}()
	if _, err := c.Transaction(ctx, TransactionRequest{Message: []byte("m")}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestClientChecksTheAnswer(t *testing.T) {
	t.Parallel()
	const start = `{"Type":"sale","Tenant":"ACME","Terminal":"T-1","BootCounter":1,"Sequence":1,"CounterAuthenticated":true,`
	for body, good := range map[string]bool{
		`"RequestDigest":"` + digest + `","CounterStatus":"FRESH"}`:                                       true,
		`"RequestDigest":"` + digest + `","OriginalDigest":"` + digest + `","CounterStatus":"RESEND"}`:    true,
		`"RequestDigest":"` + digest + `","CounterStatus":"NONE","Code":"Held","Held":true,"Ack":"AQID"}`: true,
		`"RequestDigest":"` + digest + `","CounterStatus":"NONE"}`:                                        false,
		`"RequestDigest":"` + digest + `","CounterStatus":"NONE","Code":"Held"}`:                          false,
		`"RequestDigest":"` + digest + `","CounterStatus":"fresh"}`:                                       false,
		`"RequestDigest":"` + digest + `"}`:                                                               false,
		`"CounterStatus":"FRESH"}`:                                                                        false,
		`"RequestDigest":"` + digest + `","OriginalDigest":"x","CounterStatus":"RESEND"}`:                 false,
	} {
		c := serve(t, answer(200, "application/json", start+body))
		_, err := c.Transaction(t.Context(), TransactionRequest{Message: []byte("m")})
		if (err == nil) != good || (!good && !errors.Is(err, ErrMalformed)) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// A response that never ends costs no more than MaxResponse bytes.
func TestClientEndlessAnswer(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for chunk := []byte(strings.Repeat(" ", 4096)); ; {
			if _, err := w.Write(chunk); err != nil {
				return // the client went away
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := c.Transaction(ctx, TransactionRequest{Message: []byte("m")}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v, want %v", err, ErrTooLarge)
	}
}

func TestClientCounters(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/terminals/T-1/counters" {
			answer(404, "application/json", `{"Code":"NotFound","Message":"no such path"}`)(w, r)
			return
		}
		answer(200, "application/json", `{"Tenant":"ACME","Terminal":"T-1","Status":"active","Slots":[{"Slot":1,"KeySet":"KS-1",`+
			`"KeyID":"FFFF9876543210E00000","High":3,"Seen":4,"Floor":0,"Remaining":1048571,"Conflicts":1}]}`)(w, r)
	})
	got, err := c.Counters(t.Context(), "T-1")
	if err != nil || len(got.Slots) != 1 || got.Slots[0].Seen != 4 {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := c.Counters(t.Context(), "../answer"); !IsCode(err, "NotFound") {
		t.Errorf("a name with dots: %v", err)
	}
}

// TestClientBatch: results come in the order of the messages, and what is no result of each is refused.
func TestClientBatch(t *testing.T) {
	t.Parallel()
	two := BatchRequest{Transactions: []TransactionRequest{{Message: []byte{1}}, {Message: []byte{2}}}}
	good := `{"RequestDigest":"` + digest + `","Type":"sale","Tenant":"ACME","Terminal":"T-1","BootCounter":1,"Sequence":1,"CounterStatus":"FRESH","CounterAuthenticated":true}`
	for name, c := range map[string]struct {
		body string
		ok   bool
	}{
		"good":       {`{"Results":[{"Response":` + good + `},{"Error":{"Code":"KsnReplayed","Message":"used"}}]}`, true},
		"one":        {`{"Results":[{"Response":` + good + `}]}`, false},
		"neither":    {`{"Results":[{"Response":` + good + `},{}]}`, false},
		"both":       {`{"Results":[{"Response":` + good + `,"Error":{"Code":"KsnReplayed","Message":"used"}},{"Error":{"Code":"X","Message":""}}]}`, false},
		"no code":    {`{"Results":[{"Response":` + good + `},{"Error":{"Code":"","Message":"used"}}]}`, false},
		"no digest":  {`{"Results":[{"Response":{"Type":"sale"}},{"Error":{"Code":"X","Message":""}}]}`, false},
		"no results": {`{}`, false},
	} {
		got, err := serve(t, answer(200, "application/json", c.body)).Batch(t.Context(), two)
		if c.ok != (err == nil) || !c.ok && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		if c.ok && (got.Results[0].Response.Sequence != 1 || got.Results[1].Error.Code != "KsnReplayed") {
			t.Errorf("%s: %+v", name, got)
		}
	}
	client := serve(t, answer(500, "application/json", "{}"))
	for name, req := range map[string]BatchRequest{
		"none": {}, "too many": {Transactions: make([]TransactionRequest, MaxBatch+1)}, "an empty one": {Transactions: []TransactionRequest{{}}},
	} {
		if _, err := client.Batch(t.Context(), req); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
