package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Leaf is one record as a store keeps it.
type Leaf struct {
	Index  uint64 // from 0
	Record []byte // Record.Encode
	Hashes []Hash // what Tree.Append returned with it
}

// Source is a log as it is stored.
type Source interface {
	// Leaves calls yield for every leaf, by index. It stops at the first error of yield and returns it.
	Leaves(ctx context.Context, yield func(Leaf) error) error
	// Checkpoints returns every checkpoint, in any order.
	Checkpoints(ctx context.Context) ([][]byte, error)
}

// Report says what Verify found to be in order.
type Report struct {
	Size        uint64 // leaves
	Root        Hash
	Checkpoints int
	Signed      uint64 // leaves that a checkpoint covers; the rest is only as safe as the disk
}

// LeafError says which leaf is the first that is not as it was written.
type LeafError struct {
	Index  uint64
	Reason string
}

// Error names the leaf.
func (e *LeafError) Error() string { return fmt.Sprintf("audit: leaf %d: %s", e.Index, e.Reason) }

// CheckpointError says which checkpoint the log contradicts: some leaf before its size was changed together with its
// hashes, or leaves are missing.
type CheckpointError struct {
	Size   uint64 // of the checkpoint
	Reason string
}

// Error names the checkpoint.
func (e *CheckpointError) Error() string {
	return fmt.Sprintf("audit: checkpoint of size %d: %s", e.Size, e.Reason)
}

// Verify recomputes a log from its leaves: each is a well-formed record with the sequence of its place, its stored hashes
// are those of its bytes, and every checkpoint is signed and has the root of its size. Checkpoints that were kept elsewhere
// are given in kept; they show it when the newest leaves are gone. It stops at the first fault: a *LeafError, a
// *CheckpointError, an error that wraps ErrCheckpoint, or an error of the source.
func Verify(ctx context.Context, src Source, v *Verifier, kept ...[]byte) (Report, error) {
	stored, err := src.Checkpoints(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("audit: checkpoints: %w", err)
	}
	checkpoints, err := openAll(v, slices.Concat(stored, kept))
	if err != nil {
		return Report{}, err
	}
	w := walk{ahead: checkpoints}
	if err := w.pass(); err != nil {
		return Report{}, err
	}
	if err := src.Leaves(ctx, w.leaf); err != nil {
		return Report{}, err
	}
	if len(w.ahead) > 0 {
		return Report{}, &CheckpointError{w.ahead[0].Size, fmt.Sprintf("the log has only %d leaves", w.tree.Size())}
	}
	r := Report{Size: w.tree.Size(), Root: w.tree.Root(), Checkpoints: len(checkpoints)}
	if n := len(checkpoints); n > 0 {
		r.Signed = checkpoints[n-1].Size
	}
	return r, nil
}

func openAll(v *Verifier, signed [][]byte) ([]Checkpoint, error) {
	var out []Checkpoint
	for i, b := range signed {
		c, err := v.Open(b)
		if err != nil {
			return nil, fmt.Errorf("checkpoint %d: %w", i+1, err)
		}
		out = append(out, c)
	}
	slices.SortStableFunc(out, func(a, b Checkpoint) int {
		switch {
		case a.Size < b.Size:
			return -1
		case a.Size > b.Size:
			return 1
		}
		return 0
	})
	return out, nil
}

// walk recomputes the tree leaf by leaf.
type walk struct {
	tree  Tree
	ahead []Checkpoint // not reached yet, ascending
}

func (w *walk) leaf(l Leaf) error {
	if l.Index != w.tree.Size() {
		return &LeafError{w.tree.Size(), fmt.Sprintf("missing, the next one is %d", l.Index)}
	}
	r, err := ParseRecord(l.Record)
	if err != nil {
		return &LeafError{l.Index, err.Error()}
	}
	if r.Sequence != l.Index+1 {
		return &LeafError{l.Index, fmt.Sprintf("sequence %d, want %d", r.Sequence, l.Index+1)}
	}
	var hashes []Hash
	w.tree, hashes = w.tree.Append(l.Record)
	if !slices.Equal(hashes, l.Hashes) {
		return &LeafError{l.Index, "its hashes are not those of its bytes"}
	}
	return w.pass()
}

// pass compares the checkpoints of the size that was reached.
func (w *walk) pass() error {
	for len(w.ahead) > 0 && w.ahead[0].Size == w.tree.Size() {
		if w.ahead[0].Root != w.tree.Root() {
			return &CheckpointError{w.tree.Size(), "the log has another root: a leaf before it was changed with its hashes"}
		}
		w.ahead = w.ahead[1:]
	}
	return nil
}

// Broken reports whether err says that a log is not as it was written, and not that it could not be read.
func Broken(err error) bool {
	if _, ok := errors.AsType[*LeafError](err); ok {
		return true
	}
	_, ok := errors.AsType[*CheckpointError](err)
	return ok || errors.Is(err, ErrCheckpoint) || errors.Is(err, ErrExport)
}
