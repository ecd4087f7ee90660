package feed

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// cutLimit is how long a terminal may stay after the authority has published that it must go.
const cutLimit = 2 * time.Second

// site is a listener for terminals whose gate is a follower.
type site struct {
	*registry
	follower *Follower
	stop     func() // ends the follower
	addr     string
	busy     chan struct{} // one for each request to /busy that has begun
}

func newSite(tb testing.TB) *site {
	tb.Helper()
	s := &site{registry: newRegistry(tb), busy: make(chan struct{}, 16)}
	changed := make(chan struct{}, 1)
	o := s.options(tb, s.registry.listen(tb))
	o.Changed = func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	s.follower = newFollower(tb, o)
	s.stop = run(tb, s.follower)
	config, err := tlsconf.Server(tlsconf.ServerOptions{
		Credential: s.holder(tb, identity.AcquirerHost, "HOST-1").credential(tb), Trust: s.trust, Accept: []identity.Role{identity.Terminal},
		Gate: s.follower,
	})
	check(tb, err)
	var open tlsconf.Connections
	mux := http.NewServeMux()
	mux.HandleFunc("/busy", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		s.busy <- struct{}{}
		<-r.Context().Done()
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	s.addr = listen(tb, open.Guard(s.follower, mux), config, open.ConnState)[len("https://"):]
	ctx, cancel := context.WithCancel(context.Background())
	var cutting sync.WaitGroup
	cutting.Go(func() {
		second := time.NewTicker(time.Second)
		defer second.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			case <-second.C:
			}
			open.Cut(s.follower)
		}
	})
	tb.Cleanup(func() { cancel(); cutting.Wait() })
	return s
}

// enrol makes a terminal known, and returns the configuration that it connects with. It keeps sessions, as ours would not.
func (s *site) enrol(tb testing.TB, id keyset.TerminalID) *tls.Config {
	tb.Helper()
	h := s.holder(tb, identity.Terminal, string(id))
	config, err := tlsconf.Client(tlsconf.ClientOptions{
		Credential: h.credential(tb), Trust: s.trust, ServerRole: identity.AcquirerHost, ServerName: "localhost", Gate: tlsconf.OpenGate(),
	})
	check(tb, err)
	config.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	sequence := s.put(tb, id, func(t *keyset.Terminal) { t.Serial = identity.Serial(h.leaf) })
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	check(tb, s.follower.WaitFor(ctx, 1, sequence))
	return config
}

// visit connects and asks for a path, and returns the connection with the answer begun.
func (s *site) visit(config *tls.Config, path string) (*tls.Conn, error) {
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: config}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	raw, err := d.DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return nil, err
	}
	conn, ok := raw.(*tls.Conn)
	if !ok {
		return nil, errors.New("not TLS")
	}
	if err := ask(conn, path); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// ask sends a request and reads the head of the answer, and its body if it has a length.
func ask(conn *tls.Conn, path string) error {
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	if resp.ContentLength > 0 {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	return err
}

// trial is how long each way in stayed open after a status was published, or that it stayed open to the end.
type trial map[string]time.Duration

// change publishes a status of a terminal that has all its ways in open, and waits until they are shut, or for limit.
func (s *site) change(tb testing.TB, id keyset.TerminalID, config *tls.Config, status keyset.Status, limit time.Duration) trial {
	tb.Helper()
	idle, err := s.visit(config, "/")
	check(tb, err)
	defer idle.Close()
	busy, err := s.visit(config, "/busy")
	check(tb, err)
	defer busy.Close()
	<-s.busy
	fresh := config.Clone()
	fresh.ClientSessionCache = nil
	resumed, err := s.visit(config, "/")
	check(tb, err)
	if !resumed.ConnectionState().DidResume {
		tb.Fatal("the session is not resumed")
	}
	_ = resumed.Close()

	begun := time.Now()
	s.status(tb, id, status)
	var mu sync.Mutex
	out := make(trial)
	var ways sync.WaitGroup
	shut := func(way string) {
		mu.Lock()
		defer mu.Unlock()
		out[way] = time.Since(begun)
	}
	for way, conn := range map[string]*tls.Conn{"idle connection": idle, "request under way": busy} {
		ways.Go(func() {
			_ = conn.SetDeadline(begun.Add(limit))
			_, err := io.Copy(io.Discard, conn)
			if !isTimeout(err) {
				shut(way)
			}
		})
	}
	for way, c := range map[string]*tls.Config{"new handshake": fresh, "resumed handshake": config} {
		ways.Go(func() {
			for time.Since(begun) < limit {
				conn, err := s.visit(c, "/")
				if err != nil {
					shut(way)
					return
				}
				_ = conn.Close()
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	ways.Wait()
	return out
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// TestRevokeToCut publishes that a terminal must go, and measures how long each of its ways in stays open.
func TestRevokeToCut(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	other := s.enrol(t, "T-9")
	bystander, err := s.visit(other, "/")
	check(t, err)
	defer bystander.Close()
	for status := keyset.StatusPending; status <= keyset.StatusRetired; status++ {
		id := keyset.TerminalID(strings.ToUpper(status.String()))
		config := s.enrol(t, id)
		stays := status <= keyset.StatusQuarantined
		limit := cutLimit
		if stays {
			limit = 300 * time.Millisecond
		}
		got := s.change(t, id, config, status, limit)
		t.Logf("%v: %v", status, got)
		for _, way := range []string{"idle connection", "request under way", "new handshake", "resumed handshake"} {
			if d, cut := got[way]; cut == stays {
				t.Errorf("%v: %s: shut %t after %v, want %t within %v", status, way, cut, d, !stays, limit)
			}
		}
	}
	if err := ask(bystander, "/"); err != nil {
		t.Errorf("the connection of another terminal: %v", err)
	}
	// A follower that hears nothing any more shuts the door for all.
	s.stop()
	s.follower.mu.Lock()
	s.follower.heard = s.follower.heard.Add(-defaultStale)
	s.follower.mu.Unlock()
	_ = bystander.SetDeadline(time.Now().Add(cutLimit))
	if _, err := io.Copy(io.Discard, bystander); isTimeout(err) {
		t.Error("a stale follower leaves connections open")
	}
	if _, err := s.visit(other, "/"); err == nil {
		t.Error("a stale follower admits terminals")
	}
}
