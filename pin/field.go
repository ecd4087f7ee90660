package pin

import (
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// layout is how the PIN field of a format looks: a control nibble, the number of digits, the digits, and fill up to sixteen
// nibbles (ISO 9564-1:2017, 9.3.2.2, 9.3.3, 9.3.4, 9.3.5.2 and 9.4.2.2).
type layout struct {
	control   byte
	low, high byte // the fill nibbles that a reader takes
	hasPAN    bool // the block is tied to a PAN
}

var layouts = [...]layout{
	Format0:      {control: 0x0, low: 0xF, high: 0xF, hasPAN: true},
	Format1:      {control: 0x1, low: 0x0, high: 0xF},
	Format2:      {control: 0x2, low: 0xF, high: 0xF},
	Format3:      {control: 0x3, low: 0xA, high: 0xF, hasPAN: true},
	Format4:      {control: 0x4, low: 0xA, high: 0xA, hasPAN: true},
	Format4PAN12: {control: 0x4, low: 0xA, high: 0xA, hasPAN: true},
}

// A field has sixteen nibbles in one word, the first one on top.
const (
	fieldSize    = 8 // bytes
	controlShift = 60
	lengthShift  = 56
	digitShift   = 52 // of the first digit; the next ones go down by four
	fieldDigits  = 14
)

// pinField makes the PIN field of a PIN from its memory. No branch or index depends on the digits or their number.
func (l layout) pinField(m *[pinSize]byte, fill uint64) uint64 {
	n := m[0]
	field := uint64(l.control)<<controlShift | uint64(n)<<lengthShift
	for i := range maxPIN {
		field |= uint64(m[pinDigits+i]) << (digitShift - 4*i)
	}
	return field | fill>>(8+4*n)
}

// parse reads a PIN field into the memory of a PIN, which stays without digits when the field is bad. Every nibble is looked
// at whatever the others are; the time taken tells only whether the field is good.
func (l layout) parse(m *[pinSize]byte, field uint64) error {
	n := byte(field>>lengthShift) & 0xF
	bad := outside(byte(field>>controlShift), l.control, l.control)
	bad |= outside(n, minPIN, maxPIN)
	fillChecked := byte(0xFF)
	if planted.On(planted.ParsePINBlock) {
		fillChecked = 0
	}
	for i := range fieldDigits {
		v := nibble(field, i)
		isFill := fromDigit(n, i)
		bad |= isFill & outside(v, l.low, l.high) & fillChecked
		bad |= ^isFill & outside(v, 0, 9)
	}
	good := ^bad
	m[0] = n & good
	for i := range maxPIN {
		m[pinDigits+i] = nibble(field, i) & ^fromDigit(n, i) & good
	}
	if secret.Public(bad) != 0 {
		return ErrBlock
	}
	return nil
}

// nibble returns the i-th nibble after control and length.
func nibble(field uint64, i int) byte { return byte(field>>(digitShift-4*i)) & 0xF }

// fromDigit is 0xFF from the n-th nibble on, the first that is fill, and zero before it.
func fromDigit(n byte, i int) byte { return byte((int16(n) - 1 - int16(i)) >> 8) }

// panField makes the PAN field of formats 0 and 3: four zero nibbles and the twelve canonical digits (ISO 9564-1:2017,
// 9.3.2.3 and 9.3.5.3).
func (p PAN) panField() (field uint64) {
	for _, d := range p.canonical() {
		field = field<<4 | uint64(d-'0')
	}
	return field
}
