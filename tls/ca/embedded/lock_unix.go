//go:build unix

package embedded

import (
	"os"
	"syscall"
)

// lock waits for the only lock on the file; it ends with the process that holds it.
func lock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX) }

func unlock(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
