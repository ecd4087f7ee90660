package keyring

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
)

// TestCreateIsDurable watches which folders are synced: each one that got a new folder in it, before anything is written there.
func TestCreateIsDurable(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	var synced []string
	o := cheap
	o.syncDir = func(dir string) error {
		if files, _ := filepath.Glob(filepath.Join(root, "a", "b", "*")); len(files) != 0 {
			t.Errorf("%s is synced after %q were written", dir, files)
		}
		synced = append(synced, dir)
		return nil
	}
	r, err := CreateWith(filepath.Join(root, "a", "b")+"/", passphrase, o)
	must(t, err)
	r.Close()
	if want := []string{root, filepath.Join(root, "a")}; !slices.Equal(synced, want) {
		t.Errorf("synced %q, want %q", synced, want)
	}

	broken := errors.New("no sync today")
	o.syncDir = func(string) error { return broken }
	if r, err := CreateWith(filepath.Join(root, "c"), passphrase, o); !errors.Is(err, broken) {
		t.Errorf("got %v and %v, want the error of the sync", r, err)
	}
}
