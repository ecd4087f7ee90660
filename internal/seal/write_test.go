package seal

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestWriteFileOrder watches what WriteFile asks of the system, what stands in the folder each time, and that a step that
// fails ends it: content before name, name before success.
func TestWriteFileOrder(t *testing.T) {
	t.Parallel()
	order := []string{"write", "sync file", "rename", "sync folder"}
	broken := errors.New("broken")
	for n := range len(order) + 1 { // the step that fails; none the last time
		dir := t.TempDir()
		path := filepath.Join(dir, "file")
		if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		var calls []string
		step := func(name, want string, do func() error) error {
			if got, err := os.ReadFile(path); err != nil || string(got) != want {
				t.Errorf("before %s the file holds %q (%v), want %q", name, got, err, want)
			}
			calls = append(calls, name)
			if len(calls) == n+1 {
				return broken
			}
			return do()
		}
		fs := system{
			write: func(f *os.File, b []byte) (written int, err error) {
				err = step("write", "old", func() error { written, err = f.Write(b); return err })
				return written, err
			},
			sync: func(f *os.File) error {
				if f.Name() == dir {
					return step("sync folder", "new", f.Sync)
				}
				if got, err := os.ReadFile(f.Name()); err != nil || string(got) != "new" {
					t.Errorf("%q (%v) is synced, want the whole content", got, err)
				}
				return step("sync file", "old", f.Sync)
			},
			rename: func(from, to string) error {
				return step("rename", "old", func() error { return os.Rename(from, to) })
			},
		}
		err := fs.writeFile(path, []byte("new"), 0o600)
		if want := order[:min(n+1, len(order))]; !slices.Equal(calls, want) {
			t.Errorf("step %d fails: calls %q, want %q", n, calls, want)
		}
		if n < len(order) != errors.Is(err, broken) {
			t.Errorf("step %d fails: got %v", n, err)
		}
		if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
			t.Errorf("step %d fails: %v and %v, want the one file", n, names, err)
		}
	}
}

// TestSystem holds the system that programs use to the real one, so that the order above is theirs.
func TestSystem(t *testing.T) {
	t.Parallel()
	closed, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	if err := osSystem.sync(closed); !errors.Is(err, os.ErrClosed) {
		t.Errorf("sync of a closed file: %v, want os.ErrClosed", err)
	}
	if err := SyncDir(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("SyncDir of no folder: %v, want os.ErrNotExist", err)
	}
}
