package terminal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// FS is the medium that a terminal keeps its state on: one flat folder, some 12 KiB for each file. An implementation for raw flash or a secure
// partition offers the same few calls. Names are plain ASCII without separators. What Sync and SyncDir promise is
// relied on: after Sync returns nil the bytes written to the file survive a power cut, after SyncDir the names do.
// Before that, nothing is assumed: any part of it may be lost or torn. Not safe for concurrent use unless it says so.
type FS interface {
	// Create makes an empty file of that name, readable by the owner only, or empties the one that exists.
	Create(name string) (File, error)
	// Open opens a file that exists, for reading and for writing in place. The error for one that does not exist wraps
	// fs.ErrNotExist.
	Open(name string) (File, error)
	// Rename gives a file another name, atomically replacing the file that has it.
	Rename(from, to string) error
	// Remove removes a file. The error for one that does not exist wraps fs.ErrNotExist.
	Remove(name string) error
	// List returns the names of all files, sorted.
	List() ([]string, error)
	// SyncDir makes creations, renames and removals durable.
	SyncDir() error
	// Lock takes the folder for this process until unlock is called. If it is taken the error wraps ErrLocked.
	Lock() (unlock func() error, err error)
}

// File is one open file of an FS.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Sync() error
}

// maxFile bounds what is read from the medium: three copies of 256 KiB.
const maxFile = 3 * 256 << 10

const temporarySuffix = ".new"

// ReadFile reads a whole file of at most 768 KiB.
func ReadFile(f FS, name string) ([]byte, error) {
	file, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close() // only read
	size, err := file.Size()
	if err != nil {
		return nil, err
	}
	if size > maxFile {
		return nil, fmt.Errorf("terminal: file %s has %d bytes, want at most %d", name, size, maxFile)
	}
	b := make([]byte, size)
	n, err := file.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:n], nil
}

// WriteFile replaces a file so that after a power cut at any moment its old content or its new content is there, whole.
// When it returns nil the new content is durable: a temporary file is written, synced and renamed, then the folder
// synced. On error either content may be there.
func WriteFile(f FS, name string, data []byte) error {
	if err := writeFile(f, name, data); err != nil {
		return fmt.Errorf("terminal: write %s: %w", name, err)
	}
	return nil
}

func writeFile(f FS, name string, data []byte) error {
	tmp := name + temporarySuffix
	file, err := f.Create(tmp)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(data, 0)
	if err == nil && !planted.On(planted.StateNoSync) {
		err = file.Sync()
	}
	if e := file.Close(); err == nil {
		err = e
	}
	if err != nil {
		_ = f.Remove(tmp) // the first error is the one to report
		return err
	}
	if err := f.Rename(tmp, name); err != nil || planted.On(planted.StateNoSyncDir) {
		return err
	}
	return f.SyncDir()
}

// removeFile removes a file durably. A file that is not there is no error.
func removeFile(f FS, name string) error {
	if err := f.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("terminal: remove %s: %w", name, err)
	}
	return f.SyncDir()
}

// removeTemporary destroys what interrupted writes and removals have left.
func removeTemporary(f FS) error {
	names, err := f.List()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasSuffix(name, temporarySuffix) {
			continue
		}
		if err := overwrite(f, name); err != nil {
			return err
		}
	}
	return nil
}
