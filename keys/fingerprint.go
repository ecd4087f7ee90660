package keys

import (
	"encoding/hex"
	"fmt"
)

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
