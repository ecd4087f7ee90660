package pin

import (
	"errors"
	"fmt"
)

// Format is a PIN block format of ISO 9564-1. The zero value is no format.
type Format uint8

// The formats of ISO 9564-1:2017, 9.3. Only [Format0] and [Format4] are implemented; the others have their place in the
// table of permitted translations and are refused with [ErrFormat].
const (
	Format0 Format = iota + 1 // TDES, tied to the PAN
	Format1                   // TDES, not tied to a PAN
	Format2                   // to a chip card, offline
	Format3                   // as format 0 with random fill
	Format4                   // AES, tied to the PAN
)

// ErrFormat says that a format is unknown or not implemented.
var ErrFormat = errors.New("pin: format not supported")

// ErrBlock says that a PIN block does not verify: wrong length, control field, digit, fill, PAN or key. Which one is not
// told, because the difference would let a caller search for PINs.
var ErrBlock = errors.New("pin: block does not verify")

var formatNames = [...]string{Format0: "ISO_FORMAT_0", Format1: "ISO_FORMAT_1", Format2: "ISO_FORMAT_2", Format3: "ISO_FORMAT_3", Format4: "ISO_FORMAT_4"}

// ParseFormat reads the name that String gives, as in "ISO_FORMAT_0". It fails with [ErrFormat].
func ParseFormat(s string) (Format, error) {
	for f := Format0; f <= Format4; f++ {
		if formatNames[f] == s {
			return f, nil
		}
	}
	return 0, fmt.Errorf("%w: %q", ErrFormat, s)
}

// String returns the name of the format in payment APIs, as in "ISO_FORMAT_0".
func (f Format) String() string {
	if f < Format0 || f > Format4 {
		return fmt.Sprintf("Format(%d)", uint8(f))
	}
	return formatNames[f]
}

// Supported returns nil when blocks of this format can be built and read here, and [ErrFormat] otherwise.
func (f Format) Supported() error {
	if f != Format0 && f != Format4 {
		return fmt.Errorf("%w: %v", ErrFormat, f)
	}
	return nil
}

// BlockSize returns the length in bytes of an encrypted block of this format, and 0 for no format.
func (f Format) BlockSize() int {
	switch f {
	case Format0, Format1, Format2, Format3:
		return 8
	case Format4:
		return 16
	}
	return 0
}
