package serve_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/latchkey-pos/latchkey/internal/serve"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func get(t *testing.T, url string) (int, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), err
}

// TestRequestsUnderWayFinish ends the server while a request is inside a handler: it must get its answer.
func TestRequestsUnderWayFinish(t *testing.T) {
	t.Parallel()
	inside, release := make(chan struct{}), make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(inside)
		<-release
		serve.WriteJSON(w, http.StatusOK, []byte(`{"done":true}`))
	})
	ctx, end := context.WithCancel(t.Context())
	ln := listen(t)
	ended := make(chan error, 1)
	go func() { ended <- serve.Run(ctx, ln, serve.Options{Handler: h, Logger: slog.New(slog.DiscardHandler)}) }()
	answered := make(chan string, 1)
	go func() {
		_, body, err := get(t, "http://"+ln.Addr().String()+"/")
		if err != nil {
			body = err.Error()
		}
		answered <- body
	}()
	<-inside
	end()
	close(release)
	if got := <-answered; got != `{"done":true}` {
		t.Errorf("the request under way got %q", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, _, err := get(t, "http://"+ln.Addr().String()+"/"); err == nil {
		t.Error("the listener still answers")
	}
}

func TestADrainHasAnEnd(t *testing.T) {
	t.Parallel()
	inside, release := make(chan struct{}), make(chan struct{})
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(inside); <-release })
	defer close(release)
	ctx, end := context.WithCancel(t.Context())
	ln := listen(t)
	ended := make(chan error, 1)
	go func() {
		ended <- serve.Run(ctx, ln, serve.Options{Handler: h, Logger: slog.New(slog.DiscardHandler), Drain: time.Millisecond})
	}()
	go func() { _, _, _ = get(t, "http://"+ln.Addr().String()+"/") }() // is cut off
	<-inside
	end()
	if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Run: %v, want requests cut off", err)
	}
}

// TestACrowdWaits opens more connections than a listener takes: none is answered until one of those before it has gone, and
// one that says nothing goes after Idle.
func TestACrowdWaits(t *testing.T) {
	t.Parallel()
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) })
	ctx, end := context.WithCancel(t.Context())
	ln := &counted{Listener: listen(t)}
	ended := make(chan error, 1)
	go func() {
		ended <- serve.Run(ctx, ln, serve.Options{
			Handler: h, Logger: slog.New(slog.DiscardHandler), Idle: 20 * time.Millisecond, Connections: 2,
		})
	}()
	var crowd sync.WaitGroup
	for range 8 {
		crowd.Go(func() {
			c, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = c.Close() }()
			if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Error(err)
			}
			if b, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(b), "hello") { // ends when the server has had enough
				t.Errorf("answered %q, %v", b, err)
			}
		})
	}
	crowd.Wait()
	end()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if most := ln.most.Load(); most != 2 {
		t.Errorf("%d connections at once, want 2", most)
	}
}

// counted counts the connections that are open at once.
type counted struct {
	net.Listener
	open, most atomic.Int64
}

func (l *counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.most.Store(max(l.most.Load(), l.open.Add(1))) // one at a time accepts
	return &countedConn{Conn: c, l: l}, nil
}

type countedConn struct {
	net.Conn
	l    *counted
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.l.open.Add(-1) })
	return c.Conn.Close()
}

func TestAListenerThatFailsEndsRun(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	err := serve.Run(t.Context(), ln, serve.Options{Handler: http.NotFoundHandler(), Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		t.Error("Run on a closed listener: no error")
	}
}

func TestAdminEndpoints(t *testing.T) {
	t.Parallel()
	var failing error
	ready := serve.NewReadiness(
		serve.Check{Name: "store", Run: func(context.Context) error { return failing }},
		serve.Check{Name: "keys", Run: func(context.Context) error { return nil }})
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "latchkey_things_total", Help: "Things."})
	reg.MustRegister(c)
	h := serve.Admin(ready, reg)
	do := func(path string) (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Code, w.Body.String()
	}
	if code, body := do("/readyz"); code != 200 || body != `{"keys":"ok","store":"ok"}` {
		t.Errorf("ready: %d %s", code, body)
	}
	failing = errors.New("disk is full at /var/lib/secret")
	if code, body := do("/readyz"); code != 503 || body != `{"keys":"ok","store":"failed"}` {
		t.Errorf("store down: %d %s", code, body)
	}
	failing = nil
	ready.Drain()
	if code, body := do("/readyz"); code != 503 || !strings.Contains(body, "draining") {
		t.Errorf("draining: %d %s", code, body)
	}
	if code, _ := do("/livez"); code != 200 {
		t.Errorf("live: %d", code)
	}
	if code, body := do("/metrics"); code != 200 || !strings.Contains(body, "latchkey_things_total 0") {
		t.Errorf("metrics: %d %s", code, body)
	}
	if code, body := do("/debug/pprof"); code != 404 || !strings.Contains(body, serve.CodeNotFound) {
		t.Errorf("elsewhere: %d %s", code, body)
	}
}

// TestOneSourceHasItsPart opens more connections from one address than it may have: one more is closed unanswered, another address is
// served, and who leaves makes room.
func TestOneSourceHasItsPart(t *testing.T) {
	t.Parallel()
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) })
	ctx, end := context.WithCancel(t.Context())
	ln := listen(t)
	ended := make(chan error, 1)
	var crowded []string
	go func() {
		ended <- serve.Run(ctx, ln, serve.Options{
			Handler: h, Logger: slog.New(slog.DiscardHandler), Connections: 5, PerSource: 3, Crowded: func(source string) { crowded = append(crowded, source) },
		})
	}()
	dial := func(source string) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
		c, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	answered := func(c net.Conn) bool {
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") // may be closed already
		n, err := c.Read(make([]byte, 1))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("neither answered nor closed")
		}
		return n == 1
	}
	var held []net.Conn
	for range 3 {
		c := dial("127.0.0.1")
		if !answered(c) {
			t.Fatal("one of three is closed")
		}
		held = append(held, c)
	}
	for range 20 {
		if answered(dial("127.0.0.1")) {
			t.Fatal("a fourth is answered")
		}
	}
	if !answered(dial("127.0.0.2")) {
		t.Error("another source is not answered")
	}
	_ = held[0].Close()
	for deadline := time.Now().Add(20 * time.Second); !answered(dial("127.0.0.1")); {
		if time.Now().After(deadline) {
			t.Fatal("who left makes no room")
		}
	}
	end()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if len(crowded) < 20 || slices.ContainsFunc(crowded, func(source string) bool { return source != "127.0.0.1" }) {
		t.Errorf("told of %d connections that were closed: %v, want at least 20, all of 127.0.0.1", len(crowded), crowded)
	}
}
