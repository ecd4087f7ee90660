package acquirer_test

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/examples/acquirer"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// denylist is a gate that a test shuts, as the registry feed does.
type denylist struct {
	mu     sync.Mutex
	denied map[string]bool
}

func (d *denylist) Admit(id identity.Identity, _ string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.denied[id.Name] {
		return errors.New("revoked")
	}
	return nil
}

func (d *denylist) deny(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.denied[name] = true
}

// door is a host that serves, and the terminals that come to it.
type door struct {
	*site
	gate    *denylist
	changed chan struct{}
	addr    string
	end     func() error
}

func newDoor(t *testing.T) *door {
	t.Helper()
	lab := terminaltest.NewLab(t, dukpt.AES)
	d := &door{site: &site{lab: lab}, gate: &denylist{denied: make(map[string]bool)}, changed: make(chan struct{}, 1)}
	host := &acquirer.Host{Log: slog.New(slog.DiscardHandler)}
	config, err := acquirer.Listener(lab.Server(t), lab.Trust, d.gate)
	check(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	d.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- host.Serve(ctx, tls.NewListener(l, config), d.gate, d.changed) }()
	d.end = sync.OnceValue(func() error { cancel(); return <-served })
	t.Cleanup(func() { _ = d.end() })
	return d
}

// connect opens a connection for a terminal, and has one request refused that is no message.
func (d *door) connect(t *testing.T, name string) (*tls.Conn, error) {
	t.Helper()
	config, err := tlsconf.Client(tlsconf.ClientOptions{
		Credential: d.lab.Client(t, name), Trust: d.lab.Trust, ServerRole: identity.AcquirerHost, ServerName: "127.0.0.1", Gate: tlsconf.OpenGate(),
	})
	check(t, err)
	conn, err := tls.Dial("tcp", d.addr, config)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, ask(conn)
}

// ask sends a request on an open connection and reads what comes back, which ends in the same segment.
func ask(conn *tls.Conn) error {
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte("POST /messages HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, 4096))
	return err
}

// left reports how long a connection stays open, at most limit.
func left(conn *tls.Conn, limit time.Duration) (time.Duration, bool) {
	begun := time.Now()
	_ = conn.SetReadDeadline(begun.Add(limit))
	_, err := conn.Read(make([]byte, 1))
	e, timeout := errors.AsType[net.Error](err)
	return time.Since(begun), err != nil && !(timeout && e.Timeout())
}

// TestRevokedTerminalIsOut: whoever may come no more loses the connection, at once when told and else within two seconds.
func TestRevokedTerminalIsOut(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	stays, err := d.connect(t, "T-0009")
	check(t, err)
	for _, told := range []bool{true, false} {
		name := map[bool]string{true: "T-0002", false: "T-0003"}[told]
		conn, err := d.connect(t, name)
		check(t, err)
		d.gate.deny(name)
		if told {
			d.changed <- struct{}{}
		}
		took, cut := left(conn, 2*time.Second)
		t.Logf("told %t: out after %v", told, took)
		if !cut {
			t.Errorf("told %t: the connection is still open", told)
		}
		if _, err := d.connect(t, name); err == nil {
			t.Errorf("told %t: a new connection is answered", told)
		}
	}
	check(t, ask(stays))
	if err := d.end(); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// TestGuardAsksAtEachRequest: between two looks at the connections no request gets through either.
func TestGuardAsksAtEachRequest(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	conn, err := d.connect(t, "T-0002")
	check(t, err)
	d.gate.deny("T-0002")
	if err := ask(conn); err == nil {
		t.Error("a request of a revoked terminal is answered")
	}
}

func TestServeEndsWithItsListener(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	check(t, l.Close())
	err = new(acquirer.Host).Serve(t.Context(), l, tlsconf.OpenGate(), nil)
	if err == nil || errors.Is(err, http.ErrServerClosed) {
		t.Errorf("%v, want an error", err)
	}
}
