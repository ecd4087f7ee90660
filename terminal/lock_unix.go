//go:build unix

package terminal

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lockFile takes the whole file for this open file description, without waiting.
func lockFile(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrLocked
	}
	if err != nil {
		return fmt.Errorf("terminal: lock: %w", err)
	}
	return nil
}

// unlockFile gives the lock back, whoever else has the open file description.
func unlockFile(f *os.File) error {
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_UN); err != nil {
		return fmt.Errorf("terminal: unlock: %w", err)
	}
	return nil
}
