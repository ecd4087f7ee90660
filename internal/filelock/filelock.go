// Package filelock keeps a second process out of a folder: whoever works in it holds the lock of one of its files.
//
// A lock keeps out only those who ask for it, and is known on one machine: it does not guard a folder on a network drive
// that several machines write to.
package filelock

import (
	"fmt"
	"os"
)

// Lock waits until no other open file, of this process or another one, has the lock on f's file, and takes it. Unlock,
// closing f, or the end of the process gives it back. Where the system has no such locks the error wraps
// errors.ErrUnsupported: without one, two processes would overwrite what the other has written.
func Lock(f *os.File) error {
	if err := lock(f); err != nil {
		return fmt.Errorf("filelock: %s: %w", f.Name(), err)
	}
	return nil
}

// Unlock gives back the lock that Lock took through f.
func Unlock(f *os.File) error {
	if err := unlock(f); err != nil {
		return fmt.Errorf("filelock: %s: %w", f.Name(), err)
	}
	return nil
}
