package pin

import (
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// The fields that hold the digits are alike in formats 0 and 4 (ISO 9564-1:2017, 9.3.2.2 and 9.4.2.1): a control nibble, the
// number of digits, the digits, and a fill nibble up to sixteen.
const fieldSize = 8

// putField writes the PIN field of p.
func putField(field *[fieldSize]byte, p PIN, control, fill byte) {
	d := p.digits.Expose()
	field[0] = control<<4 | byte(len(d))
	for i := range 2 * (fieldSize - 1) {
		v := fill
		if i < len(d) {
			v = d[i]
		}
		if i%2 == 0 {
			field[1+i/2] = v << 4
		} else {
			field[1+i/2] |= v
		}
	}
}

// parseField reads a PIN field. Every nibble is looked at whatever the others are; the time taken tells only whether the
// field is good.
func parseField(field *[fieldSize]byte, control, fill byte) (PIN, error) {
	n := field[0] & 0x0F
	bad := notEqual(field[0]>>4, control)
	bad |= byte((int16(n)-minPIN)>>8) | byte((maxPIN-int16(n))>>8)
	fillChecked := byte(0xFF)
	if planted.On(planted.ParsePINBlock) {
		fillChecked = 0
	}
	var digits [2 * (fieldSize - 1)]byte
	defer secret.Wipe(digits[:])
	for i := range digits {
		v := field[1+i/2] >> (4 * (1 - i%2)) & 0x0F
		digits[i] = v
		isFill := byte((int16(n) - 1 - int16(i)) >> 8) // 0xFF from the first fill nibble on
		bad |= isFill & notEqual(v, fill) & fillChecked
		bad |= ^isFill & notDigit(v)
	}
	if secret.Public(bad) != 0 {
		return PIN{}, ErrBlock
	}
	return PIN{digits: secret.From(digits[:secret.Public(n)])}, nil
}

func xor8(dst, src *[fieldSize]byte) {
	for i := range dst {
		dst[i] ^= src[i]
	}
}
