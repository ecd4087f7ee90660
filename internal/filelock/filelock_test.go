//go:build unix

package filelock_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/filelock"
)

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// taken reports whether somebody else than f has the lock, and leaves f without it.
func taken(t *testing.T, f *os.File) bool {
	t.Helper()
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	return false
}

func TestLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	f, other := open(t, path), open(t, path)
	if taken(t, other) {
		t.Fatal("locked before Lock")
	}
	for _, release := range []struct {
		name string
		do   func(*os.File) error
	}{{"Unlock", filelock.Unlock}, {"Close", (*os.File).Close}} {
		if err := filelock.Lock(f); err != nil {
			t.Fatal(err)
		}
		if !taken(t, other) {
			t.Error("not locked after Lock")
		}
		if err := release.do(f); err != nil {
			t.Fatal(err)
		}
		if taken(t, other) {
			t.Errorf("still locked after %s", release.name)
		}
	}
	if err := filelock.Lock(f); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("lock of a closed file: %v, want an error that names it", err)
	}
	if err := filelock.Unlock(f); err == nil {
		t.Error("unlocked a closed file")
	}
}

// TestLockWaits counts in a file, each time through a file of its own: no count is lost.
func TestLockWaits(t *testing.T) {
	t.Parallel()
	const workers, each = 8, 25
	dir := t.TempDir()
	count := filepath.Join(dir, "count")
	if err := os.WriteFile(count, []byte("0"), 0o600); err != nil {
		t.Fatal(err)
	}
	increment := func() error {
		f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := filelock.Lock(f); err != nil {
			return err
		}
		b, err := os.ReadFile(count)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(b))
		if err != nil {
			return err
		}
		return os.WriteFile(count, []byte(strconv.Itoa(n+1)), 0o600)
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				if err := increment(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if b, err := os.ReadFile(count); err != nil || string(b) != strconv.Itoa(workers*each) {
		t.Errorf("counted %s (%v), want %d", b, err, workers*each)
	}
}
