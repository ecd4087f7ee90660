package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/latchkey-pos/latchkey/internal/serve"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// relay stands between the registration authority and the key-distribution host: somebody who has got into the machine of
// the host, holds the key of its listener, and not the one that signs deliveries. It is safe for concurrent use.
type relay struct {
	next string // URL of the key-distribution host
	call *http.Client

	mu     sync.Mutex
	meddle func(path string, answer []byte) []byte // nil: everything passes unchanged
}

// newRelay listens with the certificate of the key-distribution host and calls on with that of the registration
// authority. It serves until ctx ends.
func newRelay(ctx context.Context, b *site, next string) (*relay, string, error) {
	trust, err := b.deployment.Trust()
	if err != nil {
		return nil, "", err
	}
	door, err := b.credential("keydist")
	if err != nil {
		return nil, "", err
	}
	caller, err := b.credential("ra")
	if err != nil {
		return nil, "", err
	}
	server, err := tlsconf.Server(tlsconf.ServerOptions{
		Credential: door, Trust: trust, Accept: []identity.Role{identity.RA}, Gate: tlsconf.OpenGate(),
	})
	if err != nil {
		return nil, "", err
	}
	client, err := tlsconf.Client(tlsconf.ClientOptions{
		Credential: caller, Trust: trust, ServerRole: identity.KDH, Gate: tlsconf.OpenGate(),
	})
	if err != nil {
		return nil, "", err
	}
	r := &relay{next: next, call: &http.Client{Transport: &http.Transport{TLSClientConfig: client}, Timeout: demoTimeout}}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	b.run(func() error {
		return serve.Run(ctx, l, serve.Options{Handler: r, TLS: server, Logger: b.log.With(slog.String("service", "relay"))})
	})
	return r, "https://" + l.Addr().String(), nil
}

// ServeHTTP passes a request on, and what comes back through meddle.
func (r *relay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	answer, header, status, err := r.forward(req)
	if err != nil {
		http.Error(w, "the key-distribution host does not answer", http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", header.Get("Content-Type"))
	w.WriteHeader(status)
	_, _ = w.Write(answer) // the peer is gone; there is nobody left to tell
}

func (r *relay) forward(req *http.Request) ([]byte, http.Header, int, error) {
	body, err := io.ReadAll(io.LimitReader(req.Body, 1<<20))
	if err != nil {
		return nil, nil, 0, err
	}
	out, err := http.NewRequestWithContext(req.Context(), req.Method, r.next+req.URL.Path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, 0, err
	}
	out.Header.Set("Content-Type", req.Header.Get("Content-Type"))
	resp, err := r.call.Do(out)
	if err != nil {
		return nil, nil, 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, nil, 0, fmt.Errorf("answer: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.meddle != nil && resp.StatusCode == http.StatusOK {
		answer = r.meddle(req.URL.Path, answer)
	}
	return answer, resp.Header, resp.StatusCode, nil
}

// with has a function see every answer while work runs.
func (r *relay) with(meddle func(path string, answer []byte) []byte, work func() error) error {
	r.mu.Lock()
	r.meddle = meddle
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.meddle = nil
		r.mu.Unlock()
	}()
	return work()
}
