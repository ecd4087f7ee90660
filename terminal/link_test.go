package terminal_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// serve listens as the acquirer's host of the lab.
func serve(t *testing.T, lab *terminaltest.Lab, h http.HandlerFunc) string {
	t.Helper()
	config, err := tlsconf.Server(tlsconf.ServerOptions{
		Credential: lab.Server(t), Trust: lab.Trust, Accept: []identity.Role{identity.Terminal}, Gate: tlsconf.OpenGate(),
	})
	check(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	_ = srv.Listener.Close() // replaced by one with our TLS configuration
	srv.Listener = tls.NewListener(l, config)
	srv.Start()
	t.Cleanup(srv.Close)
	return "https://" + l.Addr().String()
}

// timing records what a link waits for, and does not wait: its clock goes on at once.
type timing struct {
	limits, pauses []time.Duration
	states         []terminal.LinkState
	passed         time.Duration
}

func (w *timing) options() terminal.LinkOptions {
	start := time.Now()
	return terminal.LinkOptions{
		Sleep: func(ctx context.Context, d time.Duration) error {
			w.pauses = append(w.pauses, d)
			w.passed += d
			return ctx.Err()
		},
		Jitter: func(most time.Duration) time.Duration {
			w.limits = append(w.limits, most)
			return most / 2
		},
		Events: func(s terminal.LinkState) { w.states = append(w.states, s) },
	}.WithNow(func() time.Time { return start.Add(w.passed) })
}

func newLink(t *testing.T, lab *terminaltest.Lab, w *timing, urls ...string) *terminal.Link {
	t.Helper()
	var endpoints []terminal.Endpoint
	for _, u := range urls {
		endpoints = append(endpoints, terminal.Endpoint{URL: u})
	}
	l, err := lab.Bundle(t, endpoints...).Link(w.options())
	check(t, err)
	t.Cleanup(l.Close)
	return l
}

func ack(w http.ResponseWriter, b []byte) {
	w.Header().Set("Content-Type", "application/cbor")
	_, _ = w.Write(b)
}

func TestLinkRetries(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	n := 0
	url := serve(t, lab, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		n++
		switch n {
		case 1:
			w.WriteHeader(http.StatusBadGateway)
		case 2:
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		case 3:
			_, _ = io.WriteString(w, "a captive portal")
		case 4:
			ack(w, make([]byte, message.MaxSize+1))
		case 5:
			panic(http.ErrAbortHandler)
		default:
			ack(w, body)
		}
	})
	w := &timing{}
	l := newLink(t, lab, w, url)
	check(t, l.Exchange(t.Context(), []byte("the message"), func(b []byte) error {
		if string(b) != "the message" {
			t.Errorf("the host received %q", b)
		}
		return nil
	}))
	ms := time.Millisecond
	if want := []time.Duration{500 * ms, 1000 * ms, 2000 * ms, 4000 * ms, 8000 * ms}; !slices.Equal(w.limits, want) {
		t.Errorf("limits of the pauses %v, want %v", w.limits, want)
	}
	if want := []time.Duration{250 * ms, 7500 * ms, 1000 * ms, 2000 * ms, 4000 * ms}; !slices.Equal(w.pauses, want) {
		t.Errorf("pauses %v, want %v", w.pauses, want)
	}
	if want := []terminal.LinkState{terminal.Offline, terminal.Online}; !slices.Equal(w.states, want) {
		t.Errorf("states %v, want %v", w.states, want)
	}
	if c, want := l.Counters(), (terminal.LinkCounters{
		Dials: l.Counters().Dials, Sent: 6, Answered: 1, Broken: 1, Rejected: 2, Refused: 2, Pauses: 5,
	}); c != want {
		t.Errorf("counters %+v, want %+v", c, want)
	}
}

func TestLinkFallsBack(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	down := true
	first := serve(t, lab, func(w http.ResponseWriter, _ *http.Request) {
		if down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		ack(w, []byte("first"))
	})
	second := serve(t, lab, func(w http.ResponseWriter, _ *http.Request) { ack(w, []byte("second")) })
	w := &timing{}
	l := newLink(t, lab, w, first, second)
	for _, want := range []string{"second", "second", "first"} {
		check(t, l.Exchange(t.Context(), []byte("m"), func(b []byte) error {
			if string(b) != want {
				t.Errorf("answer of %q, want %q", b, want)
			}
			return nil
		}))
		if !down { // the first one is back, and tried again when its rest is over
			w.passed += terminal.Rest
		}
		down = false
	}
	if refused := l.Counters().Refused; refused != 1 {
		t.Errorf("the first endpoint was tried %d times while it was down, want once", refused)
	}
	if want := []terminal.LinkState{terminal.Degraded, terminal.Online}; !slices.Equal(w.states, want) {
		t.Errorf("states %v, want %v", w.states, want)
	}
}

func TestLinkRefusedForGood(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	url := serve(t, lab, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"Code":"KsnReplayed","Message":"used\u001b[31m before"}`)
	})
	w := &timing{}
	err := newLink(t, lab, w, url).Exchange(t.Context(), []byte("m"), func([]byte) error { return nil })
	h, ok := errors.AsType[*terminal.HostError](err)
	if !ok || h.Status != 409 || h.Code != "KsnReplayed" || h.Message != "used[31m before" || len(w.pauses) != 0 {
		t.Errorf("%v after %d pauses", err, len(w.pauses))
	}
}

func TestLinkTrustsHostsOnly(t *testing.T) {
	t.Parallel()
	lab, other := terminaltest.NewLab(t, dukpt.AES), terminaltest.NewLab(t, dukpt.AES)
	url := serve(t, other, func(w http.ResponseWriter, _ *http.Request) { ack(w, []byte("hello")) })
	ctx, cancel := context.WithCancel(t.Context())
	w := &timing{}
	o := w.options()
	o.Sleep = func(context.Context, time.Duration) error {
		cancel()
		return context.Canceled
	}
	l, err := lab.Bundle(t, terminal.Endpoint{URL: url}).Link(o)
	check(t, err)
	defer l.Close()
	err = l.Exchange(ctx, []byte("m"), func([]byte) error {
		t.Error("an answer from a host of another authority")
		return nil
	})
	if err == nil {
		t.Error("no error")
	}
}
