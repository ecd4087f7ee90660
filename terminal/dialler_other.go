//go:build !linux

package terminal

import "syscall"

// control does nothing: only Linux can be told when to give a connection up. Its probes find a dead peer.
func control(_, _ string, _ syscall.RawConn) error { return nil }
