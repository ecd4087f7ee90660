package tlsconf_test

import (
	"io"
	"log"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// door is an http.Server that serves TLS as ours do, HTTP/2 included, behind Guard.
type door struct {
	url    string
	open   *tlsconf.Connections
	busy   chan struct{} // one for each request to /busy that has begun
	closed chan string   // addresses of peers whose connection has ended
}

// openDoor has the handshake ask another gate than Guard: a change of mind that no handshake and no Cut sees.
func openDoor(t *testing.T, s *system, gate tlsconf.Gate) *door {
	t.Helper()
	d := &door{open: new(tlsconf.Connections), busy: make(chan struct{}, 8), closed: make(chan string, 8)}
	mux := http.NewServeMux()
	mux.HandleFunc("/busy", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		d.busy <- struct{}{}
		<-r.Context().Done()
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr) })
	srv := &http.Server{
		Handler: d.open.Guard(gate, mux), TLSConfig: s.server(t, nil), ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute,
		ConnState: func(conn net.Conn, state http.ConnState) {
			d.open.ConnState(conn, state)
			if state == http.StateClosed {
				d.closed <- conn.RemoteAddr().String()
			}
		},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = srv.ServeTLS(l, "", ""); close(ended) }()
	t.Cleanup(func() { _ = srv.Close(); <-ended })
	d.url = "https://" + l.Addr().String()
	return d
}

// visitor calls a door over one protocol, and returns its serial number too.
func visitor(t *testing.T, s *system, name string, major int) (*http.Client, string) {
	t.Helper()
	cert := s.certify(t, identity.Terminal, name)
	transport := &http.Transport{TLSClientConfig: s.client(t, cert, nil), Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(major == 1)
	transport.Protocols.SetHTTP2(major == 2)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}, credential(t, cert).Serial()
}

// call returns the address that the door saw, and refuses another protocol than the one meant.
func (d *door) call(t *testing.T, c *http.Client, major int) string {
	t.Helper()
	resp, err := c.Get(d.url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	from, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.ProtoMajor != major {
		t.Fatalf("%s, want HTTP/%d", resp.Proto, major)
	}
	return string(from)
}

// ends demands that a connection is closed.
func (d *door) ends(t *testing.T, peer string) {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		select {
		case got := <-d.closed:
			if got == peer {
				return
			}
		case <-limit:
			t.Fatalf("the connection of %s stays open", peer)
		}
	}
}

// TestGuardEndsTheConnection: whose certificate is no longer admitted loses the connection with its next request, and
// what is under way on it too. Others keep theirs.
func TestGuardEndsTheConnection(t *testing.T) {
	t.Parallel()
	for major, name := range map[int]string{1: "HTTP/1.1", 2: "HTTP/2"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, time.Now)
			gate := &denylist{denied: make(map[string]bool)}
			d := openDoor(t, s, gate)
			other, _ := visitor(t, s, "T-2", major)
			others := d.call(t, other, major)
			c, serial := visitor(t, s, "T-1", major)
			from := d.call(t, c, major)
			busy, err := c.Get(d.url + "/busy")
			if err != nil {
				t.Fatal(err)
			}
			defer busy.Body.Close()
			<-d.busy
			gate.deny(serial)
			if resp, err := c.Get(d.url); err == nil {
				_ = resp.Body.Close()
				t.Fatalf("answered %d", resp.StatusCode)
			}
			d.ends(t, from)
			if _, err := io.Copy(io.Discard, busy.Body); err == nil {
				t.Error("the request under way has an end")
			}
			if again := d.call(t, other, major); again != others {
				t.Errorf("the connection of another peer has ended: from %s, before %s", again, others)
			}
		})
	}
}

// TestCutEndsRequests: Cut ends a request under way.
func TestCutEndsRequests(t *testing.T) {
	t.Parallel()
	for major, name := range map[int]string{1: "HTTP/1.1", 2: "HTTP/2"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSystem(t, time.Now)
			gate := &denylist{denied: make(map[string]bool)}
			d := openDoor(t, s, gate)
			other, _ := visitor(t, s, "T-2", major)
			others := d.call(t, other, major)
			c, serial := visitor(t, s, "T-1", major)
			from := d.call(t, c, major)
			resp, err := c.Get(d.url + "/busy")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			<-d.busy
			if n := d.open.Cut(gate); n != 0 {
				t.Errorf("%d connections of admitted peers cut", n)
			}
			gate.deny(serial)
			if n := d.open.Cut(gate); n != 1 {
				t.Errorf("%d connections cut, want 1", n)
			}
			d.ends(t, from)
			if _, err := io.Copy(io.Discard, resp.Body); err == nil {
				t.Error("the request under way has an end")
			}
			if again := d.call(t, other, major); again != others {
				t.Errorf("the connection of another peer has ended: from %s, before %s", again, others)
			}
		})
	}
}
