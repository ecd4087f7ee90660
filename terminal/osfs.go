package terminal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/latchkey-pos/latchkey/internal/seal"
)

const lockName = "lock"

// OSFS returns a folder of the operating system as an FS. The folder must exist; its files are readable by the owner
// only. Lock is an advisory lock of the system, which ends with the process however that ends.
func OSFS(dir string) FS { return osFS{dir: dir} }

type osFS struct{ dir string }

func (f osFS) path(name string) (string, error) {
	if name == "" || name != filepath.Base(name) || name[0] == '.' {
		return "", fmt.Errorf("terminal: %q is not a file name", name)
	}
	return filepath.Join(f.dir, name), nil
}

func (f osFS) Create(name string) (File, error) {
	return f.open(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
}

func (f osFS) Open(name string) (File, error) { return f.open(name, os.O_RDWR) }

func (f osFS) open(name string, flags int) (File, error) {
	path, err := f.path(name)
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{file}, nil
}

func (f osFS) Rename(from, to string) error {
	a, err := f.path(from)
	if err != nil {
		return err
	}
	b, err := f.path(to)
	if err != nil {
		return err
	}
	return os.Rename(a, b)
}

func (f osFS) Remove(name string) error {
	path, err := f.path(name)
	if err != nil {
		return err
	}
	return os.Remove(path)
}

func (f osFS) List() ([]string, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && e.Name() != lockName {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

func (f osFS) SyncDir() error { return seal.SyncDir(f.dir) }

func (f osFS) Lock() (func() error, error) {
	file, err := os.OpenFile(filepath.Join(f.dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lockFile(file); err != nil {
		_ = file.Close() // the lock error is the one to report
		return nil, err
	}
	return unlock(file), nil
}

// unlock returns the unlocking of file, once. Closing alone would not do: a process that is just being started by another
// goroutine has the file open, too, for a moment, and keeps the lock as long.
func unlock(file *os.File) func() error {
	return sync.OnceValue(func() error { return errors.Join(unlockFile(file), file.Close()) })
}

type osFile struct{ *os.File }

// Size returns the size in bytes.
func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
