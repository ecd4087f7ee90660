//go:build !unix

package keyring

import (
	"errors"
	"os"
)

// lock fails: without a lock two processes could take one name for two keys.
func lock(*os.File) error { return errors.New("no file locks on this system") }
