package pin

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
)

// Fill is what makes two blocks of one PIN differ, eight bytes. It must be fresh for each block: [GenerateFill] draws one; a
// host that has to repeat an answer byte for byte derives it from a secret instead. What a format takes of it:
//
//   - format 1: the transaction field, as many nibbles from the left as the digits leave free, 2 to 10. It may also be
//     given: ISO 9564-1:2017, 9.3.3 only wants it to be unique, as a sequence number with a time stamp is.
//   - format 3: fill nibbles A to F, each as likely as another when the eight bytes are random.
//   - format 4: the second half of the block, as it is.
//   - formats 0 and 2: nothing; their fill is fixed.
type Fill [8]byte

// GenerateFill draws a Fill from the system's random source.
func GenerateFill() (f Fill) {
	_, _ = rand.Read(f[:]) // cannot fail
	return f
}

// word returns sixteen nibbles from low to high, of which the PIN field takes those from the left that it has room for. The
// fill is read as a fraction in the base of their number: of sixteen that gives its own nibbles, of one that one. The ten
// nibbles that a block of format 3 has room for use 26 of the 64 bits, so that none is likelier than another by more than
// 2^-38.
func (l layout) word(f Fill) (w uint64) {
	x, base := binary.BigEndian.Uint64(f[:]), uint64(l.high-l.low)+1
	for range 16 {
		var v uint64
		v, x = bits.Mul64(x, base)
		w = w<<4 | (uint64(l.low) + v)
	}
	return w
}
