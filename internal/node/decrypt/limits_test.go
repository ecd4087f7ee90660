package decrypt

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/internal/node/daemon"
)

// told is what a client sees of an answer.
type told struct {
	status     int
	code       string
	exception  string
	retryAfter int
}

func (r *running) post(path, body string) told {
	r.tb.Helper()
	req := must[*http.Request](r.tb)(http.NewRequestWithContext(r.tb.Context(), http.MethodPost, "https://"+r.addrs.Service+path, strings.NewReader(body)))
	req.Header.Set("Content-Type", "application/json")
	res := must[*http.Response](r.tb)(r.client(r.place.acquirer).Do(req))
	defer func() { _ = res.Body.Close() }()
	text := must[[]byte](r.tb)(io.ReadAll(res.Body))
	out := told{status: res.StatusCode, exception: res.Header.Get("X-Amzn-Errortype")}
	var said struct{ Code string }
	_ = json.NewDecoder(bytes.NewReader(text)).Decode(&said) // of an answer that is no refusal there is none
	out.code = said.Code
	if text := res.Header.Get("Retry-After"); text != "" {
		out.retryAfter = must[int](r.tb)(strconv.Atoi(text))
	}
	return out
}

func (r *running) saleRequest(ordinal uint32) string {
	return `{"Message":"` + base64.StdEncoding.EncodeToString(r.sale(ordinal, 100)) + `","OutgoingPINKey":"alias/zone-1"}`
}

// TestARateOverTheWire asks too often, in both kinds of words: the same number goes through, and each refusal says when to come again.
func TestARateOverTheWire(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	c.Limits = &LimitsConfig{Caller: &RateConfig{Burst: 8, Count: 1, Per: daemon.Duration(time.Hour)}}
	r := start(t, p, c)
	got := map[int]int{}
	for i := range 12 {
		a := r.post("/transactions", r.saleRequest(uint32(i+1)))
		got[a.status]++
		if a.status == http.StatusTooManyRequests && (a.code != string(decrypt.CodeRateLimited) || a.retryAfter < 1 || a.retryAfter > 3600) {
			t.Errorf("number %d: %+v", i, a)
		}
	}
	if got[http.StatusOK] != 8 || got[http.StatusTooManyRequests] != 4 {
		t.Errorf("answers by status: %v", got)
	}
	a := r.post("/mac/verify", `{}`)
	if a.status != http.StatusTooManyRequests || a.exception != "ThrottlingException" || a.code != string(decrypt.CodeRateLimited) || a.retryAfter < 1 {
		t.Errorf("in the words of AWS: %+v", a)
	}
	_, metrics := r.admin("/metrics")
	for _, want := range []string{`latchkey_transactions_total{result="RateLimited"} 4`, `latchkey_calls_total{action="verify-mac",result="RateLimited"} 1`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	r.stop()
	if n := refusals(t, c.Database)[decrypt.CodeRateLimited]; n != 1 {
		t.Errorf("%d refusals in the audit log, want the first", n)
	}
}

// TestMoreThanCanWait has a batch take the one place there is, and asks for another meanwhile: it is told to come again, and is fresh when it
// does.
func TestMoreThanCanWait(t *testing.T) {
	t.Parallel()
	const size, rounds = 100, 20
	p, c := testConfig(t)
	c.Limits = &LimitsConfig{Working: 1, Waiting: 1, Patience: daemon.Duration(10 * time.Millisecond)}
	r := start(t, p, c)
	ordinal, shed, answered, sent := uint32(1), 0, 0, 0
	for round := 0; shed == 0; round++ {
		if round == rounds {
			t.Fatalf("in %d batches nothing was ever turned away", rounds)
		}
		messages := make([]string, size)
		for i := range messages {
			messages[i], ordinal = r.saleRequest(ordinal), ordinal+1
		}
		done := make(chan told, 1)
		go func() { done <- r.post("/transactions/batch", `{"Transactions":[`+strings.Join(messages, ",")+`]}`) }()
		sent += size
		for over := false; !over; {
			single := r.saleRequest(ordinal)
			a := r.post("/transactions", single)
			switch {
			case a.status == http.StatusOK:
				answered, ordinal = answered+1, ordinal+1
			case a.status == http.StatusServiceUnavailable && a.code == string(decrypt.CodeOverloaded) && a.retryAfter > 0:
				shed++
			default:
				t.Fatalf("%+v", a)
			}
			select {
			case a := <-done:
				if a.status == http.StatusServiceUnavailable { // the single one was there first
					sent -= size
				} else if a.status != http.StatusOK {
					t.Fatalf("batch: %+v", a)
				}
				over = true
			default:
			}
		}
	}
	if a := r.post("/transactions", r.saleRequest(ordinal)); a.status != http.StatusOK {
		t.Errorf("what was turned away, again: %+v", a)
	}
	_, metrics := r.admin("/metrics")
	want := fmt.Sprintf(`latchkey_transactions_total{result="FRESH"} %d`, sent+answered+1)
	if !strings.Contains(metrics, want) || strings.Contains(metrics, `result="RESEND"`) {
		t.Errorf("metrics lack %s, or something was answered twice: what was turned away had been claimed", want)
	}
}

// TestABodyHasItsBound shortens what a request may have.
func TestABodyHasItsBound(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	c.Limits = &LimitsConfig{Body: 1024}
	r := start(t, p, c)
	for _, path := range []string{"/transactions", "/transactions/answer", "/mac/verify"} {
		if a := r.post(path, strings.Repeat(" ", 1025)); a.code != string(decrypt.CodeBodyTooLarge) {
			t.Errorf("%s: %+v", path, a)
		}
		if a := r.post(path, strings.Repeat(" ", 1024)); a.code != string(decrypt.CodeRequestMalformed) {
			t.Errorf("%s, within: %+v", path, a)
		}
	}
}
