// Package crockford writes random bits in the base 32 of Douglas Crockford, for codes that people read and type.
//
// The alphabet has 32 characters, without I, L, O and U. [Normalize] reads what people make of it: lower case, hyphens
// and spaces, O for zero, I and L for one.
package crockford

import (
	"errors"
	"strings"
)

// Alphabet has the digits in the order of their values.
const Alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// checkAlphabet has the five further symbols that a check character may be.
const checkAlphabet = Alphabet + "*~$=U"

// ErrText says that a text is not of the alphabet.
var ErrText = errors.New("crockford: not a code: look for a mistyped character")

// Append appends n characters of the leading bits of b to dst, five bits each. b has at least 5n bits.
func Append(dst, b []byte, n int) []byte {
	for i := range n {
		bit := 5 * i
		v := uint16(b[bit/8]) << 8
		if bit/8+1 < len(b) {
			v |= uint16(b[bit/8+1])
		}
		dst = append(dst, Alphabet[v>>(11-bit%8)&31])
	}
	return dst
}

// Check returns the check character of digits: their value modulo 37. All characters are of the alphabet.
func Check(digits []byte) byte {
	sum := 0
	for _, c := range digits {
		sum = (sum*32 + strings.IndexByte(Alphabet, c)) % 37
	}
	return checkAlphabet[sum]
}

// Normalize appends the characters of typed text to dst as Append writes them: upper case, hyphens and spaces left out,
// O read as 0, I and L as 1. The last character may be a check symbol. It fails with ErrText for anything else. dst may
// be typed[:0].
func Normalize(dst, typed []byte) ([]byte, error) {
	for i, c := range typed {
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		switch c {
		case '-', ' ':
			continue
		case 'O':
			c = '0'
		case 'I', 'L':
			c = '1'
		}
		if strings.IndexByte(Alphabet, c) < 0 && (i != len(typed)-1 || strings.IndexByte(checkAlphabet, c) < 0) {
			return nil, ErrText
		}
		dst = append(dst, c)
	}
	return dst, nil
}
