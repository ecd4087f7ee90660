//go:build unix

package deploy

import (
	"os"
	"syscall"
)

// lock waits for the only lock on the file; closing the file, or the end of the process, gives it back.
func lock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX) }
