package keyblock

// Warning is something that a key block has against the standard, and that is read all the same. It is comparable.
type Warning struct {
	Kind WarningKind
	ID   string // of the optional block that it is about; none for the others
}

// WarningKind is one kind of warning. The zero value is none.
type WarningKind uint8

// The kinds of warnings. Only what Inspect reads can have WarnMalformed: Unwrap refuses it.
const (
	WarnVersion       WarningKind = iota + 1 // version A or C, which are deprecated
	WarnUsage                                // a usage that is not two of 0-9, A-Z
	WarnAlgorithm                            // an unknown algorithm
	WarnMode                                 // an unknown mode of use
	WarnKeyVersion                           // a key version that is not two of 0-9, A-Z, nor c and one of them
	WarnExportability                        // an exportability that is not E, N or S
	WarnReserved                             // reserved characters that are no key context and 0
	WarnMismatch                             // algorithm or mode of use do not go with the usage, such as AES with M3
	WarnIdentifier                           // an optional block with an identifier that is not two of 0-9, A-Z
	WarnMisplaced                            // an optional block that does not go with the key, such as KS with an AES key
	WarnMissing                              // an optional block that the key must have: HM of an HMAC key
	WarnSpelling                             // an optional block in an older or another form: 16 digits or a counter in KS, lower case
	WarnMalformed                            // an optional block that is malformed
	WarnLengthField                          // an optional block with an extended length where none is needed, or not of four digits
	WarnPadding                              // PB that is not the last optional block, or longer than needed
	WarnLengthShown                          // the length of the key is not hidden (6.1)
	WarnSingleDES                            // a DES key of 64 bits
	WarnStructure                            // an asymmetric key that is not the DER of a structure
	WarnStrength                             // a key that is stronger than its protection key
	WarnCheckValue                           // a check value in KC or KP of another key
	WarnUnchecked                            // KC of a TDES key where Go's FIPS mode is enforced: nothing is compared
)

var warningTexts = map[WarningKind]string{
	WarnVersion:       "the version is deprecated: its binding is weak",
	WarnUsage:         "the usage is not two characters of 0-9, A-Z",
	WarnAlgorithm:     "the algorithm is unknown",
	WarnMode:          "the mode of use is unknown",
	WarnKeyVersion:    "the key version is not two characters of 0-9, A-Z, nor c and one of them",
	WarnExportability: "the exportability is not E, N or S",
	WarnReserved:      "the reserved characters are no key context",
	WarnMismatch:      "the algorithm or the mode of use does not go with the usage",
	WarnIdentifier:    "has an identifier that is not two characters of 0-9, A-Z",
	WarnMisplaced:     "does not go with the key",
	WarnMissing:       "is missing",
	WarnSpelling:      "is not in the form of the standard",
	WarnMalformed:     "is malformed",
	WarnLengthField:   "has an extended length where none is needed, or one that has not four digits",
	WarnPadding:       "is not the last optional block, or is longer than needed",
	WarnLengthShown:   "the length of the block tells the length of the key",
	WarnSingleDES:     "the key is a single DES key",
	WarnStructure:     "the key is not the DER of an asymmetric key",
	WarnStrength:      "the key is stronger than its protection key",
	WarnCheckValue:    "is the check value of another key",
	WarnUnchecked:     "is not compared: Go's FIPS mode is enforced and forbids TDES",
}

// String says in a few words what is wrong.
func (w Warning) String() string {
	text, ok := warningTexts[w.Kind]
	switch {
	case !ok:
		return "unknown warning"
	case w.ID == "":
		return text
	}
	return "optional block " + w.ID + " " + text
}

// Warnings returns what the header tells without a key. Those of an unwrapped block are at [Content.Warnings].
func (h Header) Warnings() (all []Warning) {
	if h.Version == 'A' || h.Version == 'C' {
		all = append(all, Warning{Kind: WarnVersion})
	}
	all = append(all, h.fixed()...)
	for _, ob := range h.Optional {
		r, ok := rules[ob.ID]
		if !ok {
			if !isCharacters(ob.ID) {
				all = append(all, Warning{WarnIdentifier, ob.ID})
			}
			continue
		}
		if !r.form(ob.Data) {
			if r.loose == nil || !r.loose(ob.Data) {
				all = append(all, Warning{WarnMalformed, ob.ID})
				continue
			}
			all = append(all, Warning{WarnSpelling, ob.ID})
		}
		if !r.fits(h, ob.Data) {
			all = append(all, Warning{WarnMisplaced, ob.ID})
		}
	}
	if h.lacksHash() {
		all = append(all, Warning{WarnMissing, OptionalHM})
	}
	return append(all, h.loose...)
}

// malformed reports whether an optional block has a meaning but not the form for it.
func (h Header) malformed() bool {
	for _, w := range h.Warnings() {
		if w.Kind == WarnMalformed {
			return true
		}
	}
	return false
}
