package serve

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// RequestIDHeader is the header of every answer that carries the request id, as it stands in the log.
const RequestIDHeader = "Request-Id"

// Handler answers a request or returns an error and has written nothing. An error that wraps a *Problem is told to the
// client; of any other the client learns nothing and the log everything, so such errors hold no secret.
type Handler func(w http.ResponseWriter, r *http.Request) error

// NotFound is the Handler of every path that is no endpoint.
func NotFound(http.ResponseWriter, *http.Request) error { return notFound() }

// MethodNotAllowed returns the Handler of an endpoint for every method but allow.
func MethodNotAllowed(allow string) Handler {
	return func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Allow", allow)
		return methodNotAllowed(allow)
	}
}

// ServeHTTP calls the handler and writes its error.
func (h Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	note(r).route(r.Pattern)
	err := h(w, r)
	if err == nil {
		return
	}
	p := problemOf(err)
	Note(r.Context(), slog.String("code", p.Code))
	if p.Code == CodeInternal {
		Note(r.Context(), slog.String("error", err.Error()))
	}
	p.write(w)
}

// notes are what is known about one request when it ends.
type notes struct {
	mu      sync.Mutex
	id      string
	pattern string
	attrs   []slog.Attr
}

type notesKey struct{}

func note(r *http.Request) *notes {
	n, ok := r.Context().Value(notesKey{}).(*notes)
	if !ok {
		return new(notes) // outside Wrap, as in tests of one handler: nobody reads them
	}
	return n
}

func (n *notes) route(pattern string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pattern = pattern
}

// Note adds public values, such as a KSN or a code, to the log line of the request that ctx belongs to. Outside Wrap it
// does nothing.
func Note(ctx context.Context, attrs ...slog.Attr) {
	n, ok := ctx.Value(notesKey{}).(*notes)
	if !ok {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.attrs = append(n.attrs, attrs...)
}

// RequestID returns the id of the request that ctx belongs to, or "" outside Wrap.
func RequestID(ctx context.Context) string {
	n, ok := ctx.Value(notesKey{}).(*notes)
	if !ok {
		return ""
	}
	return n.id
}

// Source returns the address that a request came from, without its port, for records of who did what: "" where there is none.
func Source(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}

// Observer is told about every finished request: its route, its status and how long it took.
type Observer func(pattern string, status int, took time.Duration)

// requestTimeout bounds the work on one request; the client hears of the failure before its own time-out.
const requestTimeout = 10 * time.Second

// Wrap gives every request of next an id, a deadline and a line of log, and turns a panic into an internal error. The
// observer may be nil.
func Wrap(next http.Handler, log *slog.Logger, observe Observer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		n := &notes{id: rand.Text()}
		ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), notesKey{}, n), requestTimeout)
		defer cancel()
		w.Header().Set(RequestIDHeader, n.id)
		rec := &recorder{ResponseWriter: w}
		defer func() {
			if v := recover(); v != nil {
				Note(ctx, slog.String("code", CodeInternal), slog.String("panic", panicText(v)))
				if rec.status == 0 {
					internalError().write(rec)
				}
			}
			n.finish(ctx, log, observe, r.Method, rec.status, time.Since(start))
		}()
		next.ServeHTTP(rec, r.WithContext(ctx))
	})
}

// panicText tells a panic of our own packages, which hold no values, apart from others, which might.
func panicText(v any) string {
	if err, ok := v.(error); ok {
		return err.Error()
	}
	if s, ok := v.(string); ok {
		return s
	}
	return "of another type"
}

func (n *notes) finish(ctx context.Context, log *slog.Logger, observe Observer, method string, status int, took time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if observe != nil {
		observe(n.pattern, status, took)
	}
	level := slog.LevelInfo
	gone := errors.Is(ctx.Err(), context.Canceled) // the peer has hung up: nobody was failed
	if status >= http.StatusInternalServerError && !gone {
		level = slog.LevelError
	}
	attrs := append([]slog.Attr{
		slog.String("request", n.id), slog.String("method", known(method)), slog.String("route", n.pattern),
		slog.Int("status", status), slog.Duration("took", took),
	}, n.attrs...)
	log.LogAttrs(context.WithoutCancel(ctx), level, "request", attrs...)
}

// known returns a method of HTTP, or "other": a client may write anything there.
func known(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions:
		return method
	}
	return "other"
}

// recorder remembers the status.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
