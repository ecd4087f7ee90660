package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// peer is who was at the other end of a connection, by the verified certificate.
type peer struct {
	id     identity.Identity
	serial string
}

func (p peer) String() string { return fmt.Sprintf("%v, certificate %s", p.id, p.serial) }

// witness is a tlsconf.Gate that remembers who was admitted. It is safe for concurrent use.
type witness struct {
	next tlsconf.Gate // that decides; nil: everybody is admitted
	mu   sync.Mutex
	seen map[string]peer
}

// Admit implements tlsconf.Gate.
func (w *witness) Admit(id identity.Identity, serial string) error {
	if w.next != nil {
		if err := w.next.Admit(id, serial); err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen == nil {
		w.seen = make(map[string]peer)
	}
	w.seen[id.Name] = peer{id, serial}
	return nil
}

// peer returns the peer of a name, the zero value for one that never came.
func (w *witness) peer(name string) peer {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[name]
}

// said is one answer of the decryption service to the acquirer's host.
type said struct {
	transaction *api.TransactionResponse
	answer      *api.AnswerResponse
	refusal     *api.Error
}

// wire stands between the acquirer's host and the decryption service and keeps what the service says. It is safe for
// concurrent use.
type wire struct {
	next http.RoundTripper

	mu      sync.Mutex
	service peer
	heard   []said
}

// RoundTrip passes a request on and reads the answer on its way back.
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, api.MaxResponse+1))
	if err != nil {
		return nil, err
	}
	if err := w.keep(r.URL.Path, resp, body); err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

func (w *wire) keep(path string, resp *http.Response, body []byte) error {
	if resp.TLS == nil {
		return fmt.Errorf("the decryption service answered without TLS")
	}
	id, serial, err := tlsconf.Peer(*resp.TLS)
	if err != nil {
		return err
	}
	var s said
	switch {
	case resp.StatusCode != http.StatusOK:
		s.refusal = &api.Error{Status: resp.StatusCode}
		err = json.Unmarshal(body, s.refusal)
	case path == api.PathTransactions:
		err = json.Unmarshal(body, &s.transaction)
	case path == api.PathAnswer:
		err = json.Unmarshal(body, &s.answer)
	}
	if err != nil {
		return fmt.Errorf("answer of the decryption service: %w", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.service = peer{id, serial}
	w.heard = append(w.heard, s)
	return nil
}

// peer returns who the decryption service is, as the acquirer's host saw it.
func (w *wire) peer() peer {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.service
}

// take returns what was said since the last call and forgets it.
func (w *wire) take() []said {
	w.mu.Lock()
	defer w.mu.Unlock()
	heard := w.heard
	w.heard = nil
	return heard
}

// last returns the latest answer about a message since the last take, with its card data wiped. There must be one.
func (w *wire) last() (*api.TransactionResponse, error) {
	var tx *api.TransactionResponse
	for _, s := range w.take() {
		if s.transaction != nil {
			tx = s.transaction
		}
	}
	if tx == nil {
		return nil, fmt.Errorf("the decryption service did not answer")
	}
	for _, f := range tx.Fields {
		secret.Wipe(f.ClearData)
	}
	return tx, nil
}

// line is the connection of a terminal, with somebody listening on it. It is used by one goroutine at a time.
type line struct {
	link   *terminal.Link
	sent   []byte // the last message, as the terminal sent it
	answer []byte // what came back
	// meddle, if not nil, is called with a message before it goes on its way.
	meddle func(ctx context.Context, message []byte) error
}

// Exchange implements terminal.Exchanger.
func (l *line) Exchange(ctx context.Context, message []byte, accept func([]byte) error) error {
	l.sent = bytes.Clone(message)
	if l.meddle != nil {
		if err := l.meddle(ctx, bytes.Clone(message)); err != nil {
			return err
		}
	}
	return l.link.Exchange(ctx, message, func(answer []byte) error {
		l.answer = bytes.Clone(answer)
		return accept(answer)
	})
}
