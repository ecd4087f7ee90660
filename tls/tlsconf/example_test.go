package tlsconf_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// A host that lets terminals in and tells each who it is, and a terminal that calls it by net/http, which fills in the
// host name that the server must have.
func Example() {
	t := new(testing.T) // stands in for the certificates that a deployment reads from files
	s := newSystem(t, time.Now)
	host, err := tlsconf.NewCredential(s.certify(t, identity.AcquirerHost, "HOST"))
	if err != nil {
		panic(err)
	}
	terminal, err := tlsconf.NewCredential(s.certify(t, identity.Terminal, "T-1"))
	if err != nil {
		panic(err)
	}

	server, err := tlsconf.Server(tlsconf.ServerOptions{
		Credential: host,
		Trust:      s.trust,
		Accept:     []identity.Role{identity.Terminal},
		Gate:       tlsconf.OpenGate(),
	})
	if err != nil {
		panic(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	srv := &http.Server{TLSConfig: server, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _, err := tlsconf.Peer(*r.TLS)
		if err != nil {
			http.Error(w, "who?", http.StatusForbidden)
			return
		}
		fmt.Fprintln(w, "hello", id)
	})}
	go func() { _ = srv.ServeTLS(l, "", "") }() // ends with Close
	defer srv.Close()

	client, err := tlsconf.Client(tlsconf.ClientOptions{
		Credential: terminal,
		Trust:      s.trust,
		ServerRole: identity.AcquirerHost,
		Gate:       tlsconf.OpenGate(),
	})
	if err != nil {
		panic(err)
	}
	transport := &http.Transport{TLSClientConfig: client}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("https://" + l.Addr().String())
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		panic(err)
	}
	fmt.Print(string(body))
	// Output:
	// hello latchkey://ACME/terminal/T-1
}
