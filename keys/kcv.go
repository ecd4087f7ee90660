package keys

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// KCV is a key check value of 3 or 5 bytes. It is public and comparable; the zero value is none.
type KCV struct {
	n uint8
	b [5]byte
}

func newKCV(b []byte) KCV {
	var k KCV
	k.n = uint8(copy(k.b[:], b))
	return k
}

// ParseKCV reads 6 or 10 hexadecimal digits.
func ParseKCV(s string) (KCV, error) {
	b, err := hex.DecodeString(s)
	if err != nil || (len(b) != 3 && len(b) != 5) {
		return KCV{}, fmt.Errorf("keys: check value %q: want 6 or 10 hexadecimal digits", s)
	}
	return newKCV(b), nil
}

// IsZero reports whether there is no check value.
func (k KCV) IsZero() bool { return k.n == 0 }

// String returns upper-case hexadecimal digits.
func (k KCV) String() string { return strings.ToUpper(hex.EncodeToString(k.b[:k.n])) }

// MarshalText writes the digits.
func (k KCV) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the digits.
func (k *KCV) UnmarshalText(b []byte) (err error) {
	*k, err = ParseKCV(string(b))
	return err
}

// Fingerprint recognises a key; see [Key.Fingerprint]. It is public and comparable; the zero value is none.
type Fingerprint struct{ b [16]byte }

// ParseFingerprint reads 32 hexadecimal digits.
func ParseFingerprint(s string) (Fingerprint, error) {
	var f Fingerprint
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(f.b) {
		return Fingerprint{}, fmt.Errorf("keys: fingerprint %q: want 32 hexadecimal digits", s)
	}
	copy(f.b[:], b)
	return f, nil
}

// IsZero reports whether there is no fingerprint.
func (f Fingerprint) IsZero() bool { return f == Fingerprint{} }

// String returns lower-case hexadecimal digits.
func (f Fingerprint) String() string { return hex.EncodeToString(f.b[:]) }

// MarshalText writes the digits.
func (f Fingerprint) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads the digits.
func (f *Fingerprint) UnmarshalText(b []byte) (err error) {
	*f, err = ParseFingerprint(string(b))
	return err
}
