// Package harden keeps the memory of a process that holds keys from being written to disk or read by its own user.
//
// [Process] is called first thing in main, before a secret is read. It forbids core files, and where the system can do it
// makes the process not dumpable: then nobody but root traces it or reads its memory in /proc (prctl(2), PR_SET_DUMPABLE). It
// protects against neither root nor swap.
package harden

import (
	"fmt"
	"syscall"
)

// Process forbids core files of this process and its children for good, and makes it not dumpable. What a system does not have is no
// error; that a limit cannot be set is one, and the caller ends.
func Process() error {
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{Cur: 0, Max: 0}); err != nil {
		return fmt.Errorf("harden: core files: %w", err)
	}
	return undumpable()
}
