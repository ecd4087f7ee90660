package pin

import (
	"crypto/cipher"
	"errors"
	"fmt"
)

// ErrTranslation says that PCI PIN requirement 3-3 forbids a change of PIN block format or of the PAN in it.
var ErrTranslation = errors.New("pin: translation not permitted")

// rule is a cell of the table.
type rule uint8

const (
	never    rule = iota + 1
	samePAN       // allowed while the PAN stays as it is
	allowed       // allowed: the incoming block names no PAN
	chipOnly      // only towards a chip card, for an offline PIN or at issuance
)

// translations is the table of PCI PIN Security 3.1, requirement 3-3, as [from][to]. A translation within one format is
// judged like any other. Non-standard formats have no row and no column.
var translations = [Format4 + 1][Format4 + 1]rule{
	Format0: {Format0: samePAN, Format1: never, Format2: chipOnly, Format3: samePAN, Format4: samePAN},
	Format1: {Format0: allowed, Format1: allowed, Format2: chipOnly, Format3: allowed, Format4: allowed},
	Format2: {Format0: never, Format1: never, Format2: chipOnly, Format3: never, Format4: never},
	Format3: {Format0: samePAN, Format1: never, Format2: chipOnly, Format3: samePAN, Format4: samePAN},
	Format4: {Format0: samePAN, Format1: never, Format2: chipOnly, Format3: samePAN, Format4: samePAN},
}

// CheckTranslation returns nil when a PIN may leave a block of the format from for one of the format to, as PCI PIN
// Security 3.1, requirement 3-3, has it, and [ErrTranslation] otherwise. panChanged says whether the PANs of the two blocks
// differ; it counts only where both formats hold one. Translations to a chip card are refused here: no host of ours talks
// to one.
func CheckTranslation(from, to Format, panChanged bool) error {
	if !from.IsValid() || !to.IsValid() {
		return fmt.Errorf("%w: from %v to %v", ErrTranslation, from, to)
	}
	switch translations[from.row()][to.row()] {
	case allowed:
		return nil
	case samePAN:
		if panChanged {
			return fmt.Errorf("%w: from %v to %v with another PAN", ErrTranslation, from, to)
		}
		return nil
	case chipOnly:
		return fmt.Errorf("%w: from %v to %v except to a chip card", ErrTranslation, from, to)
	}
	return fmt.Errorf("%w: from %v to %v", ErrTranslation, from, to)
}

// row is the format that stands for f in the table.
func (f Format) row() Format {
	if f == Format4PAN12 {
		return Format4
	}
	return f
}

// Side is one end of a translation.
type Side struct {
	Format Format
	PAN    PAN          // of the block; not looked at in format 1
	Cipher cipher.Block // under the PIN key: TDES for 8 bytes, AES for 16
}

// Translate moves the PIN in block from one key, and perhaps format, to another, and appends the new block to dst. The clear
// PIN lives inside this call only.
//
// It fails with [ErrTranslation] when [CheckTranslation] forbids the change of format or of the PAN, with [ErrFormat] when a
// cipher does not go with its format, with [ErrPAN] when a PAN is missing, and with [ErrBlock] for every fault of the block,
// among them that it was made for another PAN.
func Translate(dst, block []byte, from, to Side, fill Fill) ([]byte, error) {
	if err := CheckTranslation(from.Format, to.Format, !from.PAN.Equal(to.PAN)); err != nil {
		return dst, err
	}
	o := NewOpened()
	defer o.Wipe()
	if err := from.Format.Decrypt(&o, from.Cipher, block, from.PAN); err != nil {
		return dst, err
	}
	return o.Encrypt(dst, to, fill)
}
