package keyblock

import (
	"errors"
	"fmt"
	"strings"

	"github.com/latchkey-pos/latchkey/keys"
)

// ErrOptional says that an optional block is malformed, does not go with the key, or comes twice.
var ErrOptional = errors.New("keyblock: optional block")

// ErrHeader says that a field of the fixed part of a header is none of the standard, or does not go with the others.
var ErrHeader = errors.New("keyblock: header")

// rule is what the standard says of one kind of optional block.
type rule struct {
	form  func(data string) bool           // as the standard writes it
	loose func(data string) bool           // what else is read, with a warning; nil for nothing
	fits  func(h Header, data string) bool // whether it goes with the key
}

const (
	asymmetric = "RES"               // algorithm letters: RSA, elliptic curve, DSA
	algorithms = "ADHT" + asymmetric // and AES, DES, HMAC, TDES
)

// rules are those of 6.3.6.1 to 6.3.6.15. PB has none: it is written and read with the header.
var rules = map[string]rule{
	OptionalAL: {oneOf("0100", "0101"), nil, ofAsymmetric},
	OptionalBI: {isBaseKeyID, isBaseKeyIDAnyCase, func(h Header, data string) bool {
		return h.Usage == string(keys.UsageBDK) && (data[:2] == "00" && h.Algorithm == 'T' || data[:2] == "01" && h.Algorithm == 'A')
	}},
	OptionalCT: {isCertificates, nil, ofAsymmetric},
	OptionalDA: {isDerivations, nil, func(h Header, _ string) bool { return h.Mode == keys.ModeDerive }},
	OptionalHM: {func(data string) bool { return len(data) == 2 && isHex(data) }, nil, func(h Header, _ string) bool { return h.Algorithm == 'H' }},
	OptionalIK: {isInitialKeyID, func(data string) bool { return isInitialKeyID(strings.ToUpper(data)) }, func(h Header, _ string) bool {
		return h.Usage == string(keys.UsageInitialKey) && h.Algorithm == 'A'
	}},
	OptionalKC: {isCheckValue, isShortCheckValue, func(h Header, data string) bool {
		return data[:2] == "00" && h.Algorithm == 'T' || data[:2] == "01" && h.Algorithm == 'A'
	}},
	OptionalKP: {isCheckValue, isShortCheckValue, func(h Header, data string) bool { return data[:2] == "01" == (h.Version == 'D') }},
	OptionalKS: {isInitialKSN, isLegacyKSN, func(h Header, _ string) bool {
		return h.Usage == string(keys.UsageInitialKey) && h.Algorithm == 'T'
	}},
	OptionalLB: {anything, nil, always},
	OptionalPK: {isCheckValue, isShortCheckValue, always},
	OptionalTC: {isTime, nil, always},
	OptionalTS: {isTime, nil, always},
	OptionalWP: {oneOf("000", "001", "002", "003"), nil, always},
}

func anything(string) bool { return true }

func always(Header, string) bool { return true }

func ofAsymmetric(h Header, _ string) bool { return isAsymmetric(h.Algorithm) }

func isAsymmetric(letter byte) bool { return strings.IndexByte(asymmetric, letter) >= 0 }

func oneOf(all ...string) func(string) bool {
	return func(data string) bool {
		for _, s := range all {
			if s == data {
				return true
			}
		}
		return false
	}
}

func isBaseKeyID(data string) bool {
	return isHex(data) && (len(data) == 2+10 && data[:2] == "00" || len(data) == 2+8 && data[:2] == "01")
}

func isBaseKeyIDAnyCase(data string) bool { return isBaseKeyID(strings.ToUpper(data)) }

func isInitialKeyID(data string) bool { return len(data) == 16 && isHex(data) }

// isInitialKSN takes a key serial number whose transaction counter, the last 21 bits, is zero.
func isInitialKSN(data string) bool {
	return len(data) == 20 && isHex(data) && strings.IndexByte("02468ACE", data[14]) >= 0 && data[15:] == "00000"
}

// isLegacyKSN takes the 8 bytes that early TR-31 blocks carry: the key serial number without its last two. It takes a transaction
// counter too.
func isLegacyKSN(data string) bool {
	return (len(data) == 16 || len(data) == 20) && isHex(strings.ToUpper(data))
}

