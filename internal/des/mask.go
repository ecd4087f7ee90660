package des

import "math/bits"

// Mask is 64 public bits that are flipped in keys and in blocks. It is safe for concurrent use.
type Mask struct{ c, d, left, right []uint8 } // where they stand in the halves

// NewMask returns the mask with these bits.
func NewMask(mask uint64) *Mask {
	m := new(Mask)
	for ; mask != 0; mask &= mask - 1 {
		i := uint8(bits.TrailingZeros64(mask))
		m.add(i/8, i%8)
	}
	return m
}

// add adds a bit of a byte, both counted from the right. Initial permutation and permuted choice 1 are as in Set.
func (m *Mask) add(at, bit uint8) {
	if bit%2 == 0 {
		m.left = append(m.left, at+8*(3-bit/2))
	} else {
		m.right = append(m.right, at+8*(3-bit/2))
	}
	switch {
	case bit == 0: // parity
	case bit < 4:
		m.d = append(m.d, at+8*(bit-1))
	case bit > 4:
		m.c = append(m.c, at+8*(7-bit))
	case at < 4:
		m.c = append(m.c, at+24)
	default:
		m.d = append(m.d, at+20)
	}
}
