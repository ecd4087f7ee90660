package provision

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/node/nodetest"
	"github.com/latchkey-pos/latchkey/tls/est"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// slow are connections that do not get on: most in their handshake, some in a header, some in a body.
type slow struct {
	mu    sync.Mutex
	held  []net.Conn
	count map[string]int
}

// open makes one from a source, and leaves it where it stands.
func (s *slow) open(source, address, kind string, config *tls.Config) error {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}, Timeout: time.Minute}
	conn, err := d.Dial("tcp", address)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.held = append(s.held, conn)
	s.count["opened"]++
	s.mu.Unlock()
	if kind == "handshake" {
		_, _ = conn.Write([]byte{0x16, 3, 1, 2, 0, 1}) // the beginning of a ClientHello; whoever is sent away may know it by now
		return nil
	}
	c := tls.Client(conn, config)
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if c.Handshake() != nil {
		return nil // sent away
	}
	text := "POST " + est.PathEnroll + " HTTP/1.1\r\nHost: x\r\nX-Slow: "
	if kind == "body" {
		text = "POST " + est.PathEnroll + " HTTP/1.1\r\nHost: x\r\nAuthorization: Basic VC05OmFiYw==\r\nContent-Type: application/pkcs10\r\nContent-Length: 4000\r\n\r\nMII"
	}
	if _, err := io.WriteString(c, text); err == nil {
		s.mu.Lock()
		s.count[kind]++
		s.mu.Unlock()
	}
	return nil
}

// TestTenThousandSlow has a dozen sources open 10,000 connections that do not get on, at each listener with TLS, while honest terminals
// enrol: these are served, all others are given up, and what they take meanwhile is bounded by what a source may have.
func TestTenThousandSlow(t *testing.T) {
	if testing.Short() {
		t.Skip("a load test")
	}
	const sources, perSource = 12, 64
	total := 10_000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if most := int(min(limit.Cur, 1<<20)) - 4*sources*perSource; most < total { // both ends are in this process
		t.Logf("%d file descriptors are too few for %d connections", limit.Cur, total)
		if total = most; total < 1000 {
			t.Fatalf("and %d are too few for this test: raise ulimit -n", total)
		}
	}
	r := start(t)
	if err := r.ra.Stop(); err != nil {
		t.Fatal(err)
	}
	r.config.TLS12, r.config.ConnectionsPerSource = "127.0.0.1:0", perSource
	r.again()
	config := must[*tls.Config](t)(tlsconf.Client(tlsconf.ClientOptions{
		Trust: r.place.trust, ServerRole: identity.RA, ServerName: "localhost", Gate: tlsconf.OpenGate(), Visitor: true,
	}))
	before := runtime.NumGoroutine()
	s := &slow{count: make(map[string]int)}
	doors := []string{r.ra.Addrs.Terminals, r.ra.Addrs.TLS12, r.ra.Addrs.Services}
	var crowd sync.WaitGroup
	flooded := make(chan struct{})
	for n := range sources {
		source := fmt.Sprintf("127.1.0.%d", n+1)
		crowd.Go(func() {
			for i := range (total + sources - 1) / sources {
				kind := "handshake"
				if i < 30 { // of a kind that costs a handshake
					kind = []string{"header", "body"}[i%2]
				}
				door := doors[i%len(doors)]
				if kind != "handshake" {
					door = doors[0]
				}
				if err := s.open(source, door, kind, config); err != nil {
					t.Errorf("connection %d from %s: %v", i, source, err)
					return
				}
			}
		})
	}
	go func() { crowd.Wait(); close(flooded) }()
	honest, most := 0, 0
	for done := false; !done || honest < 3; {
		select {
		case <-flooded:
			done = true
		default:
		}
		id := fmt.Sprintf("T-%d", honest)
		if err := r.enrol(t.TempDir(), id, r.ticket(id, true)); err != nil {
			t.Errorf("%s among slow ones: %v", id, err)
		}
		honest++
		most = max(most, runtime.NumGoroutine())
	}
	// Two goroutines at most for each connection that is served, and for the crowd of this test and its honest terminals some more.
	if bound := before + 2*len(doors)*sources*perSource + 500; most > bound {
		t.Errorf("%d goroutines, before %d, want at most %d", most, before, bound)
	}
	_, metrics := nodetest.Get(t, "http://"+r.ra.Addrs.Admin+"/metrics")
	for _, listener := range []string{"terminals", "terminals-tls12", "services"} {
		if !regexp.MustCompile(`(?m)^latchkey_connections_refused_total\{listener="` + listener + `"\} [1-9]`).MatchString(metrics) {
			t.Errorf("the metrics do not say that %s has refused any", listener)
		}
	}
	begun := time.Now()
	for _, conn := range s.held {
		if err := conn.SetReadDeadline(begun.Add(2 * time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("a slow connection is not given up")
		}
		_ = conn.Close()
	}
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > before+100; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines are left, before %d", runtime.NumGoroutine(), before)
		}
	}
	if s.count["opened"] < total || s.count["header"] < sources || s.count["body"] < sources {
		t.Errorf("too little was done: %v", s.count)
	}
	t.Logf("%v slow connections, %d honest enrolments meanwhile, %d goroutines at most (%d before), all given up %v after the last",
		s.count, honest, most, before, time.Since(begun).Round(time.Second))
}
