package pin

import (
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
	if from < Format0 || from > Format4 || to < Format0 || to > Format4 {
		return fmt.Errorf("%w: from %v to %v", ErrTranslation, from, to)
	}
	switch translations[from][to] {
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
