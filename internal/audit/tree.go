package audit

import (
	"fmt"
	"math/bits"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// HashSize is the length of a hash in bytes.
const HashSize = tlog.HashSize

// Hash is the hash of a leaf or of an inner node. It is comparable.
type Hash [HashSize]byte

// String returns the hash in base64, as checkpoints spell it.
func (h Hash) String() string { return tlog.Hash(h).String() }

// Extends says why the log of t does not go on from what had that size and root: nothing if it does. at restores the log of a size
// that is not greater.
func (t Tree) Extends(size uint64, root Hash, at func(size uint64) (Tree, error)) (why string, err error) {
	if size > t.size {
		return fmt.Sprintf("it holds %d records, want %d", t.size, size), nil
	}
	then, err := at(size)
	if err != nil {
		return "", err
	}
	if then.Root() != root {
		return fmt.Sprintf("its first %d records are others", size), nil
	}
	return "", nil
}

// JoinHashes puts hashes one behind the other, as stores keep those that belong to a leaf.
func JoinHashes(hashes []Hash) []byte {
	out := make([]byte, 0, len(hashes)*HashSize)
	for _, h := range hashes {
		out = append(out, h[:]...)
	}
	return out
}

// SplitHashes is the inverse of JoinHashes. It fails when b is no number of whole hashes.
func SplitHashes(b []byte) ([]Hash, error) {
	if len(b)%HashSize != 0 {
		return nil, fmt.Errorf("hashes of %d bytes", len(b))
	}
	var out []Hash
	for ; len(b) > 0; b = b[HashSize:] {
		out = append(out, Hash(b[:HashSize]))
	}
	return out, nil
}

// LeafHash returns the hash of an encoded record: SHA-256(00 || record).
func LeafHash(leaf []byte) Hash { return Hash(tlog.RecordHash(leaf)) }

// Tree is the right edge of a Merkle tree: what is needed to append to it. It is a value: an assignment is a copy that the
// original does not change. The zero value is the empty tree.
type Tree struct {
	size  uint64
	peaks []Hash // roots of the complete subtrees, from left to right; never changed in place
}

// OpenTree restores the tree of size leaves. Of the leaf with index n, hashes returns what Append returned for it.
func OpenTree(size uint64, hashes func(n uint64) ([]Hash, error)) (Tree, error) {
	t := Tree{size: size}
	var left uint64 // leaves before the subtree
	for level := bits.Len64(size) - 1; level >= 0; level-- {
		if size&(1<<level) == 0 {
			continue
		}
		left += 1 << level
		stored, err := hashes(left - 1)
		if err != nil {
			return Tree{}, err
		}
		if len(stored) <= level {
			return Tree{}, fmt.Errorf("audit: leaf %d has %d hashes, want more than %d", left-1, len(stored), level)
		}
		t.peaks = append(t.peaks, stored[level])
	}
	return t, nil
}

// Size returns the number of leaves.
func (t Tree) Size() uint64 { return t.size }

// Append returns the tree with one leaf more, and the hashes of the nodes that the leaf completes, from the leaf upwards:
// those that tlog stores from StoredHashIndex(0, n) on.
func (t Tree) Append(leaf []byte) (Tree, []Hash) {
	h := tlog.RecordHash(leaf)
	completed := []Hash{Hash(h)}
	peaks := slices.Clone(t.peaks)
	for n := t.size; n&1 == 1; n >>= 1 {
		h = tlog.NodeHash(tlog.Hash(peaks[len(peaks)-1]), h)
		peaks = peaks[:len(peaks)-1]
		completed = append(completed, Hash(h))
	}
	return Tree{size: t.size + 1, peaks: append(peaks, Hash(h))}, completed
}

// Root returns the root hash; that of the empty tree is the hash of nothing, as in RFC 6962.
func (t Tree) Root() Hash {
	if t.size == 0 {
		root, err := tlog.TreeHash(0, nil)
		if err != nil {
			panic("audit: " + err.Error()) // it reads nothing
		}
		return Hash(root)
	}
	root := tlog.Hash(t.peaks[len(t.peaks)-1])
	for i := len(t.peaks) - 2; i >= 0; i-- {
		root = tlog.NodeHash(tlog.Hash(t.peaks[i]), root)
	}
	return Hash(root)
}
