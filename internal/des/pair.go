package des

import (
	"fmt"
	"math/bits"
	"runtime"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// PairSchedule is a DES key for each of the two blocks of a [Pair]. The zero value is the key of zeros for both.
//
// A PairSchedule is as secret as its keys; whoever makes one wipes it.
type PairSchedule [16]roundKey

// roundKey is what a round adds to the inputs of the selection functions. middle stands as the state does, and has the second
// to fifth input of each function. The first is in the lowest bit of each nibble of outer, the sixth in the bit beside it.
type roundKey struct{ middle, outer uint64 }

// Set takes one key for both blocks. Parity is ignored.
func (s *PairSchedule) Set(key uint64) {
	c, d := chosen(key)
	var m [32]uint64
	for slot, at := range pairKeyBits {
		if slot%8 < 6 {
			m[slot] = c>>(at.c&31)<<32 | uint64(uint32(d>>(at.d&31)))
		}
	}
	// Row i has bit i of all round keys, and a column for each rotation of the two halves: this makes the columns rows.
	for i := range 16 {
		m[i], m[i+16] = exchange(m[i], m[i+16], 16, 0x0000FFFF_0000FFFF)
	}
	for i := 0; i < 32; i += 16 {
		for j := range 8 {
			m[i+j], m[i+j+8] = exchange(m[i+j], m[i+j+8], 8, 0x00FF00FF_00FF00FF)
		}
	}
	for i := 0; i < 32; i += 8 {
		for j := range 4 {
			m[i+j], m[i+j+4] = exchange(m[i+j], m[i+j+4], 4, 0x0F0F0F0F_0F0F0F0F)
		}
	}
	for i := 0; i < 32; i += 4 {
		m[i], m[i+2] = exchange(m[i], m[i+2], 2, 0x33333333_33333333)
		m[i+1], m[i+3] = exchange(m[i+1], m[i+3], 2, 0x33333333_33333333)
	}
	for i, rot := range rotations {
		even, odd := m[rot&30], m[rot&30|1]
		v := even&0x55555555_55555555 | odd<<1&0xAAAAAAAA_AAAAAAAA
		if rot%2 != 0 {
			v = even>>1&0x55555555_55555555 | odd&0xAAAAAAAA_AAAAAAAA
		}
		middle, outer := v&0x0F0F0F0F_0F0F0F0F, v>>4&0x03030303_03030303
		s[i] = roundKey{middle | middle<<4, outer | outer<<4}
	}
	clear(m[:])
	runtime.KeepAlive(&m)
}

// Flip inverts the bits of a mask in the key of the second block.
func (s *PairSchedule) Flip(m *PairMask) {
	for i := range s {
		s[i].middle ^= m.key[i].middle
		s[i].outer ^= m.key[i].outer
	}
}

// Wipe zeroes the keys.
func (s *PairSchedule) Wipe() {
	if planted.On(planted.SkipWipe) {
		return
	}
	*s = PairSchedule{}
	runtime.KeepAlive(s)
}

// PairMask is 64 public bits that are flipped in the key of the second block. It is safe for concurrent use.
type PairMask struct{ key PairSchedule }

// NewPairMask returns the mask with these bits.
func NewPairMask(mask uint64) *PairMask {
	m := new(PairMask)
	m.key.Set(mask)
	for i := range m.key {
		m.key[i].middle &= second
		m.key[i].outer &= second
	}
	return m
}

// second are the bits of the second block.
const second = 0xF0F0F0F0_F0F0F0F0

// Pair is the state of the cipher for two blocks, after the initial permutation: for whoever has no more, in half the time that
// [Blocks] takes. Each half has a byte for each selection function, the first one on the left, with four bits of the first
// block on the right and four of the second on the left. The zero value is two blocks of zeros.
type Pair struct{ left, right uint64 }

// Set takes the two blocks.
func (p *Pair) Set(first, second uint64) {
	l, r := permuted(first)
	p.left, p.right = l, r
	l, r = permuted(second)
	p.left |= l << 4
	p.right |= r << 4
}

// Blocks returns the two blocks.
func (p *Pair) Blocks() (first, second uint64) {
	return unpermuted(p.left, p.right), unpermuted(p.left>>4, p.right>>4)
}

// Encrypt encrypts each block under its key. The final and the next initial permutation cancel: three calls are TDES.
func (p *Pair) Encrypt(s *PairSchedule) {
	l, r := p.left, p.right
	for i := 0; i < 16; i += 2 {
		l ^= mix(r, &s[i])
		r ^= mix(l, &s[i+1])
	}
	p.left, p.right = r, l
}

// Decrypt is the inverse of Encrypt.
func (p *Pair) Decrypt(s *PairSchedule) {
	l, r := p.left, p.right
	for i := 15; i > 0; i -= 2 {
		l ^= mix(r, &s[i])
		r ^= mix(l, &s[i-1])
	}
	p.left, p.right = r, l
}

// Wipe zeroes the blocks.
func (p *Pair) Wipe() {
	if planted.On(planted.SkipWipe) {
		return
	}
	*p = Pair{}
	runtime.KeepAlive(p)
}

// Format prints a placeholder under every verb.
func (s PairSchedule) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// Format prints a placeholder under every verb.
func (p Pair) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// chosen is permuted choice 1. Bit i of C or D, as the standard counts from 0, is bit i of c or d from the right, and again 28
// places on.
func chosen(key uint64) (c, d uint64) {
	x := transpose8(key)
	c = x>>56 | x>>40&0xFF00 | x>>24&0xFF0000 | x>>8&0xF000000
	d = x>>8&0xFF | x>>8&0xFF00 | x>>8&0xFF0000 | x>>12&0xF000000
	return c | c<<28, d | d<<28
}

// permuted is the initial permutation, and a byte for every four bits.
func permuted(block uint64) (left, right uint64) {
	x := transpose8(bits.ReverseBytes64(block))
	return apart(x), apart(x >> 8)
}

// unpermuted is the inverse of permuted, whatever the other four bits of each byte are.
func unpermuted(left, right uint64) uint64 {
	return bits.ReverseBytes64(transpose8(together(left) | together(right)<<8))
}

// apart gives every other byte of x two bytes, with four bits of it in each.
func apart(x uint64) uint64 {
	x &= 0x00FF00FF_00FF00FF
	return (x | x<<4) & 0x0F0F0F0F_0F0F0F0F
}

// together is the inverse of apart.
func together(x uint64) uint64 {
	x &= 0x0F0F0F0F_0F0F0F0F
	return (x | x>>4) & 0x00FF00FF_00FF00FF
}

// transpose8 exchanges bit i of byte j for bit j of byte i, both counted from the right.
func transpose8(x uint64) uint64 {
	t := (x ^ x>>7) & 0x00AA00AA_00AA00AA
	x ^= t ^ t<<7
	t = (x ^ x>>14) & 0x0000CCCC_0000CCCC
	x ^= t ^ t<<14
	t = (x ^ x>>28) & 0x00000000_F0F0F0F0
	return x ^ t ^ t<<28
}

// exchange exchanges the bits of a under mask<<n for those of b under mask.
func exchange(a, b uint64, n uint, mask uint64) (uint64, uint64) {
	t := (a>>n ^ b) & mask
	return a ^ t<<n, b ^ t
}

// fill gives every nibble its lowest bit in all four places.
func fill(x uint64) uint64 {
	x &= 0x11111111_11111111
	return x<<4 - x
}
