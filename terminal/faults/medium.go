package faults

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/latchkey-pos/latchkey/terminal"
)

// sector is what the medium writes at once; a power cut may tear even that.
const sector = 512

// ErrPower is what every call returns once the power is cut.
var ErrPower = errors.New("faults: the power is cut")

// FS is a terminal.FS in memory that forgets like a real disk. What was not synced when the power is cut may be there,
// or not, or in part; names change in the order they were changed in, as far as they got.
type FS struct {
	mu     sync.Mutex
	dir    map[string]*node // as the running system sees it
	stable map[string]*node // names as they are after a cut
	log    []dirChange      // name changes since the last SyncDir
	freed  [][]byte         // what was on the medium in files that were removed or replaced, and was not overwritten
	tidy   bool             // what is freed is not remembered
	locked bool
	dead   bool
	fuse   int // calls until the power is cut; negative: never
	calls  int
}

// node is the content of one file: what the running system sees, and what is certainly on the medium.
type node struct{ volatile, durable []byte }

type dirChange struct {
	from, to string // from "": to is created; to "": from is removed
	node     *node
}

// NewFS returns an empty medium.
func NewFS() *FS {
	return &FS{dir: make(map[string]*node), stable: make(map[string]*node), fuse: -1}
}

// CutAfter cuts the power at the call after n more calls that write. A negative n never does.
func (f *FS) CutAfter(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fuse = n
}

// Tidy has the medium not remember what was in files that are no more: Contains does not find that. It is for a medium that is used
// long.
func (f *FS) Tidy() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tidy, f.freed = true, nil
}

// Calls returns how many writing calls there have been.
func (f *FS) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// Reboot returns the medium as it is found after a power cut now: r decides what became of everything unsynced. The old
// FS stays dead.
func (f *FS) Reboot(r *rand.Rand) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
	names := maps.Clone(f.stable)
	for _, c := range f.log[:r.IntN(len(f.log)+1)] {
		apply(names, c)
	}
	after := NewFS()
	after.freed, after.tidy = slices.Clone(f.freed), f.tidy
	done := make(map[*node]*node)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		n := names[name]
		if done[n] == nil {
			b := survivor(n, r)
			done[n] = &node{volatile: b, durable: slices.Clone(b)}
		}
		after.dir[name], after.stable[name] = done[n], done[n]
	}
	return after
}

func apply(names map[string]*node, c dirChange) {
	if c.from != "" {
		delete(names, c.from)
	}
	if c.to != "" {
		names[c.to] = c.node
	}
}

// survivor mixes the synced and the unsynced content, sector by sector, and tears some sectors.
func survivor(n *node, r *rand.Rand) []byte {
	if slices.Equal(n.volatile, n.durable) {
		return slices.Clone(n.durable)
	}
	out := slices.Clone(n.durable)
	size := len(n.durable)
	if r.IntN(2) == 0 {
		size = len(n.volatile)
	}
	out = append(out, make([]byte, max(0, size-len(out)))...)[:size]
	for at := 0; at < size; at += sector {
		end := min(at+sector, size, len(n.volatile))
		if end <= at {
			break
		}
		switch r.IntN(3) {
		case 0: // lost
		case 1:
			copy(out[at:end], n.volatile[at:end])
		case 2:
			copy(out[at:at+r.IntN(end-at)], n.volatile[at:end])
		}
	}
	return out
}

// Flip inverts one bit of a file, as rot does. It panics if there is no such bit.
func (f *FS) Flip(name string, bit int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.dir[name]
	n.volatile = slices.Clone(n.volatile)
	n.volatile[bit/8] ^= 1 << (bit % 8)
	n.durable = slices.Clone(n.volatile)
}

// Truncate cuts a file to size bytes.
func (f *FS) Truncate(name string, size int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.dir[name]
	n.volatile = slices.Clone(n.volatile[:size])
	n.durable = slices.Clone(n.volatile)
}

// Content returns a copy of every file, by name.
func (f *FS) Content() map[string][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[string][]byte)
	for name, n := range f.dir {
		out[name] = slices.Clone(n.volatile)
	}
	return out
}

