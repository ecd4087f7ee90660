package tlsconf

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// Connections are the open connections of one listener. A peer that was admitted when it connected stays connected
// until somebody looks again: Cut looks at all of them, and Guard at each request. Give its ConnState to the
// http.Server. It is safe for concurrent use; the zero value is ready.
type Connections struct {
	mu   sync.Mutex
	open map[*tls.Conn]struct{}
}

// ConnState follows the connections of an http.Server that serves TLS.
func (c *Connections) ConnState(conn net.Conn, state http.ConnState) {
	t, ok := conn.(*tls.Conn)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew: // no handshake yet, and asking for its state would wait for it
	case http.StateClosed, http.StateHijacked:
		delete(c.open, t)
	default:
		if c.open == nil {
			c.open = make(map[*tls.Conn]struct{})
		}
		c.open[t] = struct{}{}
	}
}

// Cut closes the connections of peers that the gate does not admit, requests under way on them included, and returns how
// many it closed. A connection that the http.Server does not count as active yet is left alone: its handshake asks the
// gate, and Guard does with its first request. Visitors without a certificate stay.
func (c *Connections) Cut(gate Gate) int {
	c.mu.Lock()
	open := make([]*tls.Conn, 0, len(c.open))
	for t := range c.open {
		open = append(open, t)
	}
	c.mu.Unlock()
	n := 0
	for _, t := range open {
		if cut(t, gate) {
			n++
		}
	}
	return n
}

func cut(t *tls.Conn, gate Gate) bool {
	cs := t.ConnectionState()
	if !cs.HandshakeComplete || len(cs.PeerCertificates) == 0 {
		return false
	}
	if admit(gate, cs) == nil {
		return false
	}
	_ = t.NetConn().Close() // not the orderly end of TLS, which would wait for a write under way
	return true
}

// admit asks the gate about the peer of a connection.
func admit(gate Gate, cs tls.ConnectionState) error {
	id, serial, err := Peer(cs)
	if err != nil {
		return err
	}
	return gate.Admit(id, serial)
}

// Guard asks the gate about the peer of each request before next answers it. It does not answer one that is no longer
// admitted, and cuts: that closes the moment between the end of a handshake and the next Cut. Over HTTP/2, which an
// http.Server speaks when it serves TLS by itself, only Cut closes the connection and not just one stream of it, and so
// ConnState must be in use.
func (c *Connections) Guard(gate Gate, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			if admit(gate, *r.TLS) != nil {
				c.Cut(gate)
				panic(http.ErrAbortHandler) // without an answer, as the handshake would
			}
		}
		next.ServeHTTP(w, r)
	})
}
