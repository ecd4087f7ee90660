package keyblock

import (
	"errors"
	"fmt"
	"strings"

	"github.com/latchkey-pos/latchkey/keys"
)

// ErrOptional says that an optional block is malformed, does not go with the key, or comes twice.
var ErrOptional = errors.New("keyblock: optional block")

// rule is what the standard says of one kind of optional block.
type rule struct {
	form  func(data string) bool           // as the standard writes it
	loose func(data string) bool           // what else is read, with a warning; nil for nothing
	fits  func(h Header, data string) bool // whether it goes with the key
}

const asymmetric = "RES" // algorithm letters: RSA, elliptic curve, DSA

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

func ofAsymmetric(h Header, _ string) bool { return strings.IndexByte(asymmetric, h.Algorithm) >= 0 }

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

func isInitialKSN(data string) bool { return len(data) == 20 && isHex(data) }

// isLegacyKSN takes the 8 bytes that early TR-31 blocks carry: the key serial number without its last two.
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

// check holds the optional blocks of a header that is about to be written to the rules.
func (h Header) check() error {
	seen := map[string]bool{OptionalPB: true} // format adds it
	for _, ob := range h.Optional {
		if seen[ob.ID] {
			return fmt.Errorf("%w: %q comes twice, or is written here", ErrOptional, ob.ID)
		}
		seen[ob.ID] = true
		r, ok := rules[ob.ID]
		switch {
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
