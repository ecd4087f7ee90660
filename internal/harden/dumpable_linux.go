package harden

import (
	"fmt"
	"syscall"
)

// The operations of prctl(2).
const (
	getDumpable = 3
	setDumpable = 4
)

// undumpable clears the flag that the whole process has, whichever thread asks.
func undumpable() error {
	if _, _, errno := syscall.Syscall(syscall.SYS_PRCTL, setDumpable, 0, 0); errno != 0 {
		return fmt.Errorf("harden: not dumpable: %w", errno)
	}
	return nil
}
