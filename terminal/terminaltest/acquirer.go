package terminaltest

import (
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// Acquirer is the host of a lab at the network, where a terminal.Link finds it.
type Acquirer struct {
	URL string

	mu   sync.Mutex
	last string
}

// NewAcquirer starts an acquirer. It stops with the test.
func NewAcquirer(tb testing.TB, l *Lab) *Acquirer {
	tb.Helper()
	config, err := tlsconf.Server(tlsconf.ServerOptions{
		Credential: l.Server(tb), Trust: l.Trust, Accept: []identity.Role{identity.Terminal}, Gate: tlsconf.OpenGate(),
	})
	check(tb, err)
	a := new(Acquirer)
	a.URL = "https://" + serve(tb, &http.Server{TLSConfig: config, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			a.note(identity.Serial(r.TLS.PeerCertificates[0]))
			raw, err := io.ReadAll(io.LimitReader(r.Body, message.MaxSize))
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			answer, err := l.Host.Receive(raw)
			if err != nil {
				http.Error(w, "refused", http.StatusConflict)
				return
			}
			w.Header().Set("Content-Type", typeCBOR)
			_, _ = w.Write(answer) // a terminal that is gone asks again
		})})
	return a
}

func (a *Acquirer) note(serial string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = serial
}

// Last returns the serial number of the certificate that the last message came with, empty before the first.
func (a *Acquirer) Last() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}
