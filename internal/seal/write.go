package seal

import (
	"fmt"
	"os"
	"path/filepath"
)

// WriteFile replaces path with data so that, whatever is cut short, a reader finds the old content or the new one whole:
// a temporary file in the same folder is written, synced, renamed, and the folder synced. When it returns nil the
// content is durable. It works for any bytes, sealed or not.
func WriteFile(path string, data []byte, mode os.FileMode) (err error) {
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
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(dir)
}

// SyncDir makes the names in a folder durable: files created, renamed and removed there before.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("seal: sync folder: %w", err)
	}
	if err := d.Sync(); err != nil {
		_ = d.Close() // the sync error is the one to report
		return fmt.Errorf("seal: sync folder: %w", err)
	}
	return d.Close()
}
