package fleet_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/fleet"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

var (
	head = fleet.Head{Digest: provision.Digest{1}, Total: 3, Seed: strings.Repeat("0a", 32), Life: 900}
	left = []fleet.Result{{Line: 5, Terminal: "T-4", Code: "TerminalExists", Message: "T-4 is active"}}
	done = []fleet.Result{{Line: 2, Terminal: "T-1", Ticket: "CODE-PIN", Expires: 1_800_000_000}, {Line: 3, Terminal: "T-2", Code: "KeySetUnknown"}}
)

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		check(t, err)
		return v
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// filled makes a file of results with everything in it.
func filled(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "results")
	r := must[*fleet.Results](t)(fleet.Create(path, head, left))
	check(t, r.Approve("0123456789ABCDEFGHJKMNPQRS"))
	check(t, r.Append(done))
	check(t, r.Close())
	return path
}

// TestCreateAtOnce has many make one file of results at once: one does, and what it notes stays.
func TestCreateAtOnce(t *testing.T) {
	t.Parallel()
	for range 20 {
		path := filepath.Join(t.TempDir(), "results")
		var all sync.WaitGroup
		var made atomic.Int32
		for range 8 {
			all.Go(func() {
				r, err := fleet.Create(path, head, left)
				if err != nil {
					if !errors.Is(err, fs.ErrExist) {
						t.Error(err)
					}
					return
				}
				made.Add(1)
				if err := errors.Join(r.Approve("0123456789ABCDEFGHJKMNPQRS"), r.Close()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := made.Load(); n != 1 {
			t.Fatalf("%d have made the file", n)
		}
		r := must[*fleet.Results](t)(fleet.Open(path))
		if r.Approval() == "" {
			t.Error("what was noted is gone")
		}
		check(t, r.Close())
		if files := must[[]fs.DirEntry](t)(os.ReadDir(filepath.Dir(path))); len(files) != 1 {
			t.Errorf("%d files are left", len(files))
		}
	}
}

// TestResults goes on from what is there, wherever a process was killed.
func TestResults(t *testing.T) {
	t.Parallel()
	path := filled(t)
	if info := must[os.FileInfo](t)(os.Stat(path)); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if _, err := fleet.Create(path, head, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made anew: %v", err)
	}
	whole := must[[]byte](t)(os.ReadFile(path))
	first := bytes.IndexByte(whole, '\n') + 1
	for n := first; n <= len(whole); n++ {
		check(t, os.WriteFile(path, whole[:n], 0o600))
		r := must[*fleet.Results](t)(fleet.Open(path))
		lines := bytes.Count(whole[:n], []byte("\n"))
		_, one := r.Done("T-1")
		two, second := r.Done("T-2")
		if r.Head() != head || r.Left("T-4") != (lines > 1) || (r.Approval() != "") != (lines > 2) || one != (lines > 3) || second != (lines > 4) {
			t.Errorf("cut at %d: %d lines, %+v", n, lines, r)
		}
		if second && two != done[1] {
			t.Errorf("read as %+v", two)
		}
		if lines == 4 { // the last one was lost: it is written again
			check(t, r.Append(done[1:]))
		}
		if second && r.Append(done[1:]) == nil {
			t.Error("a result is written twice")
		}
		check(t, r.Close())
		if after := must[[]byte](t)(os.ReadFile(path)); lines == 4 && !bytes.Equal(after, whole) {
			t.Errorf("after a cut at %d it holds %s", n, after)
		}
	}
}

// TestResultsOfOthers opens nothing that others can read, and nothing that is something else.
func TestResultsOfOthers(t *testing.T) {
	t.Parallel()
	path := filled(t)
	whole := string(must[[]byte](t)(os.ReadFile(path)))
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o601, 0o666} {
		check(t, os.Chmod(path, mode))
		if _, err := fleet.Open(path); !errors.Is(err, fleet.ErrExposed) || strings.Contains(err.Error(), head.Seed) {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
	check(t, os.Chmod(path, 0o600))
	link := path + ".link"
	check(t, os.Symlink(path, link))
	for _, other := range []string{link, filepath.Dir(path)} {
		if _, err := fleet.Open(other); !errors.Is(err, fleet.ErrResults) {
			t.Errorf("%s: %v", other, err)
		}
	}
	if _, err := fleet.Open(path + ".none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	lines := strings.SplitAfter(whole, "\n")
	for name, text := range map[string]string{
		"nothing": "", "a text": "hello\n", "no first line": lines[1], "a head twice": lines[0] + lines[0], "an approval twice": lines[0] + lines[2] + lines[2],
		"a result twice": whole + lines[3], "version 2": strings.Replace(whole, `"v":1`, `"v":2`, 1), "a seed cut": strings.Replace(whole, "0a0a0a", "0a0a", 1),
		"a seed in capitals": strings.Replace(whole, "0a", "0A", 1), "an unknown member": lines[0] + `{"line":2,"terminal":"T-1","ticket":"X","x":1}` + "\n",
		"spaces": lines[0] + `{"line":2, "terminal":"T-1","ticket":"X"}` + "\n", "no result": lines[0] + `{"line":2,"terminal":"T-1"}` + "\n",
		"line 1": lines[0] + `{"line":1,"terminal":"T-1","ticket":"X"}` + "\n", "two things": lines[0] + `{"approval":"X","line":2}` + "\n",
		"a long line": lines[0] + `{"line":2,"terminal":"T-1","ticket":"` + strings.Repeat("X", 5000) + `"}` + "\n",
	} {
		check(t, os.WriteFile(path, []byte(text), 0o600))
		r, err := fleet.Open(path)
		if !errors.Is(err, fleet.ErrResults) || strings.Contains(err.Error(), "CODE") || strings.Contains(err.Error(), "0a0a") {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

// FuzzResults reads files. What reads is nothing but what would be written: the lines are those of the results, each once.
func FuzzResults(f *testing.F) {
	whole := must[[]byte](f)(os.ReadFile(filled(f)))
	f.Add(whole)
	f.Add(whole[:len(whole)-5])
	f.Add(whole[:bytes.IndexByte(whole, '\n')+1])
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:bytes.LastIndexByte(b, '\n')+1]
		r, err := fleet.ReadResults(b)
		if err != nil {
			return
		}
		want := must[[]string](t)(r.Lines())
		got := strings.SplitAfter(string(b), "\n")
		got = got[:len(got)-1]
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("%q reads as %q", got, want)
		}
	})
}
