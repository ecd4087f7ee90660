package terminal_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
)

// TestLinkSwitches has the preferred endpoint fail and come back: the link says when it goes and when it returns, once each, and
// what it met at every endpoint.
func TestLinkSwitches(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	down, portal := false, false
	first := serve(t, lab, func(w http.ResponseWriter, _ *http.Request) {
		switch {
		case portal:
			_, _ = w.Write([]byte("a captive portal"))
		case down:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			ack(w, []byte("first"))
		}
	})
	second := serve(t, lab, func(w http.ResponseWriter, _ *http.Request) { ack(w, []byte("second")) })
	w := &timing{}
	var switches []terminal.Switch
	o := w.options()
	o.Switching = func(s terminal.Switch) { switches = append(switches, s) }
	l, err := lab.Bundle(t, terminal.Endpoint{URL: first}, terminal.Endpoint{URL: second}).Link(o)
	check(t, err)
	t.Cleanup(l.Close)
	answered := func(want string) {
		t.Helper()
		check(t, l.Exchange(t.Context(), []byte("m"), func(b []byte) error {
			if string(b) != want {
				t.Errorf("%q answers, want %q", b, want)
			}
			return nil
		}))
	}
	answered("first")
	if len(switches) != 0 {
		t.Errorf("switches at the start: %+v", switches)
	}
	down = true
	answered("second")
	answered("second")
	down = false
	w.passed += time.Minute // the first one has rested
	answered("first")
	portal = true
	answered("second")
	want := []terminal.Switch{{From: first, To: second}, {From: second, To: first}, {From: first, To: second}}
	if !slices.EqualFunc(switches, want, func(a, b terminal.Switch) bool { return a.From == b.From && a.To == b.To }) {
		t.Fatalf("switches %+v, want %+v", switches, want)
	}
	if h, ok := errors.AsType[*terminal.HostError](switches[0].Err); !ok || h.Status != http.StatusServiceUnavailable {
		t.Errorf("it went away because of %v", switches[0].Err)
	}
	if switches[1].Err != nil || !errors.Is(switches[2].Err, terminal.ErrAck) {
		t.Errorf("it went back because of %v, and away again because of %v", switches[1].Err, switches[2].Err)
	}
	met := l.Endpoints()
	if len(met) != 2 || met[0].URL != first || met[1].URL != second {
		t.Fatalf("endpoints %+v", met)
	}
	one, two := met[0], met[1]
	if one.Attempts != 4 || one.Successes != 2 || one.Refused != 1 || one.Rejected != 1 || one.Failures() != 2 || !errors.Is(one.LastError, terminal.ErrAck) {
		t.Errorf("the first endpoint: %+v", one)
	}
	if two.Attempts != 3 || two.Successes != 3 || two.Failures() != 0 || two.LastError != nil {
		t.Errorf("the second endpoint: %+v", two)
	}
}

// TestEndpointKinds has each kind of failure counted as what it is.
func TestEndpointKinds(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	check(t, gone.Close())
	silent, over := make(chan struct{}, 8), make(chan struct{}) // of more than there are requests
	defer close(over)
	url := serve(t, lab, func(http.ResponseWriter, *http.Request) {
		silent <- struct{}{}
		<-over
	})
	mute, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and shakes no hands
	check(t, err)
	defer mute.Close()
	broken := serve(t, lab, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	for _, c := range []struct {
		name, url string
		dial      bool
		response  time.Duration
		got       func(terminal.EndpointCounters) uint64
	}{
		{"mute", "https://" + mute.Addr().String(), false, time.Minute, func(c terminal.EndpointCounters) uint64 { return c.Unreachable }},
		{"mute for Dial", "https://" + mute.Addr().String(), true, time.Minute, func(c terminal.EndpointCounters) uint64 { return c.Unreachable }},
		{"unreachable", "https://" + gone.Addr().String(), false, time.Minute, func(c terminal.EndpointCounters) uint64 { return c.Unreachable }},
		{"unreachable for Dial", "https://" + gone.Addr().String(), true, time.Minute, func(c terminal.EndpointCounters) uint64 { return c.Unreachable }},
		{"silent", url, false, 50 * time.Millisecond, func(c terminal.EndpointCounters) uint64 { return c.Silent }},
		{"abandoned", url, false, time.Minute, func(c terminal.EndpointCounters) uint64 { return c.Abandoned }},
		{"broken", broken, false, time.Minute, func(c terminal.EndpointCounters) uint64 { return c.Broken }},
		{"a success of Dial", url, true, time.Minute, func(c terminal.EndpointCounters) uint64 { return c.Successes }},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		patience := time.Minute
		if strings.HasPrefix(c.name, "mute") {
			patience = 50 * time.Millisecond
		}
		l, err := lab.Bundle(t, terminal.Endpoint{URL: c.url}).Link(terminal.LinkOptions{
			DialTimeout: patience, ResponseTimeout: c.response,
			Sleep: func(context.Context, time.Duration) error { return context.Canceled }, // one attempt
		})
		check(t, err)
		switch {
		case c.dial:
			if conn, err := l.Dial(ctx); err == nil {
				_ = conn.Close()
			}
		case c.name == "abandoned":
			for len(silent) > 0 { // of the cases before
				<-silent
			}
			go func() { <-silent; cancel() }()
			fallthrough
		default:
			if err := l.Exchange(ctx, []byte("m"), func([]byte) error { return nil }); err == nil {
				t.Errorf("%s: answered", c.name)
			}
		}
		cancel()
		met := l.Endpoints()[0]
		failed := c.name != "abandoned" && c.name != "a success of Dial"
		if met.Attempts != 1 || c.got(met) != 1 || failed != (met.Failures() == 1) || failed != (met.LastError != nil) {
			t.Errorf("%s: %+v", c.name, met)
		}
		l.Close()
	}
}

// TestStatusLink has Status say what the terminal's own link met, also after its identity is used anew.
func TestStatusLink(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	n := 0
	url := serve(t, lab, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if n++; n == 1 || err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		answer, err := lab.Host.Receive(body)
		if err != nil {
			t.Error(err)
		}
		ack(w, answer)
	})
	medium := terminaltest.NewFS()
	sealer, err := terminal.CreateInsecureFile(medium)
	check(t, err)
	check(t, terminal.Import(medium, sealer, lab.Bundle(t, terminal.Endpoint{URL: url})))
	term, err := terminal.Open(terminal.Options{FS: medium, Sealer: sealer, Network: terminal.LinkOptions{Backoff: time.Millisecond}})
	check(t, err)
	defer term.Close()
	if l := term.Status().Link; len(l) != 1 || l[0] != (terminal.EndpointCounters{URL: url}) {
		t.Errorf("before: %+v", l)
	}
	_, err = term.SignIn(t.Context())
	check(t, err)
	l := term.Status().Link
	if len(l) != 1 || l[0].Attempts != 2 || l[0].Refused != 1 || l[0].Successes != 1 || l[0].Latency <= 0 || l[0].LastError == nil {
		t.Errorf("after a refusal and an answer: %+v", l)
	}
}
