// Package padding fills data up to whole blocks of a cipher, and takes the filling off again without telling how it was wrong.
//
// [Method.Pad] goes before encryption and [Method.Unpad] behind decryption. Unpad has one error for every fault and no branch
// on the bytes it judges, but that there was a fault can be seen, and whoever may try ciphertexts and see it decrypts without
// the key. Verify a MAC over the ciphertext first.
//
// The paddings of MACs are those of package mac.
package padding

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// Method is a way to fill up data. The zero value is none of them and is refused.
type Method uint8

// The methods.
const (
	// None adds nothing: data comes in whole blocks.
	None Method = iota + 1
	// Zero adds as few zeros as needed, none to whole blocks. Unpad leaves them on: data that ends in zeros of its own cannot be
	// told from the filling, so taking them off would change data. Whoever sends so knows the length from the data itself.
	Zero
	// ISO9797M2 is method 2 of ISO/IEC 9797-1, 6.3.3: a byte 80, then as few zeros as needed. There is always some.
	ISO9797M2
	// PKCS7 is that of RFC 5652, 6.3: 1 to a whole block of bytes, each the number of them. There is always some.
	PKCS7
)

var (
	// ErrMethod says that the method is none of this package.
	ErrMethod = errors.New("padding: unknown method")
	// ErrLength says that data is empty or not in whole blocks where it must be, or that a block has no or more than 255 bytes.
	ErrLength = errors.New("padding: wrong length")
	// ErrPadding says that the filling is not one the method makes. It never says how.
	ErrPadding = errors.New("padding: invalid padding")
)

// Pad appends data, filled up to blocks of size bytes, to dst, which must not overlap data. None and Zero fail with [ErrLength]
// for empty data, which would stay empty, and None for data that is not in whole blocks; all fail for a size outside of 1
// to 255.
func (m Method) Pad(dst, data []byte, size int) ([]byte, error) {
	if err := m.check(size); err != nil {
		return dst, err
	}
	fill := size - len(data)%size
	if fill == size && (m == None || m == Zero) {
		fill = 0
	}
	if m == None && fill != 0 || len(data)+fill == 0 {
		return dst, fmt.Errorf("%w: %d bytes of data in blocks of %d", ErrLength, len(data), size)
	}
	dst = append(slices.Grow(dst, len(data)+fill), data...)
	start := len(dst)
	dst = dst[:start+fill]
	clear(dst[start:])
	switch m {
	case ISO9797M2:
		dst[start] = 0x80
	case PKCS7:
		for i := range fill {
			dst[start+i] = byte(fill)
		}
	}
	return dst, nil
}

// Unpad returns data without its filling, as a part of data. None and [Zero] take nothing off. It fails with [ErrPadding] for
// every filling that Pad does not make, and with [ErrLength] for data that is empty or not in whole blocks.
//
// The time depends on the lengths, of data and of the result, and on whether it fails.
func (m Method) Unpad(data []byte, size int) ([]byte, error) {
	if err := m.check(size); err != nil {
		return nil, err
	}
	if len(data) == 0 || len(data)%size != 0 {
		return nil, fmt.Errorf("%w: %d bytes of padded data in blocks of %d", ErrLength, len(data), size)
	}
	last := data[len(data)-size:]
	fill, good := 0, 1
	switch m {
	case ISO9797M2:
		fill, good = judgeISO(last)
	case PKCS7:
		fill, good = judgePKCS7(last)
	}
	if secret.Public(good) != 1 {
		return nil, ErrPadding
	}
	return data[:len(data)-secret.Public(fill)], nil
}

// check refuses what no data can be padded with.
func (m Method) check(size int) error {
	if m < None || m > PKCS7 {
		return fmt.Errorf("%w: %d", ErrMethod, uint8(m))
	}
	if size < 1 || size > 255 {
		return fmt.Errorf("%w: blocks of %d bytes", ErrLength, size)
	}
	return nil
}

// judgeISO counts the filling of a last block: back over zeros to the first other byte, which must be 80. Every byte is read.
func judgeISO(block []byte) (fill, good int) {
	searching := 1
	for i := len(block) - 1; i >= 0; i-- {
		other := searching & (1 ^ subtle.ConstantTimeByteEq(block[i], 0))
		good |= other & subtle.ConstantTimeByteEq(block[i], 0x80)
		fill += searching
		searching &^= other
	}
	return fill, good
}

// judgePKCS7 reads the filling of a last block off its last byte n, and compares the last n bytes with it. Every byte is read.
func judgePKCS7(block []byte) (fill, good int) {
	n := block[len(block)-1]
	fill = int(n)
	good = subtle.ConstantTimeLessOrEq(1, fill) & subtle.ConstantTimeLessOrEq(fill, len(block))
	for i := range block {
		inside := subtle.ConstantTimeLessOrEq(len(block)-i, fill)
		good &= 1 ^ inside&(1^subtle.ConstantTimeByteEq(block[i], n))
	}
	return fill, good
}
