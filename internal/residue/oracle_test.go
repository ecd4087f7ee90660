package residue_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"encoding/binary"
	"iter"
	"math/bits"
)

// A second DUKPT, short and without care for its memory: the scanned process is another one. It computes every key that the
// process had at any time, by the letter of ANSI X9.24-1:2009, annex A, and X9.24-3:2017, 6.3.

// visit is given each key with what it was: the key of a counter, or one made of it for a use.
type visit func(kind kind, key []byte)

// tdesKeys visits the keys of the first n counters under a base key.
func tdesKeys(base []byte, ksn [10]byte, n uint32, see visit) {
	root := tdesRoot(base, ksn)
	see(initialKey, root[:])
	tree := map[uint32][16]byte{0: root}
	for c := range counters(n, 10) {
		k := tdesNext(tree[c&(c-1)], ksn, c)
		tree[c] = k
		see(transactionKey, k[:])
		for i := range 5 { // PIN, MAC request and response, data request and response: bytes 7, 6, 4, 5, 3
			v := mask(k, uint64(0xff)<<(8*[]int{0, 1, 3, 2, 4}[i]))
			see(workingKey, v[:])
			if i > 2 {
				one := tripled(v[:])
				one.Encrypt(v[:8], v[:8])
				one.Encrypt(v[8:], v[8:])
				see(workingKey, v[:])
			}
		}
		masked := mask(k, 0xc0c0c0c000000000)
		see(workingKey, masked[:])
	}
}

type blockCipher interface{ Encrypt(dst, src []byte) }

func tripled(key []byte) cipher.Block {
	return must(des.NewTripleDESCipher(append(key[:16:16], key[:8]...)))
}

func tdesRoot(base []byte, ksn [10]byte) (root [16]byte) {
	tripled(base).Encrypt(root[:8], ksn[:8])
	masked := mask([16]byte(base), 0xc0c0c0c000000000)
	tripled(masked[:]).Encrypt(root[8:], ksn[:8])
	return root
}

func mask(k [16]byte, m uint64) [16]byte {
	binary.BigEndian.PutUint64(k[:], binary.BigEndian.Uint64(k[:])^m)
	binary.BigEndian.PutUint64(k[8:], binary.BigEndian.Uint64(k[8:])^m)
	return k
}

func tdesNext(k [16]byte, ksn [10]byte, counter uint32) (next [16]byte) {
	r := binary.BigEndian.Uint64(ksn[2:]) | uint64(counter)
	half := func(dst []byte, k [16]byte) {
		right := binary.BigEndian.Uint64(k[8:])
		binary.BigEndian.PutUint64(dst, r^right)
		must(des.NewCipher(k[:8])).Encrypt(dst, dst)
		binary.BigEndian.PutUint64(dst, binary.BigEndian.Uint64(dst)^right)
	}
	half(next[8:], k)
	half(next[:8], mask(k, 0xc0c0c0c000000000))
	return next
}

// aesKeys visits the keys of the first n counters under an AES-128 base key.
func aesKeys(base []byte, id [8]byte, n uint32, see visit) {
	root := aesDerived([16]byte(base), 0x8001, binary.BigEndian.Uint64(id[:]))
	see(initialKey, root[:])
	tree := map[uint32][16]byte{0: root}
	for c := range counters(n, 16) {
		data := uint64(binary.BigEndian.Uint32(id[4:]))<<32 | uint64(c)
		k := aesDerived(tree[c&(c-1)], 0x8000, data)
		tree[c] = k
		see(transactionKey, k[:])
		for _, usage := range []uint16{0x1000, 0x2000, 0x2001, 0x3000, 0x3001} {
			w := aesDerived(k, usage, data)
			see(workingKey, w[:])
		}
	}
}

func aesDerived(k [16]byte, usage uint16, data uint64) (out [16]byte) {
	block := [16]byte{0: 1, 1: 1, 5: 2, 7: 128}
	binary.BigEndian.PutUint16(block[2:], usage)
	binary.BigEndian.PutUint64(block[8:], data)
	must(aes.NewCipher(k[:])).Encrypt(out[:], block[:])
	return out
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// counters yields the first n counters with at most so many one bits.
func counters(n uint32, ones int) iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for c := uint32(1); n > 0; c++ {
			if bits.OnesCount32(c) > ones {
				continue
			}
			if n--; !yield(c) {
				return
			}
		}
	}
}
