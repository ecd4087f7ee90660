package pin

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// The number of digits of a PIN, ISO 9564-1:2017, 8.1.
const (
	minPIN = 4
	maxPIN = 12
)

// errPIN says nothing about the digits, nor how many there were.
var errPIN = errors.New("pin: a PIN is 4 to 12 decimal digits")

// PIN is the personal identification number of a cardholder.
//
// It is built by [ParsePIN] or by decoding a block, and its only use is to go into a block again. Copies share one
// memory; [PIN.Wipe] empties them all. A PIN is not safe for use concurrent with Wipe. The zero value holds no PIN and is
// refused everywhere.
type PIN struct {
	digits secret.Bytes // one value 0..9 a byte
}

// ParsePIN reads 4 to 12 ASCII digits. It copies them; the caller still wipes its own.
func ParsePIN(digits []byte) (PIN, error) {
	if len(digits) < minPIN || len(digits) > maxPIN {
		return PIN{}, errPIN
	}
	bad := byte(0)
	for _, d := range digits {
		bad |= notDigit(d - '0')
	}
	if secret.Public(bad) != 0 {
		return PIN{}, errPIN
	}
	s := secret.New(len(digits))
	for i, d := range digits {
		s.Expose()[i] = d - '0'
	}
	return PIN{digits: s}, nil
}

// IsZero reports whether p holds no PIN: the zero value, or wiped.
func (p PIN) IsZero() bool { return p.digits.Len() == 0 }

// Wipe zeroes the digits for every copy of p.
func (p PIN) Wipe() { p.digits.Wipe() }

// Format implements [fmt.Formatter] and never shows a digit.
func (p PIN) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "[PIN]") }

// LogValue implements [slog.LogValuer] and never shows a digit.
func (p PIN) LogValue() slog.Value { return slog.StringValue("[PIN]") }

// MarshalText refuses: a PIN leaves this package in a block only.
func (p PIN) MarshalText() ([]byte, error) { return nil, errors.New("pin: a PIN is not marshalled") }

// notDigit is zero for 0..9 and 0xFF otherwise, without a branch on v.
func notDigit(v byte) byte {
	return byte((9 - int16(v)) >> 8)
}

// notEqual is zero when a and b are equal and 0xFF otherwise, without a branch on either.
func notEqual(a, b byte) byte {
	x := uint16(a ^ b)
	return byte((x | -x) >> 8)
}
