package terminal_test

import (
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// deafListener listens where nobody ever accepts, with a queue that is full: whoever connects waits.
func deafListener(t *testing.T, address string) netip.Addr {
	t.Helper()
	at := netip.MustParseAddrPort(address)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	check(t, err)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	check(t, syscall.Bind(fd, &syscall.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}))
	check(t, syscall.Listen(fd, 0))
	for {
		conn, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if err != nil {
			return at.Addr()
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
}
