package pin

import (
	"errors"
	"fmt"
)

// Format is a PIN block format of ISO 9564-1. The zero value is no format.
type Format uint8

// The formats of ISO 9564-1:2017, 9.3 and 9.4. Format 4 has two values because two PAN fields are in use for it: both ends
// must agree on one, and a block made with the one does not open with the other. Requirement 3-3 makes no difference
// between them.
const (
	Format0      Format = iota + 1 // 8 bytes, TDES, tied to the PAN
	Format1                        // 8 bytes, TDES, not tied to a PAN
	Format2                        // 8 bytes, to a chip card only, not enciphered under a PIN key
	Format3                        // 8 bytes, TDES, as format 0 with random fill
	Format4                        // 16 bytes, AES, tied to all digits of the PAN
	Format4PAN12                   // format 4, tied to the twelve digits of the PAN that formats 0 and 3 use
)

// ErrFormat says that a format is unknown, or that there is no such block of it: format 2 is not enciphered, format 4 has no
// clear block, and each format has one size of cipher.
var ErrFormat = errors.New("pin: format not supported")

// ErrBlock says that a PIN block does not verify: wrong length, control field, digit, fill, PAN or key. Which one is not
// told, because the difference would let a caller search for PINs.
var ErrBlock = errors.New("pin: block does not verify")

var formatNames = [...]string{
	Format0: "ISO_FORMAT_0", Format1: "ISO_FORMAT_1", Format2: "ISO_FORMAT_2", Format3: "ISO_FORMAT_3", Format4: "ISO_FORMAT_4",
	Format4PAN12: "ISO_FORMAT_4_PAN_12",
}

// ParseFormat reads the name that String gives, as in "ISO_FORMAT_0". It fails with [ErrFormat].
func ParseFormat(s string) (Format, error) {
	for f := Format0; f <= Format4PAN12; f++ {
		if formatNames[f] == s {
			return f, nil
		}
	}
	return 0, fmt.Errorf("%w: %q", ErrFormat, s)
}

// String returns the name of the format in payment APIs, as in "ISO_FORMAT_0". Only ISO_FORMAT_4_PAN_12 is a name of ours.
func (f Format) String() string {
	if !f.IsValid() {
		return fmt.Sprintf("Format(%d)", uint8(f))
	}
	return formatNames[f]
}

// IsValid reports whether f is one of the formats above.
func (f Format) IsValid() bool { return f >= Format0 && f <= Format4PAN12 }

// HasPAN reports whether a block of this format is tied to a PAN, so that none is made or read without one.
func (f Format) HasPAN() bool { return f.IsValid() && layouts[f].hasPAN }

// BlockSize returns the length in bytes of a block of this format, and 0 for no format.
func (f Format) BlockSize() int {
	switch f {
	case Format0, Format1, Format2, Format3:
		return fieldSize
	case Format4, Format4PAN12:
		return format4Size
	}
	return 0
}
