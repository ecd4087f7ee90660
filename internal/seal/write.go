package seal

import (
	"fmt"
	"os"
	"path/filepath"
)

// system is what durable writing asks of the operating system. Tests put another in its place to watch the order of calls.
type system struct {
	write  func(*os.File, []byte) (int, error)
	sync   func(*os.File) error // of files and of folders
	rename func(from, to string) error
}

var osSystem = system{write: (*os.File).Write, sync: (*os.File).Sync, rename: os.Rename}

// WriteFile replaces path with data so that, whatever is cut short, a reader finds the old content or the new one whole:
// a temporary file in the same folder is written, synced, renamed, and the folder synced. When it returns nil the
// content is durable. It works for any bytes, sealed or not.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	return osSystem.writeFile(path, data, mode)
}

// CreateFile is WriteFile for a path where there is nothing yet. Of several that create it at once one does, and the error of the
// others wraps fs.ErrExist.
func CreateFile(path string, data []byte, mode os.FileMode) error {
	s := osSystem
	s.rename = func(from, to string) error { // a rename would replace what somebody else has made meanwhile
		if err := os.Link(from, to); err != nil {
			return err
		}
		return os.Remove(from)
	}
	return s.writeFile(path, data, mode)
}

// SyncDir makes the names in a folder durable: files created, renamed and removed there before.
func SyncDir(dir string) error { return osSystem.syncDir(dir) }

func (s system) writeFile(path string, data []byte, mode os.FileMode) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("seal: write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()           // the first error is the one to report
			_ = os.Remove(f.Name()) // leaves nothing half written behind if it can
			err = fmt.Errorf("seal: write %s: %w", path, err)
		}
	}()
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := s.write(f, data); err != nil {
		return err
	}
	if err := s.sync(f); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := s.rename(f.Name(), path); err != nil {
		return err
	}
	return s.syncDir(dir)
}

func (s system) syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("seal: sync folder: %w", err)
	}
	if err := s.sync(d); err != nil {
		_ = d.Close() // the sync error is the one to report
		return fmt.Errorf("seal: sync folder: %w", err)
	}
	return d.Close()
}
