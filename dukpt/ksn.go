package dukpt

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/bits"
	"strings"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// KSN is a key serial number: the name of the initial key of a terminal and the counter of one transaction.
//
// TDES: 10 bytes, of which the last 21 bits are the counter. AES: 12 bytes, of which the last four are. A KSN holds only
// counters that terminals use: not 0, and at most 10 (TDES) or 16 (AES) one bits. It is comparable and public. The zero
// value is no KSN.
type KSN struct {
	id      KeyID
	counter uint32
}

// ParseKSN reads 10 bytes (TDES) or 12 bytes (AES). It fails with [ErrKSN] for another length and for a counter that no
// terminal uses.
func ParseKSN(b []byte) (KSN, error) {
	id, counter, err := splitKSN(b)
	if err != nil {
		return KSN{}, err
	}
	if planted.On(planted.ParseKSN) && counter != 0 {
		return KSN{id: id, counter: counter}, nil
	}
	return id.KSN(counter)
}

// ParseKSNHex reads 20 or 24 hex digits of either case, as [ParseKSN] does.
func ParseKSNHex(s string) (KSN, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return KSN{}, fmt.Errorf("%w: %q is not hexadecimal", ErrKSN, s)
	}
	return ParseKSN(b)
}

// ParseShortKSN reads the 8 bytes that some terminals send for a TDES KSN whose first two bytes are FF.
func ParseShortKSN(b []byte) (KSN, error) {
	if len(b) != 8 {
		return KSN{}, fmt.Errorf("%w: a short one has 8 bytes, not %d", ErrKSN, len(b))
	}
	return ParseKSN(append([]byte{0xFF, 0xFF}, b...))
}

// splitKSN parts key id and counter without judging the counter.
func splitKSN(b []byte) (KeyID, uint32, error) {
	switch len(b) {
	case TDES.ksnSize():
		id := KeyID{scheme: TDES}
		copy(id.b[:], b)
		counter := binary.BigEndian.Uint32(b[6:]) & TDES.counterMask()
		binary.BigEndian.PutUint32(id.b[6:], binary.BigEndian.Uint32(b[6:])&^TDES.counterMask())
		return id, counter, nil
	case AES.ksnSize():
		id := KeyID{scheme: AES}
		copy(id.b[:8], b)
		return id, binary.BigEndian.Uint32(b[8:]), nil
	}
	return KeyID{}, 0, fmt.Errorf("%w: %d bytes are neither 10 (TDES) nor 12 (AES)", ErrKSN, len(b))
}

func checkCounter(s Scheme, c uint32) error {
	switch {
	case s.validCounter(c):
		return nil
	case c == 0:
		return fmt.Errorf("%w: counter 0 is the initial key's", ErrKSN)
	case c&^s.counterMask() != 0:
		return fmt.Errorf("%w: counter %X has more than %d bits", ErrKSN, c, s.counterBits())
	}
	return fmt.Errorf("%w: counter %X has %d one bits, terminals use at most %d", ErrKSN, c, bits.OnesCount32(c), s.maxOnes())
}

// Scheme returns the scheme, and 0 for the zero value.
func (k KSN) Scheme() Scheme { return k.id.scheme }

// KeyID returns the name of the initial key.
func (k KSN) KeyID() KeyID { return k.id }

// Counter returns the transaction counter as it stands in the KSN.
func (k KSN) Counter() uint32 { return k.counter }

// Ordinal returns the place of the counter among those a terminal uses, counted from 1. Two KSNs of one key id are
// Ordinal keys apart, not Counter. It is 0 for the zero value.
func (k KSN) Ordinal() uint32 { return k.Scheme().ordinal(k.counter) }

// Remaining returns how many keys come after this one.
func (k KSN) Remaining() uint32 { return k.Scheme().MaxOrdinal() - k.Ordinal() }

// Next returns the KSN after this one, and false after the last.
func (k KSN) Next() (KSN, bool) {
	if k.IsZero() {
		return KSN{}, false
	}
	c := k.Scheme().nextCounter(k.counter)
	if c == 0 {
		return KSN{}, false
	}
	return KSN{id: k.id, counter: c}, true
}

// IsZero reports whether k is no KSN.
func (k KSN) IsZero() bool { return k.id.IsZero() }

// Append appends the 10 or 12 bytes of k to dst, and nothing for the zero value.
func (k KSN) Append(dst []byte) []byte {
	switch k.Scheme() {
	case TDES:
		b := k.id.b
		binary.BigEndian.PutUint32(b[6:], binary.BigEndian.Uint32(b[6:])|k.counter)
		return append(dst, b[:]...)
	case AES:
		return binary.BigEndian.AppendUint32(append(dst, k.id.b[:8]...), k.counter)
	}
	return dst
}

// String returns k in upper-case hex, and "[no KSN]" for the zero value.
func (k KSN) String() string {
	if k.IsZero() {
		return "[no KSN]"
	}
	return strings.ToUpper(hex.EncodeToString(k.Append(nil)))
}

// Format implements [fmt.Formatter]: the form of String under every verb.
func (k KSN) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, k.String()) }

// MarshalText gives the form of String. It fails with [ErrKSN] for the zero value.
func (k KSN) MarshalText() ([]byte, error) {
	if k.IsZero() {
		return nil, fmt.Errorf("%w: none given", ErrKSN)
	}
	return []byte(k.String()), nil
}

// UnmarshalText reads what [ParseKSNHex] reads.
func (k *KSN) UnmarshalText(text []byte) error {
	v, err := ParseKSNHex(string(text))
	if err != nil {
		return err
	}
	*k = v
	return nil
}

// MarshalBinary gives the form of Append. It fails with [ErrKSN] for the zero value.
func (k KSN) MarshalBinary() ([]byte, error) {
	if k.IsZero() {
		return nil, fmt.Errorf("%w: none given", ErrKSN)
	}
	return k.Append(nil), nil
}

// UnmarshalBinary reads what [ParseKSN] reads.
func (k *KSN) UnmarshalBinary(b []byte) error {
	v, err := ParseKSN(b)
	if err != nil {
		return err
	}
	*k = v
	return nil
}
