package terminal

import "syscall"

// tcpUserTimeout is TCP_USER_TIMEOUT, which package syscall has no name for: tcp(7), in milliseconds.
const tcpUserTimeout = 0x12

// control has the kernel give a connection up on which nothing that was sent is acknowledged.
func control(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(deadPeer.Milliseconds()))
	}); e != nil {
		return e
	}
	return err
}
