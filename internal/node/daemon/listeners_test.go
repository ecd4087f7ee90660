package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/serve"
)

// door answers with its name. When it is held it first says that it was reached, and waits.
func door(name string, late bool, reached chan<- struct{}, held <-chan struct{}) *Door {
	return &Door{Name: name, Address: "127.0.0.1:0", Late: late, Options: serve.Options{
		Logger: slog.New(slog.DiscardHandler),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if held != nil {
				close(reached)
				<-held
			}
			_, _ = io.WriteString(w, name)
		}),
	}}
}

// ask returns what a door answers, and the empty text when it does not.
func ask(ctx context.Context, d *Door) string {
	transport := &http.Transport{DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.Addr(), nil)
	if err != nil {
		return ""
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return ""
	}
	defer func() { _ = res.Body.Close() }()
	body, _ := io.ReadAll(res.Body)
	return string(body)
}

func opened(t *testing.T, ds Doors) Doors {
	t.Helper()
	if err := ds.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return ds
}

// TestLateDoorsAreTheLast ends a daemon while a request is under way: it gets its answer, operators are answered until then,
// and so long the loops go on.
func TestLateDoorsAreTheLast(t *testing.T) {
	t.Parallel()
	reached, held := make(chan struct{}), make(chan struct{})
	service, admin := door("service", false, reached, held), door("admin", true, nil, nil)
	ds := opened(t, Doors{service, admin})
	ctx, end := context.WithCancel(t.Context())
	defer end()
	var looping atomic.Bool
	looping.Store(true)
	loop := func(ctx context.Context) error { <-ctx.Done(); looping.Store(false); return nil }
	drained, ended, answered := make(chan struct{}), make(chan error, 1), make(chan string, 1)
	go func() { ended <- ds.Serve(ctx, func() { close(drained) }, loop) }()
	go func() { answered <- ask(t.Context(), service) }()
	<-reached
	end()
	<-drained
	for deadline := time.Now().Add(20 * time.Second); !closed(service); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the listener of the service stays open")
		}
	}
	if got := ask(t.Context(), admin); got != "admin" || !looping.Load() {
		t.Errorf("while a request is under way: admin says %q, loop %v", got, looping.Load())
	}
	close(held)
	if got := <-answered; got != "service" {
		t.Errorf("the request under way got %q", got)
	}
	if err := <-ended; err != nil || looping.Load() {
		t.Errorf("at the end: %v, loop %v", err, looping.Load())
	}
	if !closed(admin) {
		t.Error("after the end the listener of admin is open")
	}
}

// closed reports whether a door that was open is closed.
func closed(d *Door) bool {
	return errors.Is(d.ln.(*net.TCPListener).SetDeadline(time.Time{}), net.ErrClosed)
}

// TestADoorThatCannotOpen closes those that could.
func TestADoorThatCannotOpen(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	ds := Doors{door("terminals", false, nil, nil), door("services", false, nil, nil), door("admin", true, nil, nil)}
	ds[1].Address = taken.Addr().String()
	if err := ds.Open(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "services: ") {
		t.Errorf("Open: %v", err)
	}
	if !closed(ds[0]) || ds[2].ln != nil {
		t.Error("a door is open")
	}
}

func TestDoorsThatNobodyServes(t *testing.T) {
	t.Parallel()
	ds := opened(t, Doors{door("service", false, nil, nil), door("admin", true, nil, nil)})
	if err := ds.Close(); err != nil {
		t.Error(err)
	}
	if !closed(ds[0]) || !closed(ds[1]) {
		t.Error("a door is open")
	}
}

// TestRun tells that it is ready once the first checkpoint is signed, and signs a last one at the end; it opens no door for long
// where none can be signed.
func TestRun(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]error{"signed": nil, "not signed": errors.New("the disk is gone")} {
		log := &counted{fault: fault}
		c := &Checkpoints{Log: log, File: filepath.Join(t.TempDir(), "checkpoint"), Every: time.Hour, Logger: slog.New(slog.DiscardHandler)}
		ds := Doors{door("service", false, nil, nil), door("admin", true, nil, nil)}
		ctx, end := context.WithCancel(t.Context())
		ready := ""
		err := ds.Run(ctx, c, serve.NewReadiness(), func() { ready = read(t, c.File); end() })
		end()
		if fault != nil && (!errors.Is(err, fault) || !strings.HasPrefix(err.Error(), "checkpoint-file: ") || ready != "") {
			t.Errorf("%s: %v, ready with %q", name, err, ready)
		}
		if fault == nil && (err != nil || ready != "checkpoint 1" || read(t, c.File) != "checkpoint 2") {
			t.Errorf("%s: %v, ready with %q", name, err, ready)
		}
		if !closed(ds[0]) || !closed(ds[1]) {
			t.Errorf("%s: a door is open", name)
		}
	}
}

// TestWhatFailsEndsEverything has a listener or a loop fail: the rest ends in order, and the error comes back.
func TestWhatFailsEndsEverything(t *testing.T) {
	t.Parallel()
	broken := errors.New("the loop is broken")
	for name, c := range map[string]struct {
		closed int // the door whose listener fails
		loop   error
		want   error
	}{"service": {0, nil, net.ErrClosed}, "admin": {1, nil, net.ErrClosed}, "loop": {-1, broken, broken}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ds := opened(t, Doors{door("service", false, nil, nil), door("admin", true, nil, nil)})
			if c.closed >= 0 {
				if err := ds[c.closed].ln.Close(); err != nil {
					t.Fatal(err)
				}
			}
			loop := func(ctx context.Context) error {
				if c.loop == nil {
					<-ctx.Done()
				}
				return c.loop
			}
			drained := false
			if err := ds.Serve(t.Context(), func() { drained = true }, loop); !errors.Is(err, c.want) || !drained {
				t.Errorf("Serve: %v, want %v; drained: %v", err, c.want, drained)
			}
			if !closed(ds[0]) || !closed(ds[1]) {
				t.Error("a door is open")
			}
		})
	}
}
