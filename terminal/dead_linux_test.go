package terminal_test

import (
	"crypto/tls"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// TestDeadPeer has the kernel give up on a peer that takes nothing: it is told to after 20 seconds, and in `make soak` does.
func TestDeadPeer(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	config, err := tlsconf.Server(tlsconf.ServerOptions{
		Credential: lab.Server(t), Trust: lab.Trust, Accept: []identity.Role{identity.Terminal}, Gate: tlsconf.OpenGate(),
	})
	check(t, err)
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	check(t, err)
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_ = conn.(*tls.Conn).HandshakeContext(t.Context()) // and then it reads nothing any more
		<-t.Context().Done()
		_ = conn.Close()
	}()
	link, err := lab.Bundle(t, terminal.Endpoint{URL: "https://" + l.Addr().String()}).Link(terminal.LinkOptions{})
	check(t, err)
	conn, err := link.Dial(t.Context())
	check(t, err)
	defer conn.Close()
	raw, err := terminal.RawOf(conn)
	check(t, err)
	for name, want := range map[int]int{0x12: 20_000, syscall.TCP_KEEPIDLE: 10, syscall.TCP_KEEPINTVL: 5, syscall.TCP_KEEPCNT: 3} {
		check(t, raw.Control(func(fd uintptr) {
			got, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, name)
			if err != nil || got != want {
				t.Errorf("option %#x is %d, %v, want %d", name, got, err, want)
			}
		}))
	}
	if os.Getenv("LATCHKEY_SOAK") == "" {
		return
	}
	began := time.Now()
	for piece := make([]byte, 16<<10); ; {
		if _, err = conn.Write(piece); err != nil {
			break
		}
	}
	took := time.Since(began)
	t.Logf("given up after %v: %v", took.Round(time.Millisecond), err)
	if !errors.Is(err, syscall.ETIMEDOUT) || took > 30*time.Second {
		t.Errorf("%v after %v, want that the connection timed out within 30 s", err, took)
	}
}
