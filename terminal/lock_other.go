//go:build !unix

package terminal

import (
	"errors"
	"fmt"
	"os"
)

// lockFile refuses: without a lock two processes could use one key twice.
func lockFile(*os.File) error {
	return fmt.Errorf("terminal: lock: %w", errors.ErrUnsupported)
}

// unlockFile has nothing to give back.
func unlockFile(*os.File) error { return nil }
