package residue_test

import (
	"crypto/des"
	"encoding/binary"
	"math/bits"
	"reflect"
	"unsafe"
)

// kind is what a trace is of.
type kind uint8

const (
	controlKey kind = iota + 1
	initialKey
	transactionKey
	workingKey
	subKey
	slicedKey
	pairedKey
	heldKey
	mixedKey
	digitsOfKey
	blockKey
	kinds
)

var kindNames = [kinds]string{
	controlKey: "control", initialKey: "initial", transactionKey: "transaction", workingKey: "working", subKey: "DES sub-key",
	slicedKey: "bit-sliced", pairedKey: "in pairs", heldKey: "held", mixedKey: "HMAC", digitsOfKey: "digits", blockKey: "key block",
}

// needles is a set of 8-byte words to look for at any address. A bit field in front of the table answers for the words that
// are not in it, nearly all.
type needles struct {
	filter []uint64
	words  []uint64
	kinds  []kind
	n      int
}

const (
	filterBits = 27
	tableBits  = 23
)

func newNeedles() *needles {
	return &needles{filter: make([]uint64, 1<<(filterBits-6)), words: make([]uint64, 1<<tableBits), kinds: make([]kind, 1<<tableBits)}
}

func scramble(w uint64) uint64 { return w * 0x9e3779b97f4a7c15 }

func (s *needles) add(k kind, w uint64) {
	if w == 0 || w == ^uint64(0) {
		return
	}
	h := scramble(w)
	f := h >> (64 - filterBits)
	s.filter[f>>6] |= 1 << (f & 63)
	at := h >> (64 - tableBits)
	for ; s.kinds[at] != 0; at = (at + 1) & (1<<tableBits - 1) {
		if s.words[at] == w {
			return
		}
	}
	s.words[at], s.kinds[at] = w, k
	if s.n++; s.n > 1<<tableBits*3/4 {
		panic("residue: the table is too small")
	}
}

func (s *needles) find(w uint64) kind {
	h := scramble(w)
	f := h >> (64 - filterBits)
	if s.filter[f>>6]>>(f&63)&1 == 0 {
		return 0
	}
	for at := h >> (64 - tableBits); s.kinds[at] != 0; at = (at + 1) & (1<<tableBits - 1) {
		if s.words[at] == w {
			return s.kinds[at]
		}
	}
	return 0
}

// addKey adds the halves of a key as they lie in memory: as bytes, as a big-endian number in a 64-bit word, and as two in
// 32-bit words, as generic AES has them.
func (s *needles) addKey(k kind, key []byte) {
	for ; len(key) >= 8; key = key[8:] {
		w := binary.LittleEndian.Uint64(key)
		s.add(k, w)
		s.add(k, bits.ReverseBytes64(w))
		s.add(k, uint64(bits.ReverseBytes32(uint32(w)))|uint64(bits.ReverseBytes32(uint32(w>>32)))<<32)
	}
}

// addDES adds the key schedules of both halves of a TDES key as crypto/des keeps them.
func (s *needles) addDES(key []byte) {
	for ; len(key) >= 8; key = key[8:] {
		schedule := reflect.ValueOf(must(des.NewCipher(key[:8])))
		if schedule.Type().Elem().Size() != 16*8 {
			panic("residue: crypto/des keeps something else than sixteen words")
		}
		for _, w := range unsafe.Slice((*uint64)(schedule.UnsafePointer()), 16) {
			s.add(subKey, w)
		}
	}
}

// scan counts what it finds of each kind at any offset of b.
func (s *needles) scan(b []byte, found *[kinds]int) {
	if len(b) < 8 {
		return
	}
	w := binary.LittleEndian.Uint64(b) << 8 // the first byte of the loop completes the first word
	for _, c := range b[7:] {
		w = w>>8 | uint64(c)<<56
		if k := s.find(w); k != 0 {
			found[k]++
		}
	}
}

// scheduleWords is the length of a bit-sliced key schedule in words: the halves C and D of the key, each of them twice. A word
// holds one bit of the key, for as many keys as it has lanes.
const scheduleWords = 4 * 28

// planeTag tells the 56 bits of a key apart from words of memory.
const planeTag = 0xA5 << 56

// addPlanes adds both halves of a TDES key as scanPlanes reads them.
func (s *needles) addPlanes(key []byte) {
	for ; len(key) >= 8; key = key[8:] {
		s.add(slicedKey, planeTag|permutedChoice(binary.BigEndian.Uint64(key)))
	}
}

// addPairs adds the first and the last round key of both halves of a TDES key as the engine for two blocks keeps them: with the
// same key for the other block, and with that which DUKPT takes for it.
func (s *needles) addPairs(key []byte) {
	for ; len(key) >= 8; key = key[8:] {
		k := binary.BigEndian.Uint64(key)
		for _, mask := range []uint64{0, initialMask} {
			s.add(pairedKey, pairWord(k, k^mask, 1))
			s.add(pairedKey, pairWord(k, k^mask, 28))
		}
	}
}

// initialMask tells the keys of a pair of blocks apart (X9.24-1:2009, A.2).
const initialMask = 0xC0C0C0C0_00000000

// pairWord lays out the round key after so many rotations, two for each round (FIPS 46-3, appendix 1): a byte for each
// selection function, the first one on the left, with the bits of its second to fifth input, those of the second key on the left.
func pairWord(first, second uint64, rotated int) (w uint64) {
	for i, bit := range [32]int{
		17, 11, 24, 1, 28, 15, 6, 21, 19, 12, 4, 26, 7, 27, 20, 13, 52, 31, 37, 47, 40, 51, 45, 33, 49, 39, 56, 34, 42, 50, 36, 29,
	} {
		half := (bit - 1) / 28 * 28
		bit = half + (bit-1-half+rotated)%28
		at := 56 - i/4*8 + 3 - i%4
		w |= permutedChoice(first) >> bit & 1 << at
		w |= permutedChoice(second) >> bit & 1 << (at + 4)
	}
	return w
}

// permutedChoice returns the bits of C and D, the first one lowest (FIPS 46-3, appendix 1, permuted choice 1).
func permutedChoice(key uint64) (cd uint64) {
	for i := range 56 {
		row, byteOf := i/8, i%8
		bit := 7 - row // of C, from the left
		if i >= 28 {
			row, byteOf = (i-28)/8, (i-28)%8
			bit = 1 + row
			if row == 3 {
				bit, byteOf = 4, byteOf+4
			}
		}
		cd |= key >> (8*byteOf + bit) & 1 << i
	}
	return cd
}

// scanPlanes counts the bit-sliced schedules with a key in some lane, which lie at whole words.
func (s *needles) scanPlanes(b []byte, found *[kinds]int) {
	n := len(b) / 8
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	same := 0 // the first word that differs from the one looked at
	for i := 0; i+scheduleWords <= n; i++ {
		for same = max(same, i+1); same < n && word(same) == word(i); same++ {
		}
		if same-i >= scheduleWords || word(i) != word(i+28) || word(i+56) != word(i+84) || !doubled(word, i) {
			continue
		}
		for lane := range 64 { // of which one is enough
			cd := uint64(0)
			for j := range 28 {
				cd |= word(i+j)>>lane&1<<j | word(i+56+j)>>lane&1<<(28+j)
			}
			if k := s.find(planeTag | cd); k != 0 {
				found[k]++
				break
			}
		}
	}
}

func doubled(word func(int) uint64, i int) bool {
	for j := range 28 {
		if word(i+j) != word(i+28+j) || word(i+56+j) != word(i+84+j) {
			return false
		}
	}
	return true
}
