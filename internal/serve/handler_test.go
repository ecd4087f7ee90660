package serve_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/latchkey-pos/latchkey/internal/serve"
)

type problem struct{ Code, Message, Hint string }

func answer(t *testing.T, h http.Handler, r *http.Request) (*http.Response, problem) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	res := w.Result()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var p problem
	if err := json.Unmarshal(body, &p); err != nil {
		t.Fatalf("body %q is not JSON: %v", body, err)
	}
	return res, p
}

// TestErrorsBecomeProblems holds the one place where an error becomes an answer to its promises.
func TestErrorsBecomeProblems(t *testing.T) {
	t.Parallel()
	busy := &serve.Problem{Status: 503, Code: "StoreUnavailable", Message: "the store is away", Hint: "try again", RetryAfter: 1500 * time.Millisecond}
	cases := []struct {
		name       string
		handler    serve.Handler
		status     int
		code       string
		retryAfter string
	}{
		{"a problem", func(http.ResponseWriter, *http.Request) error { return busy }, 503, "StoreUnavailable", "2"},
		{"a wrapped problem", func(http.ResponseWriter, *http.Request) error { return errors.Join(errors.New("more"), busy) }, 503, "StoreUnavailable", "2"},
		{"another error", func(http.ResponseWriter, *http.Request) error { return errors.New("detail for the log") }, 500, serve.CodeInternal, ""},
		{"a panic", func(http.ResponseWriter, *http.Request) error { panic("dukpt: used after End") }, 500, serve.CodeInternal, ""},
		{"no endpoint", serve.NotFound, 404, serve.CodeNotFound, ""},
		{"another method", serve.MethodNotAllowed("POST"), 405, serve.CodeMethodNotAllowed, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			h := serve.Wrap(c.handler, slog.New(slog.NewJSONHandler(&log, nil)), nil)
			res, p := answer(t, h, httptest.NewRequest("POST", "/secret-path?pan=4111111111111111", nil))
			if res.StatusCode != c.status || p.Code != c.code || res.Header.Get("Retry-After") != c.retryAfter {
				t.Errorf("got %d %s Retry-After %q, want %d %s %q", res.StatusCode, p.Code, res.Header.Get("Retry-After"), c.status, c.code, c.retryAfter)
			}
			if strings.Contains(p.Message, "detail") || p.Message == "" {
				t.Errorf("message %q", p.Message)
			}
			if res.Header.Get("Cache-Control") != "no-store" {
				t.Error("an answer may be stored")
			}
			id := res.Header.Get(serve.RequestIDHeader)
			if id == "" || !strings.Contains(log.String(), id) || !strings.Contains(log.String(), c.code) {
				t.Errorf("log %q lacks id %q or code", log.String(), id)
			}
			if strings.Contains(log.String(), "secret-path") || strings.Contains(log.String(), "4111111111111111") {
				t.Errorf("log %q holds the path", log.String())
			}
		})
	}
}

func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	const limit = 1000
	var got []byte
	h := serve.Handler(func(w http.ResponseWriter, r *http.Request) (err error) {
		got, err = serve.ReadBody(w, r, "application/cbor", limit)
		if err == nil {
			serve.WriteJSON(w, http.StatusOK, []byte(`{"Code":"fine"}`))
		}
		return err
	})
	cases := []struct {
		name, media string
		body        io.Reader
		status      int
		code        string
	}{
		{"just fits", "application/cbor", strings.NewReader(strings.Repeat("x", limit)), 200, "fine"},
		{"parameter", "application/cbor; profile=x", strings.NewReader("{}"), 200, "fine"},
		{"one more", "application/cbor", strings.NewReader(strings.Repeat("x", limit+1)), 413, serve.CodeBodyTooLarge},
		{"another type", serve.TypeJSON, strings.NewReader("{}"), 415, serve.CodeMediaType},
		{"no type", "", strings.NewReader("{}"), 415, serve.CodeMediaType},
		{"breaks off", "application/cbor", io.MultiReader(strings.NewReader("{"), broken{}), 400, serve.CodeBodyUnreadable},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { // in turn: got is shared
			r := httptest.NewRequest("POST", "/", c.body)
			r.Header.Set("Content-Type", c.media)
			res, p := answer(t, h, r)
			if res.StatusCode != c.status || p.Code != c.code {
				t.Errorf("got %d %s, want %d %s", res.StatusCode, p.Code, c.status, c.code)
			}
			if c.status != 200 && got != nil {
				t.Errorf("a refused body was handed on: %d bytes", len(got))
			}
			if c.status == 413 && !strings.Contains(p.Message, "1000 bytes") || c.status == 415 && !strings.Contains(p.Hint, "application/cbor") {
				t.Errorf("told %+v", p)
			}
		})
	}
}

