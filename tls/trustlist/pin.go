package trustlist

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/latchkey-pos/latchkey/internal/crockford"
)

// PinLength is the number of characters of a pin.
const PinLength = 26

// Pin recognises a key that signs lists: the first 130 bits of the SHA-256 of its public key (SubjectPublicKeyInfo, DER), in
// Crockford's base 32, short enough to be typed. It is public and comparable. The zero value is no pin and no key has it.
type Pin struct{ text [PinLength]byte }

// ParsePin reads a pin as people type it: lower case, hyphens and spaces are fine, O stands for 0, and I and L for 1.
func ParsePin(typed string) (Pin, error) {
	b, err := crockford.Normalize(nil, []byte(typed))
	if err != nil {
		return Pin{}, fmt.Errorf("trustlist: not a pin: look for a mistyped character")
	}
	if len(b) != PinLength {
		return Pin{}, fmt.Errorf("trustlist: a pin has %d characters, not %d", PinLength, len(b))
	}
	if strings.IndexByte(crockford.Alphabet, b[PinLength-1]) < 0 {
		return Pin{}, fmt.Errorf("trustlist: not a pin: look for a mistyped character")
	}
	return Pin{text: [PinLength]byte(b)}, nil
}

// PinOf returns the pin of a public key. A key that cannot sign lists is an error.
func PinOf(pub crypto.PublicKey) (Pin, error) {
	key, err := signingKey(pub)
	if err != nil {
		return Pin{}, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return Pin{}, fmt.Errorf("trustlist: %v", err)
	}
	return pinOf(spki), nil
}

func pinOf(spki []byte) Pin {
	sum := sha256.Sum256(spki)
	return Pin{text: [PinLength]byte(crockford.Append(nil, sum[:], PinLength))}
}

// IsZero reports whether there is no pin.
func (p Pin) IsZero() bool { return p == Pin{} }

// String returns the 26 characters, and "" for the zero value.
func (p Pin) String() string {
	if p.IsZero() {
		return ""
	}
	return string(p.text[:])
}

// MarshalText returns the characters. The zero value is an error.
func (p Pin) MarshalText() ([]byte, error) {
	if p.IsZero() {
		return nil, fmt.Errorf("trustlist: no pin")
	}
	return []byte(p.String()), nil
}

// UnmarshalText reads the form of String, and no other spelling.
func (p *Pin) UnmarshalText(text []byte) error {
	parsed, err := ParsePin(string(text))
	if err != nil {
		return err
	}
	if parsed.String() != string(text) {
		return fmt.Errorf("trustlist: a pin is %d upper-case characters", PinLength)
	}
	*p = parsed
	return nil
}

// MarshalBinary returns the characters. The zero value is an error.
func (p Pin) MarshalBinary() ([]byte, error) { return p.MarshalText() }

// UnmarshalBinary reads the form of String, and no other spelling.
func (p *Pin) UnmarshalBinary(b []byte) error { return p.UnmarshalText(b) }