// Contains reports whether a byte string is on the medium for certain: in a file as it was last synced, or in the blocks of one
// that is no more.
func (f *FS) Contains(b []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, names := range []map[string]*node{f.dir, f.stable} {
		for _, n := range names {
			if bytes.Contains(n.durable, b) {
				return true
			}
		}
	}
	return slices.ContainsFunc(f.freed, func(old []byte) bool { return bytes.Contains(old, b) })
}

// Clone returns a copy of the medium as if everything had been synced: a stolen image.
func (f *FS) Clone() *FS {
	c := NewFS()
	for name, b := range f.Content() {
		n := &node{volatile: b, durable: slices.Clone(b)}
		c.dir[name], c.stable[name] = n, n
	}
	return c
}

// step counts a writing call and cuts the power when its time has come.
func (f *FS) step() error {
	if f.dead {
		return ErrPower
	}
	f.calls++
	if f.fuse == 0 {
		f.dead = true
		return ErrPower
	}
	if f.fuse > 0 {
		f.fuse--
	}
	return nil
}

func (f *FS) change(c dirChange) {
	for _, gone := range []string{c.to, c.from} {
		if n := f.dir[gone]; n != nil && n != c.node && !f.tidy {
			f.freed = append(f.freed, n.durable)
		}
	}
	apply(f.dir, c)
	f.log = append(f.log, c)
}

// Create implements terminal.FS. Emptying a file that exists is not durable before its Sync.
func (f *FS) Create(name string) (terminal.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step(); err != nil {
		return nil, err
	}
	n := f.dir[name]
	if n == nil {
		n = &node{}
		f.change(dirChange{to: name, node: n})
	}
	n.volatile = nil
	return &file{fs: f, node: n}, nil
}

// Open implements terminal.FS.
func (f *FS) Open(name string) (terminal.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return nil, ErrPower
	}
	n := f.dir[name]
	if n == nil {
		return nil, fmt.Errorf("open %s: %w", name, fs.ErrNotExist)
	}
	return &file{fs: f, node: n}, nil
}

// Rename implements terminal.FS.
func (f *FS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step(); err != nil {
		return err
	}
	n := f.dir[from]
	if n == nil {
		return fmt.Errorf("rename %s: %w", from, fs.ErrNotExist)
	}
	f.change(dirChange{from: from, to: to, node: n})
	return nil
}

// Remove implements terminal.FS.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step(); err != nil {
		return err
	}
	if f.dir[name] == nil {
		return fmt.Errorf("remove %s: %w", name, fs.ErrNotExist)
	}
	f.change(dirChange{from: name})
	return nil
}

// List implements terminal.FS.
func (f *FS) List() ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return nil, ErrPower
	}
	return slices.Sorted(maps.Keys(f.dir)), nil
}

// SyncDir implements terminal.FS.
func (f *FS) SyncDir() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.step(); err != nil {
		return err
	}
	f.stable, f.log = maps.Clone(f.dir), nil
	return nil
}

// Lock implements terminal.FS. The lock of a medium whose power was cut does not outlive it.
func (f *FS) Lock() (func() error, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return nil, ErrPower
	}
	if f.locked {
		return nil, terminal.ErrLocked
	}
	f.locked = true
	return func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.locked = false
		return nil
	}, nil
}

type file struct {
	fs   *FS
	node *node
}

func (f *file) ReadAt(b []byte, at int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.dead {
		return 0, ErrPower
	}
	if at >= int64(len(f.node.volatile)) {
		return 0, io.EOF
	}
	n := copy(b, f.node.volatile[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(b []byte, at int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.step(); err != nil {
		return 0, err
	}
	end := int(at) + len(b)
	v := slices.Clone(f.node.volatile)
	v = append(v, make([]byte, max(0, end-len(v)))...)
	copy(v[at:], b)
	f.node.volatile = v
	return len(b), nil
}

func (f *file) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.dead {
		return 0, ErrPower
	}
	return int64(len(f.node.volatile)), nil
}

func (f *file) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.step(); err != nil {
		return err
	}
	f.node.durable = slices.Clone(f.node.volatile)
	return nil
}

func (f *file) Close() error { return nil }

var _ terminal.FS = (*FS)(nil)
