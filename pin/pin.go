package pin

import (
	"errors"
	"fmt"
	"io"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// The number of digits of a PIN, ISO 9564-1:2017, 8.1.
const (
	minPIN = 4
	maxPIN = 12
)

// ErrPIN says that something is no PIN, or that none was given. It names no digit, nor how many there were.
var ErrPIN = errors.New("pin: a PIN is 4 to 12 decimal digits")

var errNoPIN = fmt.Errorf("%w: none given", ErrPIN)

// The memory of a PIN: the number of its digits, the digits, one value 0..9 a byte and zeros behind them, and room to
// decipher a block in.
const (
	pinDigits  = 1
	pinScratch = pinDigits + maxPIN
	pinSize    = pinScratch + format4Size
)

// PIN is the personal identification number of a cardholder.
//
// It is built by [ParsePIN] or by reading a block, and its only use is to go into a block again. Copies share one
// memory; [PIN.Wipe] empties them all. A PIN is not safe for use concurrent with Wipe, Clear or reading a block into it.
// The zero value holds no PIN and is refused everywhere.
type PIN struct {
	memory secret.Bytes // pinSize bytes, or none
}

// NewPIN returns a PIN without digits but with the memory for them: reading a block into it allocates nothing.
func NewPIN() PIN { return PIN{memory: secret.New(pinSize)} }

// ParsePIN reads 4 to 12 ASCII digits, looking at all of them whatever the others are. It copies them; the caller still
// wipes its own. It fails with [ErrPIN].
func ParsePIN(digits []byte) (PIN, error) {
	if len(digits) < minPIN || len(digits) > maxPIN {
		return PIN{}, ErrPIN
	}
	bad := byte(0)
	for _, d := range digits {
		bad |= outside(d, '0', '9')
	}
	if secret.Public(bad) != 0 {
		return PIN{}, ErrPIN
	}
	p := NewPIN()
	m := p.bytes()
	m[0] = byte(len(digits))
	for i, d := range digits {
		m[pinDigits+i] = d - '0'
	}
	return p, nil
}

// IsZero reports whether p holds no PIN: the zero value, wiped, or not yet read.
func (p PIN) IsZero() bool {
	m := p.bytes()
	return m == nil || secret.Public(m[0]) == 0
}

// Clear zeroes the digits for every copy of p and keeps the memory for the next PIN.
func (p PIN) Clear() { secret.Wipe(p.memory.Expose()) }

// Wipe zeroes the digits for every copy of p and lets go of the memory.
func (p PIN) Wipe() { p.memory.Wipe() }

// Format implements [fmt.Formatter] and never shows a digit.
func (p PIN) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "[PIN]") }

// MarshalText refuses: a PIN leaves this package in a block only.
func (p PIN) MarshalText() ([]byte, error) { return nil, errors.New("pin: a PIN is not marshalled") }

// bytes returns the memory of p, or nil when it has none.
func (p PIN) bytes() *[pinSize]byte {
	m := p.memory.Expose()
	if len(m) != pinSize {
		return nil
	}
	return (*[pinSize]byte)(m)
}

// ready returns the memory of p without digits, allocated if there is none.
func (p *PIN) ready() *[pinSize]byte {
	if p.bytes() == nil {
		*p = NewPIN()
	}
	p.Clear()
	return p.bytes()
}

// outside is zero when low <= v <= high and 0xFF otherwise, without a branch on v.
func outside(v, low, high byte) byte {
	return byte((int16(v)-int16(low))>>8) | byte((int16(high)-int16(v))>>8)
}
