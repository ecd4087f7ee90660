package feed

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/canon"
)

const (
	maxPageBytes     = 256 << 20 // a snapshot of some 200,000 terminals
	maxPageRecords   = 1 << 18
	maxEnvelopeBytes = 64 << 10
	maxChain         = 8
)

// Page is one answer of the authority: its head, and what the asker does not have yet.
type Page struct {
	Head     []byte   // envelope of a Head
	Snapshot bool     // Records are the latest of every terminal, by sequence; otherwise those that follow what was asked for
	Records  [][]byte // envelopes
	Chain    [][]byte // DER certificates that issued those of the signers, without roots
}

// SnapshotDigest returns what a head says of a snapshot: the SHA-256 of the SHA-256s of the envelopes, in their order.
func SnapshotDigest(envelopes [][]byte) [sha256.Size]byte {
	digest := sha256.New()
	for _, e := range envelopes {
		h := sha256.Sum256(e)
		digest.Write(h[:])
	}
	return [sha256.Size]byte(digest.Sum(nil))
}

var pageCodec = canon.New(maxPageRecords, 4)

// wirePage is a page. Lists and the flag are left out when they are empty.
type wirePage struct {
	Version  uint     `cbor:"v"`
	Head     []byte   `cbor:"head"`
	Chain    [][]byte `cbor:"chain,omitempty"`
	Records  [][]byte `cbor:"records,omitempty"`
	Snapshot bool     `cbor:"snapshot,omitempty"`
}

// Marshal returns the deterministic CBOR of a page. The error wraps ErrFormat.
func (p *Page) Marshal() ([]byte, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	b, err := pageCodec.Marshal(&wirePage{formatVersion, p.Head, p.Chain, p.Records, p.Snapshot})
	if err != nil {
		return nil, broken("page: %v", err)
	}
	if len(b) > maxPageBytes {
		return nil, broken("page of %d bytes, want at most %d", len(b), maxPageBytes)
	}
	return b, nil
}

func (p *Page) validate() error {
	if len(p.Records) > maxPageRecords || len(p.Chain) > maxChain {
		return broken("page: %d records and %d certificates, want at most %d and %d", len(p.Records), len(p.Chain), maxPageRecords, maxChain)
	}
	for _, list := range [][][]byte{{p.Head}, p.Records, p.Chain} {
		for _, b := range list {
			if len(b) < 1 || len(b) > maxEnvelopeBytes {
				return broken("page: a part of %d bytes, want 1 to %d", len(b), maxEnvelopeBytes)
			}
		}
	}
	return nil
}

// ParsePage reads a page. Its slices are parts of b. Marshal of the result gives back the same bytes. The error wraps
// ErrFormat.
//
// It reads the one spelling of a page by hand, because a decoder that copies would hold a large snapshot three times.
func ParsePage(b []byte) (*Page, error) {
	if len(b) > maxPageBytes {
		return nil, broken("page of %d bytes, want at most %d", len(b), maxPageBytes)
	}
	r := reader{rest: b}
	members := r.head(cborMap)
	r.text("v")
	r.literal(formatVersion)
	r.text("head")
	p := &Page{Head: r.bytes()}
	known := uint64(2)
	if r.optional("chain") {
		p.Chain, known = r.list(maxChain), known+1
	}
	if r.optional("records") {
		p.Records, known = r.list(maxPageRecords), known+1
	}
	if r.optional("snapshot") {
		r.literal(cborTrue)
		p.Snapshot, known = true, known+1
	}
	switch {
	case r.err != nil:
		return nil, broken("page: %v", r.err)
	case members != known || len(r.rest) != 0:
		return nil, broken("page: unknown members, or bytes after the end")
	}
	return p, p.validate()
}

// The first three bits of an item of CBOR, and the item true.
const (
	cborBytes = 2 << 5
	cborText  = 3 << 5
	cborArray = 4 << 5
	cborMap   = 5 << 5
	cborTrue  = 0xf5
)

// reader reads items of CBOR from the front and keeps the first error.
type reader struct {
	rest []byte
	err  error
}

// head reads the head of an item of one major type, and returns its number, which is in its shortest form.
func (r *reader) head(major byte) uint64 {
	if r.err != nil || len(r.rest) == 0 || r.rest[0]&0xe0 != major {
		r.fail("another type than expected, or the end")
		return 0
	}
	n := uint64(r.rest[0] & 0x1f)
	r.rest = r.rest[1:]
	if n < 24 {
		return n
	}
	size := 1 << (n - 24)
	if n > 26 || len(r.rest) < size { // nothing here has 8 bytes of length
		r.fail("a length that is too long or cut short")
		return 0
	}
	var wide [4]byte
	copy(wide[4-size:], r.rest)
	r.rest = r.rest[size:]
	n = uint64(binary.BigEndian.Uint32(wide[:]))
	if least := [...]uint64{1: 24, 2: 1 << 8, 4: 1 << 16}[size]; n < least {
		r.fail("a length that is not in its shortest form")
		return 0
	}
	return n
}

// bytes reads a byte string and returns it where it stands.
func (r *reader) bytes() []byte {
	n := r.head(cborBytes)
	if n > uint64(len(r.rest)) {
		r.fail("a byte string that is cut short")
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

// list reads an array of 1 to limit byte strings.
func (r *reader) list(limit uint64) [][]byte {
	n := r.head(cborArray)
	if n < 1 || n > limit || n > uint64(len(r.rest)) {
		r.fail("a list with %d elements", n)
		return nil
	}
	list := make([][]byte, 0, n)
	for range n {
		list = append(list, r.bytes())
	}
	return list
}

// optional reads a text if it is the one that comes next.
func (r *reader) optional(s string) bool {
	if r.err != nil || len(r.rest) == 0 || r.rest[0] != cborText|byte(len(s)) || !bytes.HasPrefix(r.rest[1:], []byte(s)) {
		return false
	}
	r.rest = r.rest[1+len(s):]
	return true
}

// text reads exactly this text, of fewer than 24 characters.
func (r *reader) text(s string) {
	if !r.optional(s) {
		r.fail("no member %q where it belongs", s)
	}
}

// literal reads exactly this byte.
func (r *reader) literal(b byte) {
	if r.err != nil || len(r.rest) == 0 || r.rest[0] != b {
		r.fail("another value than %#02x", b)
		return
	}
	r.rest = r.rest[1:]
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}
