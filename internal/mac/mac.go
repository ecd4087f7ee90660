// Package mac computes the message authentication codes of retail payments: CMAC (NIST SP 800-38B), and algorithms 1 and 3
// of ISO/IEC 9797-1 with paddings 1 to 3.
//
// Results are full length; callers cut them. Comparing is the caller's, in constant time.
package mac

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"

	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// Padding is a padding method of ISO/IEC 9797-1, 6.3.
type Padding uint8

// The padding methods. Method 1 makes a message and the same message with a zero byte behind it look alike; method 2 does
// not.
const (
	Padding1 Padding = iota + 1 // zeros up to the block; at least one block
	Padding2                    // 80, then zeros up to the block
	Padding3                    // a block with the length in bits in front, then zeros up to the block
)

// ErrPadding says that the padding method is none of the three.
var ErrPadding = errors.New("mac: unknown padding method")

// Retail appends the 8-byte MAC of msg by ISO/IEC 9797-1 algorithm 3 under a 16-byte DES key: CBC under the left half,
// then a decryption under the right and an encryption under the left half.
func Retail(dst, key, msg []byte, p Padding) ([]byte, error) {
	if len(key) != 16 {
		return nil, errors.New("mac: retail MAC key is not 16 bytes")
	}
	left, err := des.New(key[:8])
	if err != nil {
		return nil, err
	}
	defer left.Wipe()
	right, err := des.New(key[8:])
	if err != nil {
		return nil, err
	}
	defer right.Wipe()
	var sum [des.BlockSize]byte
	if err := chain(left, sum[:], msg, p); err != nil {
		return nil, err
	}
	right.Decrypt(sum[:], sum[:])
	left.Encrypt(sum[:], sum[:])
	return append(dst, sum[:]...), nil
}

// CBC appends the full-block MAC of msg by ISO/IEC 9797-1 algorithm 1 under b.
func CBC(dst []byte, b cipher.Block, msg []byte, p Padding) ([]byte, error) {
	sum := make([]byte, b.BlockSize())
	if err := chain(b, sum, msg, p); err != nil {
		return nil, err
	}
	return append(dst, sum...), nil
}

// chain leaves the last block of CBC with a zero vector over the padded message in sum.
func chain(b cipher.Block, sum, msg []byte, p Padding) error {
	size := b.BlockSize()
	if p == Padding3 {
		length := make([]byte, size)
		binary.BigEndian.PutUint64(length[size-8:], 8*uint64(len(msg)))
		mix(b, sum, length)
	}
	for len(msg) >= size {
		mix(b, sum, msg[:size])
		msg = msg[size:]
		if len(msg) == 0 && p != Padding2 {
			return checkPadding(p)
		}
	}
	last := make([]byte, size)
	defer secret.Wipe(last)
	copy(last, msg)
	if p == Padding2 {
		last[len(msg)] = 0x80
	}
	mix(b, sum, last)
	return checkPadding(p)
}

func checkPadding(p Padding) error {
	if p < Padding1 || p > Padding3 {
		return ErrPadding
	}
	return nil
}

func mix(b cipher.Block, sum, block []byte) {
	for i := range sum {
		sum[i] ^= block[i]
	}
	b.Encrypt(sum, sum)
}

// CMAC appends the full-block CMAC of msg under b, a cipher with blocks of 8 or 16 bytes (NIST SP 800-38B, 6.2).
func CMAC(dst []byte, b cipher.Block, msg []byte) []byte {
	size := b.BlockSize()
	subkey := make([]byte, size)
	sum := make([]byte, size)
	last := make([]byte, size)
	defer secret.Wipe(subkey)
	defer secret.Wipe(last)
	b.Encrypt(subkey, subkey)
	double(subkey)
	for len(msg) > size {
		mix(b, sum, msg[:size])
		msg = msg[size:]
	}
	copy(last, msg)
	if len(msg) < size {
		last[len(msg)] = 0x80
		double(subkey)
	}
	for i := range last {
		last[i] ^= subkey[i]
	}
	mix(b, sum, last)
	return append(dst, sum...)
}

// double multiplies by x in GF(2^64) or GF(2^128), without a branch on the secret (SP 800-38B, 5.3: constants 1B and 87).
func double(k []byte) {
	constant := byte(0x1b)
	if len(k) == 16 {
		constant = 0x87
	}
	var carry byte
	for i := len(k) - 1; i >= 0; i-- {
		next := k[i] >> 7
		k[i] = k[i]<<1 | carry
		carry = next
	}
	k[len(k)-1] ^= constant & -carry
}
