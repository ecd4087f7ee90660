package terminaltest

import (
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// Acquirer is the host of a lab at the network, where a terminal.Link finds it. Set the hooks before there are messages.
type Acquirer struct {
	URL string

	// Admit, if not nil, decides whether the terminal is let in with its certificate.
	Admit func() error
	// Refuse, if not nil, gives an answer instead of passing a message to the host.
	Refuse func() *terminal.HostError

	mu   sync.Mutex
	last string
}

// NewAcquirer starts an acquirer. It stops with the test.
func NewAcquirer(tb testing.TB, l *Lab) *Acquirer {
	tb.Helper()
	a := new(Acquirer)
	config, err := tlsconf.Server(tlsconf.ServerOptions{
		Credential: l.Server(tb), Trust: l.Trust, Accept: []identity.Role{identity.Terminal}, Gate: tlsconf.GateFunc(a.admit),
	})
	check(tb, err)
	a.URL = "https://" + serve(tb, &http.Server{TLSConfig: config, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			a.note(identity.Serial(r.TLS.PeerCertificates[0]))
			raw, err := io.ReadAll(io.LimitReader(r.Body, message.MaxSize))
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			if refusal := a.refusal(); refusal != nil {
				w.WriteHeader(refusal.Status)
				_ = json.NewEncoder(w).Encode(map[string]string{"Code": refusal.Code, "Message": refusal.Message})
				return
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

func (a *Acquirer) admit(identity.Identity, string) error {
	if a.Admit == nil {
		return nil
	}
	return a.Admit()
}

func (a *Acquirer) refusal() *terminal.HostError {
	if a.Refuse == nil {
		return nil
	}
	return a.Refuse()
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