// TestNetwork tells sources apart: an address, and of IPv6 what one customer has.
func TestNetwork(t *testing.T) {
	t.Parallel()
	for from, want := range map[string]string{
		"192.0.2.1:1": "192.0.2.1", "[2001:db8:1:2:3::4]:5": "2001:db8:1:2::/64", "[::ffff:192.0.2.1]:9": "192.0.2.1",
		"2001:db8::1": "2001:db8::/64", "pipe": "unknown", "": "unknown", "[fe80::1%eth0]:1": "fe80::/64",
	} {
		if got := serve.Network(from); got != want {
			t.Errorf("source of %s: %s, want %s", from, got, want)
		}
	}
}

func TestSource(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{"192.0.2.1:4711": "192.0.2.1", "[2001:db8::1]:1": "2001:db8::1", "": "", "@": ""} {
		if got := serve.Source(&http.Request{RemoteAddr: address}); got != want {
			t.Errorf("a request from %q came from %q, want %q", address, got, want)
		}
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestNotesReachTheLogLine(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	mux := http.NewServeMux()
	mux.Handle("POST /things/{id}", serve.Handler(func(w http.ResponseWriter, r *http.Request) error {
		serve.Note(r.Context(), slog.String("terminal", "T-1"))
		if serve.RequestID(r.Context()) == "" {
			t.Error("no request id inside a request")
		}
		serve.WriteJSON(w, http.StatusOK, []byte(`{}`))
		return nil
	}))
	reg := prometheus.NewRegistry()
	observe, err := serve.Traffic(reg)
	if err != nil {
		t.Fatal(err)
	}
	h := serve.Wrap(mux, slog.New(slog.NewJSONHandler(&log, nil)), observe)
	answer(t, h, httptest.NewRequest("POST", "/things/4111111111111111", nil))
	var line map[string]any
	if err := json.Unmarshal(log.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	if line["terminal"] != "T-1" || line["route"] != "POST /things/{id}" || line["status"] != 200.0 {
		t.Errorf("line %v", line)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != 2 || strings.Contains(families[0].String()+families[1].String(), "4111111111111111") {
		t.Errorf("metrics %v", families)
	}
}

// TestAPeerThatIsGone is no failure of the service; a handler that fails one who still listens is.
func TestAPeerThatIsGone(t *testing.T) {
	t.Parallel()
	for level, gone := range map[string]bool{"INFO": true, "ERROR": false} {
		var log bytes.Buffer
		h := serve.Wrap(serve.Handler(func(http.ResponseWriter, *http.Request) error { return errors.New("interrupted") }), slog.New(slog.NewJSONHandler(&log, nil)), nil)
		ctx, cancel := context.WithCancel(t.Context())
		if gone {
			cancel()
		}
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/", nil))
		cancel()
		if !strings.Contains(log.String(), `"level":"`+level+`","msg":"request"`) {
			t.Errorf("gone %t: %s", gone, &log)
		}
	}
}

// TestEveryProblemIsListed keeps the list for the documentation complete and its codes apart.
func TestEveryProblemIsListed(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, p := range serve.Problems() {
		if seen[p.Code] || p.Status < 400 || p.Message == "" || p.Hint == "" {
			t.Errorf("problem %+v", p)
		}
		seen[p.Code] = true
	}
	for _, code := range []string{serve.CodeInternal, serve.CodeNotFound, serve.CodeMethodNotAllowed, serve.CodeBodyTooLarge, serve.CodeBodyUnreadable, serve.CodeMediaType} {
		if !seen[code] {
			t.Errorf("%s is not listed", code)
		}
	}
}
