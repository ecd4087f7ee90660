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

// The memory of a PIN: the number of its digits, and the digits, one value 0..9 a byte and zeros behind them.
const (
	pinDigits = 1
	pinSize   = pinDigits + maxPIN
)

// PIN is the personal identification number of a cardholder, as it was typed: the terminal's.
//
// It is built by [ParsePIN], and its only use is to go into a block. A host has none: what it reads from a block is an
// [Opened]. Copies share one memory; [PIN.Wipe] empties them all. A PIN is not safe for use concurrent with Wipe. The zero
// value holds no PIN and is refused everywhere.
type PIN struct {
	memory secret.Bytes // pinSize bytes, or none
}

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
	p := PIN{memory: secret.New(pinSize)}
	m := p.bytes()
	m[0] = byte(len(digits))
	for i, d := range digits {
		m[pinDigits+i] = d - '0'
	}
	return p, nil
}

// IsZero reports whether p holds no PIN: the zero value, or wiped.
func (p PIN) IsZero() bool { return p.bytes() == nil }

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

// outside is zero when low <= v <= high and 0xFF otherwise, without a branch on v.
func outside(v, low, high byte) byte {
	return byte((int16(v)-int16(low))>>8) | byte((int16(high)-int16(v))>>8)
}
