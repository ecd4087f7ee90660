package keyring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/latchkey-pos/latchkey/internal/crockford"
	"github.com/latchkey-pos/latchkey/internal/filelock"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

const (
	lmkFile      = "lmk.sealed"
	nextLMKFile  = "lmk.next.sealed" // beside it while Rewrap is at work, or was interrupted
	lockFile     = "lock"
	keySuffix    = ".key"
	secretSuffix = ".secret"

	folderMode = 0o700
	fileMode   = 0o600
)

// checkFolder refuses a folder that others than its owner can enter.
func checkFolder(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("keyring: %s is not a folder", dir)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%w: %s has mode %04o, want %04o", ErrExposed, dir, mode, folderMode)
	}
	return nil
}

// checkFile refuses what is not a plain file of its owner alone.
func checkFile(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is not a regular file", ErrDamaged, path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%w: %s has mode %04o, want %04o", ErrExposed, path, mode, fileMode)
	}
	return nil
}

// readFile reads a file of the folder after checking who can read it.
func readFile(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	if err := checkFile(path, info); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return b, nil
}

// list returns the names of key files and of secret files. A file that is neither is an error, so that nothing in the
// folder goes unread; names with a dot in front are leftovers of an interrupted write.
func list(dir string) (keyFiles, secretFiles []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("keyring: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case strings.HasPrefix(name, ".") || name == lmkFile || name == nextLMKFile || name == lockFile:
		case strings.HasSuffix(name, keySuffix):
			keyFiles = append(keyFiles, name)
		case strings.HasSuffix(name, secretSuffix):
			secretFiles = append(secretFiles, name)
		default:
			return nil, nil, fmt.Errorf("%w: %s does not belong here", ErrDamaged, filepath.Join(dir, name))
		}
	}
	return keyFiles, secretFiles, nil
}

// vacant refuses a folder that holds anything.
func vacant(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("keyring: %w", err)
	}
	if len(entries) != 0 {
		return fmt.Errorf("keyring: %s is not empty; a ring is never made over another: %w", dir, fs.ErrExist)
	}
	return nil
}

// makeFolder makes dir and what is missing above it, so that all of it is still there after a power cut. dir is clean.
func makeFolder(dir string, syncDir func(string) error) error {
	parent := filepath.Dir(dir)
	if _, err := os.Stat(parent); errors.Is(err, fs.ErrNotExist) {
		if err := makeFolder(parent, syncDir); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, folderMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("keyring: %w", err)
	}
	return syncDir(parent)
}

// underLock runs f while this process alone may add files to the folder.
func underLock(dir string, f func() error) error {
	file, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	defer file.Close()                          // also unlocks
	if err := filelock.Lock(file); err != nil { // or two processes could take one name for two keys
		return fmt.Errorf("keyring: %w", err)
	}
	return f()
}

// newID makes a key id. 26 characters from 26 random bytes carry 130 bits.
func newID(random []byte) string {
	defer secret.Wipe(random)
	out := make([]byte, len(random))
	for i, b := range random {
		out[i] = crockford.Alphabet[b&31]
	}
	return string(out)
}
