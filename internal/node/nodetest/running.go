// Package nodetest runs a node inside a test: with a passphrase file and a log of its own, until the test ends.
package nodetest

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// Passphrase opens the sealed files of every deployment of a test.
var Passphrase = secret.From([]byte("correct horse battery staple"))

// PassphraseFile writes the passphrase into a file of its own.
func PassphraseFile(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "passphrase")
	if err := os.WriteFile(path, append(bytes.Clone(Passphrase.Expose()), '\n'), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// Must fails the test when there is an error: Must[T](tb)(f()).
func Must[T any](tb testing.TB) func(T, error) T {
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// Main runs the tests of a package, m or what runs it, with a folder that they share, and returns the exit code: making a
// deployment seals many keys.
func Main(m interface{ Run() int }, folder *string) (code int) {
	dir, err := os.MkdirTemp("", "node-")
	if err != nil {
		panic("nodetest: " + err.Error())
	}
	defer func() { _ = os.RemoveAll(dir) }() // temporary
	*folder = dir
	return m.Run()
}

// Running is a node with addresses of type A that listens.
type Running[A any] struct {
	Addrs A
	Log   *Log
	Stop  func() error // ends it and returns what running returned; again and again the same
}

// Start runs a node until Stop or the end of the test, and waits until it is ready.
func Start[A any](tb testing.TB, run func(ctx context.Context, log *slog.Logger, ready func(A)) error) *Running[A] {
	tb.Helper()
	r := &Running[A]{Log: new(Log)}
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan A, 1), make(chan error, 1)
	go func() {
		ended <- run(ctx, slog.New(slog.NewJSONHandler(r.Log, &slog.HandlerOptions{Level: slog.LevelDebug})), func(a A) { ready <- a })
	}()
	r.Stop = sync.OnceValue(func() error { cancel(); return <-ended })
	select {
	case r.Addrs = <-ready:
	case err := <-ended:
		cancel()
		tb.Fatalf("Run: %v", err)
	}
	tb.Cleanup(func() {
		if err := r.Stop(); err != nil {
			tb.Errorf("Run: %v", err)
		}
	})
	return r
}

// Log is a log that many goroutines write.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String returns what was written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Client returns a client that shows a certificate and wants a server of this role at a local address.
func Client(tb testing.TB, cert tls.Certificate, trust tlsconf.Trust, server identity.Role) *http.Client {
	tb.Helper()
	credential, err := tlsconf.NewCredential(cert)
	if err != nil {
		tb.Fatal(err)
	}
	config, err := tlsconf.Client(tlsconf.ClientOptions{
		Credential: credential, Trust: trust, ServerRole: server, ServerName: "localhost", Gate: tlsconf.OpenGate(),
	})
	if err != nil {
		tb.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: config}
	tb.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// Get asks over plain HTTP and returns the status and the body.
func Get(tb testing.TB, url string) (int, string) {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodGet, url, nil)
	if err != nil {
		tb.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }() // it was read
	body, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return res.StatusCode, string(body)
}
