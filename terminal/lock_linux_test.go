package terminal_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/latchkey-pos/latchkey/terminal"
)

// TestUnlockWithCopies unlocks a folder while a copy of the lock's open file is about, as in a process that is being started.
func TestUnlockWithCopies(t *testing.T) {
	dir := t.TempDir()
	unlock, err := terminal.OSFS(dir).Lock()
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(entries, func(e os.DirEntry) bool {
		to, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		return err == nil && filepath.Dir(to) == dir
	})
	if i < 0 {
		t.Fatal("the lock has no open file")
	}
	fd, err := strconv.Atoi(entries[i].Name())
	if err != nil {
		t.Fatal(err)
	}
	kept, err := syscall.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(kept) })
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if err := unlock(); err != nil {
		t.Errorf("a second time: %v", err)
	}
	again, err := terminal.OSFS(dir).Lock()
	if err != nil {
		t.Fatalf("the folder stays locked: %v", err)
	}
	if err := again(); err != nil {
		t.Error(err)
	}
}
