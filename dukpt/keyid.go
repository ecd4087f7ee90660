package dukpt

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// KeyID names an initial key: it is a KSN without its counter. For TDES these are the 59 bits that the standard calls the
// initial key serial number, for AES the initial key id of 8 bytes: base-key id, then derivation id.
//
// It is comparable and public. The zero value names nothing.
type KeyID struct {
	scheme Scheme
	b      [keyIDSize]byte // TDES 10 bytes with counter bits zero, AES 8 bytes and two zeros
}

// keyIDSize is the longer of the two lengths.
const keyIDSize = 10

// ParseInitialKSN reads 10 bytes (TDES) or 12 bytes (AES) and drops the counter, whatever it is, 0 included. It fails with
// [ErrKSN].
func ParseInitialKSN(b []byte) (KeyID, error) {
	id, _, err := splitKSN(b)
	return id, err
}

// ParseKeyID reads the form of String: 20 hex digits with the counter bits zero (TDES) or 16 (AES); 24 hex digits with a
// zero counter are taken as AES too. It fails with [ErrKSN].
func ParseKeyID(s string) (KeyID, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return KeyID{}, fmt.Errorf("%w: key id %q is not hexadecimal", ErrKSN, s)
	}
	return parseKeyID(b)
}

func parseKeyID(b []byte) (KeyID, error) {
	if len(b) == 8 {
		id := KeyID{scheme: AES}
		copy(id.b[:], b)
		return id, nil
	}
	id, counter, err := splitKSN(b)
	if err != nil {
		return KeyID{}, fmt.Errorf("%w: a key id has 8 (AES) or 10 (TDES) bytes, not %d", ErrKSN, len(b))
	}
	if counter != 0 {
		return KeyID{}, fmt.Errorf("%w: key id %X has a counter", ErrKSN, b)
	}
	return id, nil
}

// Scheme returns the scheme of the key, and 0 for the zero value.
func (id KeyID) Scheme() Scheme { return id.scheme }

// IsZero reports whether id names nothing.
func (id KeyID) IsZero() bool { return id.scheme == 0 }

// KSN returns the KSN with this counter. It fails with [ErrKSN] for a counter no terminal uses.
func (id KeyID) KSN(counter uint32) (KSN, error) {
	if id.IsZero() {
		return KSN{}, fmt.Errorf("%w: no key id", ErrKSN)
	}
	if err := checkCounter(id.scheme, counter); err != nil {
		return KSN{}, err
	}
	return KSN{id: id, counter: counter}, nil
}

// AtOrdinal returns the n-th KSN, counted from 1. It fails with [ErrKSN] for 0 and beyond [Scheme.MaxOrdinal].
func (id KeyID) AtOrdinal(n uint32) (KSN, error) {
	if id.IsZero() {
		return KSN{}, fmt.Errorf("%w: no key id", ErrKSN)
	}
	if n == 0 || n > id.scheme.MaxOrdinal() {
		return KSN{}, fmt.Errorf("%w: ordinal %d is outside 1..%d", ErrKSN, n, id.scheme.MaxOrdinal())
	}
	return KSN{id: id, counter: id.scheme.atOrdinal(n)}, nil
}

// Compare orders key ids of one scheme as they are given out, as [bytes.Compare] does. The zero value is before all others.
func (id KeyID) Compare(other KeyID) int {
	return bytes.Compare(id.b[:id.size()], other.b[:other.size()])
}

// Next returns the key id after id: one more in the bits above the counter, which are the upper 59 of a TDES KSN and all 64
// of an AES key id. It returns false for the last one there is, and for the zero value.
func (id KeyID) Next() (KeyID, bool) {
	if id.IsZero() {
		return KeyID{}, false
	}
	step := uint16(1)
	if id.scheme == TDES {
		step = 1 << (21 - 16) // the counter takes the two lowest bytes and five bits of the third
	}
	for i := 7; i >= 0 && step > 0; i-- { // both schemes have a byte 7 above the counter
		sum := uint16(id.b[i]) + step
		id.b[i], step = byte(sum), sum>>8
	}
	if step > 0 {
		return KeyID{}, false
	}
	return id, true
}

// Append appends the bytes of id to dst: 10 for TDES, with the counter bits zero, and 8 for AES.
func (id KeyID) Append(dst []byte) []byte { return append(dst, id.b[:id.size()]...) }

// String returns id in upper-case hex, and "[no key id]" for the zero value.
func (id KeyID) String() string {
	if id.IsZero() {
		return "[no key id]"
	}
	return strings.ToUpper(hex.EncodeToString(id.b[:id.size()]))
}

// Format implements [fmt.Formatter]: the form of String under every verb.
func (id KeyID) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, id.String()) }

// MarshalText gives the form of String. It fails with [ErrKSN] for the zero value.
func (id KeyID) MarshalText() ([]byte, error) {
	if id.IsZero() {
		return nil, fmt.Errorf("%w: no key id", ErrKSN)
	}
	return []byte(id.String()), nil
}

// UnmarshalText reads what [ParseKeyID] reads.
func (id *KeyID) UnmarshalText(text []byte) error {
	v, err := ParseKeyID(string(text))
	if err != nil {
		return err
	}
	*id = v
	return nil
}

// MarshalBinary gives the form of Append. It fails with [ErrKSN] for the zero value.
func (id KeyID) MarshalBinary() ([]byte, error) {
	if id.IsZero() {
		return nil, fmt.Errorf("%w: no key id", ErrKSN)
	}
	return id.Append(nil), nil
}

// UnmarshalBinary reads 10 bytes (TDES, counter bits zero) or 8 bytes (AES). It fails with [ErrKSN].
func (id *KeyID) UnmarshalBinary(b []byte) error {
	if len(b) == AES.ksnSize() {
		return fmt.Errorf("%w: a key id has 8 (AES) or 10 (TDES) bytes, not %d", ErrKSN, len(b))
	}
	v, err := parseKeyID(b)
	if err != nil {
		return err
	}
	*id = v
	return nil
}

func (id KeyID) size() int {
	switch id.scheme {
	case TDES:
		return 10
	case AES:
		return 8
	}
	return 0
}

// canonical reports whether the bytes that are not part of the id are zero.
func (id KeyID) canonical() bool {
	if id.scheme == AES {
		return id.b[8] == 0 && id.b[9] == 0
	}
	_, counter, err := splitKSN(id.b[:])
	return err == nil && counter == 0
}
