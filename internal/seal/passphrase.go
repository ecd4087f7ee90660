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

var (
	// ErrPassphraseFile is wrapped by every error about a passphrase file: missing, open to others, too short.
	ErrPassphraseFile = errors.New("seal: passphrase file")
	// ErrExposed is wrapped when a passphrase file can be read by others than its owner.
	ErrExposed = errors.New("open to group or others")
)

// ReadPassphrase reads a passphrase from a file and cuts one line feed at its end; every other byte counts. The file
// must be a regular one, readable by its owner only (mode 0600 or 0400, else ErrExposed), and hold at least
// MinPassphrase bytes. The caller wipes the result. Errors wrap ErrPassphraseFile.
func ReadPassphrase(path string) (secret.Bytes, error) {
	p, err := ReadSecret(path, "passphrase", MinPassphrase, MaxPassphrase)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("%w: %w", ErrPassphraseFile, err)
	}
	return p, nil
}

// ReadSecret reads what a file holds, called what in errors, of least to most bytes, under the rules of ReadPassphrase. The
// caller wipes the result. Errors are those of the file system, wrap ErrExposed, or say which rule is broken.
func ReadSecret(path, what string, least, most int) (secret.Bytes, error) {
	f, err := os.Open(path)
	if err != nil {
		return secret.Bytes{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return secret.Bytes{}, err
	}
	if !info.Mode().IsRegular() {
		return secret.Bytes{}, fmt.Errorf("%s is not a regular file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return secret.Bytes{}, fmt.Errorf("%w: %s has mode %04o, want 0600", ErrExposed, path, mode)
	}
	buf := secret.New(most + 2)
	defer buf.Wipe()
	n, err := io.ReadFull(f, buf.Expose())
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return secret.Bytes{}, err
	}
	b := buf.Expose()[:n]
	if n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
	}
	if len(b) < least || len(b) > most {
		return secret.Bytes{}, fmt.Errorf("%s holds a %s of a length outside %d to %d bytes", path, what, least, most)
	}
	return secret.From(b), nil
}