// isCheckValue takes 00 and the 3 bytes of the encrypted zero block, or 01 and the 5 bytes of the CMAC (6.3.6.7).
func isCheckValue(data string) bool {
	return isHex(data) && (len(data) == 2+6 && data[:2] == "00" || len(data) == 2+10 && data[:2] == "01")
}

// isShortCheckValue takes check values that are cut to fewer bytes, and any case.
func isShortCheckValue(data string) bool {
	if len(data) < 4 || len(data)%2 != 0 || !isHex(strings.ToUpper(data)) {
		return false
	}
	return data[:2] == "00" && len(data) <= 2+6 || data[:2] == "01" && len(data) <= 2+10
}

// isCharacters takes two characters of usages, key versions and identifiers.
func isCharacters(s string) bool { return len(s) == 2 && strings.Trim(s, letters) == "" }

// isKeyVersion takes a key version, or c and one character more for a component of a key (6.3.4).
func isKeyVersion(s string) bool {
	return isCharacters(s) || strings.HasPrefix(s, component) && isCharacters("0"+s[1:])
}

// fixed returns what the fixed part of a header has against the standard (6.2, table 1, and 6.3.1 to 6.3.5). The version is left
// to readers and writers.
func (h Header) fixed() (all []Warning) {
	_, errMode := keys.ParseMode(byte(h.Mode))
	_, errExport := keys.ParseExportability(byte(h.Exportability))
	isAlgorithm := strings.IndexByte(algorithms, h.Algorithm) >= 0
	for _, f := range []struct {
		kind WarningKind
		ok   bool
	}{
		{WarnUsage, isCharacters(h.Usage)},
		{WarnAlgorithm, isAlgorithm},
		{WarnMode, errMode == nil},
		{WarnKeyVersion, isKeyVersion(h.KeyVersion)},
		{WarnExportability, errExport == nil},
		{WarnReserved, len(h.Reserved) == 2 && strings.IndexByte("012", h.Reserved[0]) >= 0 && h.Reserved[1] == '0'},
		{WarnMismatch, !isAlgorithm || errMode != nil || h.fits()},
	} {
		if !f.ok {
			all = append(all, Warning{Kind: f.kind})
		}
	}
	return all
}

// fits reports whether algorithm and mode of use go with the usage. Usages that this project gives no meaning are not judged.
func (h Header) fits() bool {
	if _, err := keys.ParseUsage(h.Usage); err != nil {
		return true
	}
	a := keys.Attributes{Usage: keys.Usage(h.Usage), Mode: h.Mode, Exportability: keys.NonExportable}
	for a.Algorithm = keys.TDES2; a.Algorithm.IsValid(); a.Algorithm++ {
		if a.Algorithm.Letter() == h.Algorithm {
			return a.Validate() == nil // of all its lengths alike
		}
	}
	return false
}

// lacksHash reports whether HM, which every HMAC key has (6.3.6.5), is missing.
func (h Header) lacksHash() bool { return h.Algorithm == 'H' && !h.has(OptionalHM) }

// check holds a header that is about to be written to the standard.
func (h Header) check() error {
	if w := h.fixed(); len(w) > 0 {
		return fmt.Errorf("%w %q: %v", ErrHeader, h.text(), w[0])
	}
	if h.lacksHash() {
		return fmt.Errorf("%w: HM is missing: the hash of an HMAC key must be said", ErrOptional)
	}
	seen := map[string]bool{OptionalPB: true} // format adds it
	for _, ob := range h.Optional {
		if seen[ob.ID] {
			return fmt.Errorf("%w: %q comes twice, or is written here", ErrOptional, ob.ID)
		}
		seen[ob.ID] = true
		r, ok := rules[ob.ID]
		switch {
		case !isCharacters(ob.ID):
			return fmt.Errorf("%w: identifier %q is not two characters of 0-9, A-Z", ErrOptional, ob.ID)
		case !ok:
		case !r.form(ob.Data):
			return fmt.Errorf("%w: %s with %d characters is malformed", ErrOptional, ob.ID, len(ob.Data))
		case !r.fits(h, ob.Data):
			return fmt.Errorf("%w: %s does not go with a key of usage %s, algorithm %c and mode of use %v", ErrOptional,
				ob.ID, h.Usage, h.Algorithm, h.Mode)
		}
	}
	return nil
}
