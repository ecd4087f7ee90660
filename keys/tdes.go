package keys

import (
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// ErrForbidden says that Go's FIPS mode is enforced (GODEBUG=fips140=only) and forbids TDES. Every package of this module that
// refuses TDES there says so with an error that is this one too.
var ErrForbidden = des.ErrForbidden

var (
	// ErrWeak says that a key is weaker than its algorithm: a TDES key with equal parts or with a weak or semi-weak part, or a
	// key of zeros.
	ErrWeak = errors.New("keys: weak key")
	// ErrParity says that a byte of a TDES key or component has an even number of one bits where odd parity is required.
	ErrParity = errors.New("keys: wrong parity")
)

// Parity says what happens to the parity bits of TDES, the lowest bit of each byte, when a key comes in from outside
// (NIST SP 800-67 rev. 2, 3.1). It means nothing to other algorithms. The zero value is no answer and is refused.
type Parity uint8

// The values of Parity.
const (
	// ParityAdjusted sets odd parity, whatever came in.
	ParityAdjusted Parity = iota + 1
	// ParityRequired refuses what has not odd parity.
	ParityRequired
	// ParityIgnored neither looks at the bits nor changes them.
	ParityIgnored
)

var parities = map[Parity]string{ParityAdjusted: "adjusted", ParityRequired: "required", ParityIgnored: "ignored"}

// ParseParity reads one of the words adjusted, required and ignored.
func ParseParity(s string) (Parity, error) {
	for p, word := range parities {
		if word == s {
			return p, nil
		}
	}
	return 0, fmt.Errorf("keys: unknown parity %q: want adjusted, required or ignored", s)
}

// String returns the word.
func (p Parity) String() string {
	if word, ok := parities[p]; ok {
		return word
	}
	return fmt.Sprintf("Parity(%d)", uint8(p))
}

func (p Parity) validate() error {
	if _, ok := parities[p]; !ok {
		return fmt.Errorf("keys: unknown parity %d", uint8(p))
	}
	return nil
}

// ImportKey is NewKey for a key that comes into use here: it may not be weak, and parity is what p says. Refused with ErrWeak
// are, beside what NewKey refuses, a 3TDEA key whose outer parts are equal (it is a 2TDEA key: import it as that), a part that
// is one of the 4 weak or 12 semi-weak keys of DES (SP 800-67 rev. 2, 3.3.2), and a key of zeros. Parity bits do not count in
// these comparisons. Where Go's FIPS mode is enforced, every TDES key is ErrForbidden. The caller still owns material, and wipes
// it.
func ImportKey(a Attributes, p Parity, material []byte) (Key, error) {
	if err := p.validate(); err != nil {
		return Key{}, err
	}
	if err := a.permitted(); err != nil {
		return Key{}, err
	}
	k, err := NewKey(a, material)
	if err != nil {
		return Key{}, err
	}
	err = k.qualify(p)
	if err != nil {
		k.Wipe()
		return Key{}, err
	}
	return k, nil
}

// permitted refuses TDES where no key of it may come into use.
func (a Attributes) permitted() error {
	if a.Algorithm.IsTDES() {
		return des.Available()
	}
	return nil
}

// qualify holds a key to the rules for new ones, and gives it the parity that p says.
func (k Key) qualify(p Parity) error {
	if k.attributes.Algorithm.IsTDES() {
		raw := k.material.Expose()
		if p == ParityRequired && !hasOddParity(raw) {
			return ErrParity
		}
		if p == ParityAdjusted {
			setOddParity(raw)
		}
	}
	return k.CheckWeak()
}

// CheckWeak refuses, with ErrWeak, a key that [ImportKey] would not take for its bits, whatever its parity: for rooms that a
// key enters which was made by [NewKey], such as one out of a key block. A zero key is weak too.
func (k Key) CheckWeak() error {
	if k.IsZero() {
		return fmt.Errorf("%w: there is no key", ErrWeak)
	}
	raw := k.material.Expose()
	if !k.attributes.Algorithm.IsTDES() {
		if isZero(raw, 0xff) {
			return fmt.Errorf("%w: all bits are zero", ErrWeak)
		}
		return nil
	}
	if isTwoKey(raw) {
		return fmt.Errorf("%w: the outer parts of 3TDEA are equal, which makes it 2TDEA", ErrWeak)
	}
	if hasWeakPart(raw) {
		return fmt.Errorf("%w: a part is a weak or semi-weak key of DES", ErrWeak)
	}
	return nil
}

// degenerate reports whether two neighbouring DES keys are equal but for parity, so that TDES collapses to single DES. Equal
// outer parts are the way in which some systems write a 2TDEA key in 24 bytes; it is refused for new keys only.
func degenerate(material []byte) bool {
	equal := 0
	for i := 8; i < len(material); i += 8 {
		equal |= equalParts(material[i-8:i], material[i:i+8])
	}
	return secret.Public(equal) == 1
}

// isTwoKey reports whether a TDES key is 3TDEA with equal outer parts: a 2TDEA key in 24 bytes, which is no stronger.
func isTwoKey(material []byte) bool {
	return len(material) == 24 && secret.Public(equalParts(material[:8], material[16:])) == 1
}

// keyBits are those bits of a byte of a DES key that are key.
const keyBits = 0xfe

// equalParts returns 1 for two strings of one length that are equal but for parity, else 0, in constant time.
func equalParts(a, b []byte) int {
	var diff byte
	for i := range a {
		diff |= (a[i] ^ b[i]) & keyBits
	}
	return subtle.ConstantTimeByteEq(diff, 0)
}

// isZero reports whether none of the masked bits is set. It looks at all of them.
func isZero(b []byte, mask byte) bool {
	var some byte
	for _, v := range b {
		some |= v & mask
	}
	return secret.Public(some) == 0
}

// weakDES are the keys under which DES is its own inverse or that of another key of the list: both halves of the key
// schedule are zeros, ones or alternate. They stand here with odd parity.
var weakDES = func() (table [16][8]byte) {
	for i, s := range []string{
		"0101010101010101", "FEFEFEFEFEFEFEFE", "E0E0E0E0F1F1F1F1", "1F1F1F1F0E0E0E0E",
		"01FE01FE01FE01FE", "FE01FE01FE01FE01", "1FE01FE00EF10EF1", "E01FE01FF10EF10E",
		"01E001E001F101F1", "E001E001F101F101", "1FFE1FFE0EFE0EFE", "FE1FFE1FFE0EFE0E",
		"011F011F010E010E", "1F011F010E010E01", "E0FEE0FEF1FEF1FE", "FEE0FEE0FEF1FEF1",
	} {
		if n, err := hex.Decode(table[i][:], []byte(s)); err != nil || n != 8 {
			panic("keys: table of weak keys")
		}
	}
	return table
}()

// hasWeakPart compares every part with every weak key, whatever it finds on the way.
func hasWeakPart(material []byte) bool {
	weak := 0
	for i := 0; i < len(material); i += 8 {
		for j := range weakDES {
			weak |= equalParts(material[i:i+8], weakDES[j][:])
		}
	}
	return secret.Public(weak) == 1
}

// setOddParity folds each byte onto one bit: math/bits counts in a table, which a secret must not index.
func setOddParity(b []byte) {
	for i, v := range b {
		v &= keyBits
		v ^= v >> 4
		v ^= v >> 2
		v ^= v >> 1
		b[i] = b[i]&keyBits | ^v&1
	}
}

func hasOddParity(b []byte) bool {
	odd := secret.From(b)
	defer odd.Wipe()
	setOddParity(odd.Expose())
	return secret.Public(subtle.ConstantTimeCompare(odd.Expose(), b)) == 1
}
