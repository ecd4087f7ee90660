package seal

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// The bounds on a passphrase, in bytes.
const (
	MinPassphrase = 12
	MaxPassphrase = 4096
)

// ErrExposed is wrapped when a passphrase file can be read by others than its owner.
var ErrExposed = errors.New("seal: passphrase file is open to group or others")

// ReadPassphrase reads a passphrase from a file and cuts one line feed at its end; every other byte counts. The file
// must be a regular one, readable by its owner only (mode 0600 or 0400, else ErrExposed), and hold at least
// MinPassphrase bytes. The caller wipes the result.
func ReadPassphrase(path string) (secret.Bytes, error) {
	f, err := os.Open(path)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("seal: passphrase file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("seal: passphrase file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return secret.Bytes{}, fmt.Errorf("seal: passphrase file %s is not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return secret.Bytes{}, fmt.Errorf("%w: %s has mode %04o, want 0600", ErrExposed, path, mode)
	}
	buf := secret.New(MaxPassphrase + 2)
	defer buf.Wipe()
	n, err := io.ReadFull(f, buf.Expose())
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return secret.Bytes{}, fmt.Errorf("seal: passphrase file: %w", err)
	}
	b := buf.Expose()[:n]
	if n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
	}
	if len(b) < MinPassphrase || len(b) > MaxPassphrase {
		return secret.Bytes{}, fmt.Errorf("seal: passphrase in %s has a length outside %d to %d bytes", path, MinPassphrase, MaxPassphrase)
	}
	return secret.From(b), nil
}
