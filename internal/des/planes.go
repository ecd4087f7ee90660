package des

import (
	"fmt"
	"math/bits"
	"runtime"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// word carries one bit of every lane: 64 blocks are worked on at once, and 32 on 32-bit machines.
type word = uint

// Lanes is how many blocks one pass works on.
const Lanes = bits.UintSize

// half is a half of the cipher's state: word i holds bit i+1 of it, as the standard counts, of every lane.
type half [32]word

// Schedule is a DES key of every lane. A round key is a choice of bits of the two halves C and D, rotated; each half stands
// here twice, so that a rotated half is a window and every round is the same code. There is no key set-up to speak of: any
// bit of the key may be changed at any time. The zero value is the key of zeros in every lane.
//
// A Schedule is as secret as its keys; whoever makes one wipes it.
type Schedule struct{ c, d [2 * 28]word }

// rotations is by how many places C and D are rotated in each round, all rounds before it included (FIPS 46-3, appendix 1).
var rotations = [16]uint8{1, 2, 4, 6, 8, 10, 12, 14, 15, 17, 19, 21, 23, 25, 27, 28}

// spread returns a word with the lowest bit of x in every lane.
func spread(x uint64) word { return -(word(x) & 1) }

// Set takes one key for all lanes. Parity is ignored.
func (s *Schedule) Set(key uint64) {
	for i := range 8 { // permuted choice 1 takes the bytes from the right, and of each byte one bit for each row
		s.c[i], s.c[8+i], s.c[16+i] = spread(key>>7), spread(key>>6), spread(key>>5)
		s.d[i], s.d[8+i], s.d[16+i] = spread(key>>1), spread(key>>2), spread(key>>3)
		if i < 4 {
			s.c[24+i] = spread(key >> 4)
		} else {
			s.d[20+i] = spread(key >> 4)
		}
		key >>= 8
	}
	s.double()
}

// SetEach takes a key for each lane, at most Lanes of them; the other lanes get zeros.
func (s *Schedule) SetEach(keys []uint64) {
	var m matrix
	m.load(keys)
	for i := range 8 {
		b := (*[8]word)(m[56-8*i:])
		s.c[i], s.c[8+i], s.c[16+i] = b[0], b[1], b[2]
		s.d[i], s.d[8+i], s.d[16+i] = b[6], b[5], b[4]
		if i < 4 {
			s.c[24+i] = b[3]
		} else {
			s.d[20+i] = b[3]
		}
	}
	s.double()
	m.wipe()
}

func (s *Schedule) double() {
	copy(s.c[28:], s.c[:28])
	copy(s.d[28:], s.d[:28])
}

// Flip inverts the bits of a mask in the lanes that are ones in lanes. The key schedule of DES is linear: this is the whole
// cost of a variant of a key.
func (s *Schedule) Flip(m *Mask, lanes uint) {
	for _, i := range m.c {
		s.c[i] ^= lanes
		s.c[i+28] ^= lanes
	}
	for _, i := range m.d {
		s.d[i] ^= lanes
		s.d[i+28] ^= lanes
	}
}

// Wipe zeroes the keys.
func (s *Schedule) Wipe() {
	if planted.On(planted.SkipWipe) {
		return
	}
	*s = Schedule{}
	runtime.KeepAlive(s)
}

// Blocks is the state of the cipher: a block in every lane, after the initial permutation. The zero value is a block of
// zeros in every lane.
type Blocks struct {
	h       [2]half
	swapped bool // h[1] is the left half
}

func (b *Blocks) halves() (left, right *half) {
	if b.swapped {
		return &b.h[1], &b.h[0]
	}
	return &b.h[0], &b.h[1]
}

// Flip inverts the bits of a mask in the lanes that are ones in lanes.
func (b *Blocks) Flip(m *Mask, lanes uint) {
	left, right := b.halves()
	for _, i := range m.left {
		left[i] ^= lanes
	}
	for _, i := range m.right {
		right[i] ^= lanes
	}
}

// Load puts a block in each lane, at most Lanes of them; the other lanes get zeros.
func (b *Blocks) Load(blocks []uint64) {
	b.swapped = false
	left, right := &b.h[0], &b.h[1] // the initial permutation takes the bytes from the right: even bits to the left half, odd to the right
	var m matrix
	m.load(blocks)
	for i := range 8 {
		p := (*[8]word)(m[56-8*i:])
		right[i], right[8+i], right[16+i], right[24+i] = p[0], p[2], p[4], p[6]
		left[i], left[8+i], left[16+i], left[24+i] = p[1], p[3], p[5], p[7]
	}
	m.wipe()
}

// Store takes the blocks of the first lanes out, at most Lanes of them.
func (b *Blocks) Store(blocks []uint64) {
	left, right := b.halves()
	var m matrix
	for i := range 8 {
		p := (*[8]word)(m[56-8*i:])
		p[0], p[2], p[4], p[6] = right[i], right[8+i], right[16+i], right[24+i]
		p[1], p[3], p[5], p[7] = left[i], left[8+i], left[16+i], left[24+i]
	}
	m.store(blocks)
	m.wipe()
}

// Wipe zeroes the blocks.
func (b *Blocks) Wipe() {
	if planted.On(planted.SkipWipe) {
		return
	}
	*b = Blocks{}
	runtime.KeepAlive(b)
}

// Encrypt encrypts the block of every lane under its key. The final and the next initial permutation cancel: three calls
// are TDES.
func (b *Blocks) Encrypt(s *Schedule) {
	left, right := b.halves()
	for i := 0; i < 16; i += 2 {
		round(left, right, s, rotations[i])
		round(right, left, s, rotations[i+1])
	}
	b.swapped = !b.swapped
}

// Decrypt is the inverse of Encrypt.
func (b *Blocks) Decrypt(s *Schedule) {
	left, right := b.halves()
	for i := 14; i >= 0; i -= 2 {
		round(left, right, s, rotations[i+1])
		round(right, left, s, rotations[i])
	}
	b.swapped = !b.swapped
}

// Format prints a placeholder under every verb.
func (s Schedule) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// Format prints a placeholder under every verb.
func (b Blocks) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

const redacted = "[secret]"
