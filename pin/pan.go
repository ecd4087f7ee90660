package pin

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// The number of digits of a PAN, ISO/IEC 7812-1.
const (
	minPAN = 8
	maxPAN = 19
)

// canonicalPAN is the number of PAN digits that formats 0 and 3 use.
const canonicalPAN = 12

// ErrPAN says that something is no PAN, or that card data holds none. It names no digit.
var ErrPAN = errors.New("pin: a PAN is 8 to 19 decimal digits")

var errNoPAN = fmt.Errorf("%w: none given", ErrPAN)

// PAN is a primary account number: the card number.
//
// It prints masked: the first six and the last four digits, and the last four alone when there are fewer than thirteen.
// Copies share one memory; [PAN.Wipe] empties them all. A PAN is not safe for use concurrent with Wipe. The zero value
// holds no PAN and is refused everywhere.
type PAN struct {
	digits secret.Bytes // ASCII
}

// ParsePAN reads 8 to 19 decimal digits. The check digit is not verified: test cards and tokens break it. It fails with
// [ErrPAN].
func ParsePAN(s string) (PAN, error) {
	return parsePAN([]byte(s))
}

// parsePAN copies b.
func parsePAN(b []byte) (PAN, error) {
	if len(b) < minPAN || len(b) > maxPAN {
		return PAN{}, ErrPAN
	}
	for _, d := range b {
		if d < '0' || d > '9' {
			return PAN{}, ErrPAN
		}
	}
	return PAN{digits: secret.From(b)}, nil
}

// IsZero reports whether p holds no PAN: the zero value, or wiped.
func (p PAN) IsZero() bool { return p.digits.Len() == 0 }

// Digits returns all digits in ASCII. They are p's own: wiping them wipes p.
func (p PAN) Digits() secret.Bytes { return p.digits }

// Canonical12 returns the twelve ASCII digits that formats 0 and 3 take: the rightmost ones without the check digit,
// with zeros before them if there are fewer (ISO 9564-1:2017, 9.3.2.3). The caller wipes them.
func (p PAN) Canonical12() secret.Bytes {
	c := secret.New(canonicalPAN)
	for i := range c.Expose() {
		c.Expose()[i] = '0'
	}
	d := p.canonical()
	copy(c.Expose()[canonicalPAN-len(d):], d)
	return c
}

// canonical returns those of the twelve digits that p has. They are p's own.
func (p PAN) canonical() []byte {
	d := p.digits.Expose()
	if len(d) == 0 {
		return nil
	}
	d = d[:len(d)-1]
	return d[max(0, len(d)-canonicalPAN):]
}

// Equal reports whether both are the same PAN, in constant time. No PAN equals nothing, itself included.
func (p PAN) Equal(q PAN) bool {
	return !p.IsZero() && p.digits.Equal(q.digits)
}

// Masked returns the first six and the last four digits with asterisks between. Of a PAN with fewer than thirteen digits
// it shows the last four only.
func (p PAN) Masked() string {
	d := p.digits.Expose()
	if len(d) == 0 {
		return "[no PAN]"
	}
	first := 6
	if len(d) < 13 {
		first = 0
	}
	return string(d[:first]) + strings.Repeat("*", len(d)-first-4) + string(d[len(d)-4:])
}

// Wipe zeroes the digits for every copy of p.
func (p PAN) Wipe() { p.digits.Wipe() }

// String returns the PAN masked.
func (p PAN) String() string { return p.Masked() }

// Format implements [fmt.Formatter]: masked under every verb.
func (p PAN) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, p.Masked()) }

// MarshalText gives the masked form, so that JSON never holds a whole PAN by accident.
func (p PAN) MarshalText() ([]byte, error) { return []byte(p.Masked()), nil }
