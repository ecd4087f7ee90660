//go:build !unix

package sqlite

import (
	"errors"
	"os"
)

// lock fails: without a lock two daemons could share one file and cache different ends of its log.
func lock(*os.File) error { return errors.New("no file locks on this system") }
