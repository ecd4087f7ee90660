package terminal_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// switchboard is an acquirer's host that speaks ISO 8583 behind two bytes of length, over the mutual TLS of the lab: it answers
// each message with the next type, 0810 to 0800.
func switchboard(tb testing.TB, lab *terminaltest.Lab) (url string) {
	tb.Helper()
	config, err := tlsconf.Server(tlsconf.ServerOptions{
		Credential: lab.Server(tb), Trust: lab.Trust, Accept: []identity.Role{identity.Terminal}, Gate: tlsconf.OpenGate(),
	})
	check(tb, err)
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	check(tb, err)
	tb.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for {
					msg, err := readFrame(in)
					if err != nil || len(msg) < 4 {
						return
					}
					msg[2]++
					if err := writeFrame(conn, msg); err != nil {
						return
					}
				}
			}()
		}
	}()
	return "https://" + l.Addr().String()
}

// writeFrame and readFrame are how ISO 8583 goes over TCP: two bytes of length, big-endian, then the message.
func writeFrame(w io.Writer, msg []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...))
	return err
}

func readFrame(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, msg)
	return msg, err
}

// ISO 8583 runs over the connections of a link: the same certificate, the same trust, the same choice of endpoints.
func ExampleLink_Dial() {
	var tb testing.T // the laboratory stands in for the operator and the host
	lab := terminaltest.NewLab(&tb, dukpt.AES)
	link, err := lab.Bundle(&tb, terminal.Endpoint{URL: switchboard(&tb, lab)}).Link(terminal.LinkOptions{})
	if err != nil {
		panic(err)
	}
	conn, err := link.Dial(context.Background())
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil { // a host that is silent is not dead
		panic(err)
	}
	if err := writeFrame(conn, []byte("0800822000000000000004000000000000001127101500000001301")); err != nil {
		panic(err)
	}
	answer, err := readFrame(conn)
	if err != nil {
		panic(err)
	}
	fmt.Println("the host answers", string(answer[:4]))
	// Output:
	// the host answers 0810
}

func TestDial(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	w := &timing{}
	l := newLink(t, lab, w, "https://127.0.0.1:1", switchboard(t, lab))
	conn, err := l.Dial(t.Context())
	check(t, err)
	defer conn.Close()
	for n := range 3 {
		check(t, writeFrame(conn, fmt.Appendf(nil, "02%d0", n)))
		answer, err := readFrame(conn)
		check(t, err)
		if want := fmt.Sprintf("02%d0", n+1); string(answer) != want {
			t.Errorf("answer %q, want %q", answer, want)
		}
	}
	if want := []terminal.LinkState{terminal.Degraded}; !slices.Equal(w.states, want) {
		t.Errorf("states %v, want %v", w.states, want)
	}
	if c := l.Counters(); c.Dials != 2 || c.DialFailures != 1 || c.Sent != 0 {
		t.Errorf("counters %+v", c)
	}
	l.NetworkChanged()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a connection of before reads on")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Dial(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that the context was cancelled", err)
	}
}

// TestDialTrustsHostsOnly refuses a host of another authority, and the link goes offline.
func TestDialTrustsHostsOnly(t *testing.T) {
	t.Parallel()
	lab, other := terminaltest.NewLab(t, dukpt.AES), terminaltest.NewLab(t, dukpt.AES)
	l := newLink(t, lab, &timing{}, switchboard(t, other))
	_, err := l.Dial(t.Context())
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok || l.State() != terminal.Offline {
		t.Errorf("%v, %v", err, l.State())
	}
}

// TestKeyExchange is hybrid unless that is switched off.
func TestKeyExchange(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	var curve atomic.Uint32
	url := serve(t, lab, func(w http.ResponseWriter, r *http.Request) {
		curve.Store(uint32(r.TLS.CurveID))
		ack(w, []byte("hello"))
	})
	for classical, want := range map[bool]tls.CurveID{false: tls.X25519MLKEM768, true: tls.X25519} {
		l, err := lab.Bundle(t, terminal.Endpoint{URL: url}).Link(terminal.LinkOptions{Classical: classical})
		check(t, err)
		defer l.Close()
		check(t, l.Exchange(t.Context(), []byte("m"), func([]byte) error { return nil }))
		if got := tls.CurveID(curve.Load()); got != want {
			t.Errorf("classical %v: key exchange %v, want %v", classical, got, want)
		}
	}
}

// TestAddresses tries every address of a name, beside one that does not answer, and remembers those of a name that cannot be
// looked up any more.
func TestAddresses(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	url := serve(t, lab, func(w http.ResponseWriter, _ *http.Request) { ack(w, []byte("hello")) })
	_, port, err := net.SplitHostPort(url[len("https://"):])
	check(t, err)
	silent := deafListener(t, "127.0.0.2:"+port)
	lookups, known := 0, true
	l, err := lab.Bundle(t, terminal.Endpoint{URL: "https://host.example:" + port, ServerName: "127.0.0.1"}).Link(terminal.LinkOptions{
		Resolve: func(_ context.Context, host string) ([]netip.Addr, error) {
			lookups++
			if host != "host.example" {
				t.Errorf("looks up %q", host)
			}
			if !known {
				return nil, errors.New("no name server")
			}
			return []netip.Addr{silent, netip.MustParseAddr("127.0.0.1")}, nil
		},
	})
	check(t, err)
	for range 2 {
		check(t, l.Exchange(t.Context(), []byte("m"), func([]byte) error { return nil }))
		l.Close()
		known = false
	}
	if c := l.Counters(); lookups != 2 || c.Dials != 2 || c.DialFailures != 0 {
		t.Errorf("%d lookups, counters %+v", lookups, c)
	}
}

func TestInterleaved(t *testing.T) {
	t.Parallel()
	var in, want []netip.Addr
	for _, a := range []string{"2001:db8::1", "2001:db8::2", "2001:db8::3", "::ffff:192.0.2.1", "192.0.2.2"} {
		in = append(in, netip.MustParseAddr(a))
	}
	for _, a := range []string{"2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "2001:db8::3"} {
		want = append(want, netip.MustParseAddr(a))
	}
	if got := terminal.Interleaved(in); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestNetworkChanged sends a message again at once that was on its way, and ends a pause.
func TestNetworkChanged(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	arrived := make(chan struct{}, 2)
	var n atomic.Int32
	url := serve(t, lab, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		arrived <- struct{}{}
		switch n.Add(1) {
		case 1:
			<-r.Context().Done() // the network is gone: the answer never comes
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			ack(w, []byte("hello"))
		}
	})
	paused := make(chan struct{})
	l, err := lab.Bundle(t, terminal.Endpoint{URL: url}).Link(terminal.LinkOptions{
		ResponseTimeout: time.Minute,
		Sleep: func(ctx context.Context, _ time.Duration) error {
			close(paused)
			<-ctx.Done()
			return ctx.Err()
		},
	})
	check(t, err)
	defer l.Close()
	done := make(chan error, 1)
	go func() { done <- l.Exchange(t.Context(), []byte("m"), func([]byte) error { return nil }) }()
	<-arrived
	l.NetworkChanged()
	<-arrived
	<-paused
	l.NetworkChanged()
	check(t, <-done)
	if c := l.Counters(); c.NetworkChanges != 2 || c.Answered != 1 || c.Pauses != 1 {
		t.Errorf("counters %+v", c)
	}
}
