//go:build unix

package sqlite

import (
	"errors"
	"os"
	"syscall"
)

// lock takes the only lock on the file, and fails with ErrLocked when another process has it. Closing the file, or the end
// of the process however it comes, gives it back.
func lock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}
