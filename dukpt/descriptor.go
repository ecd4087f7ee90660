package dukpt

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Descriptor says how a TDES KSN is put together, as the hosts of some HSM makers want it: three hex digits, which are the
// numbers of hex digits of the key set id, of the sub-key id and of the device id. Five more digits hold the counter, whose
// topmost bit belongs to the device id. "605" is a KSN of 16 digits, "906" one of 20.
//
// The zero value is none; make one with [ParseDescriptor].
type Descriptor struct{ keySet, subKey, device uint8 }

// counterDigits is how many hex digits the counter takes a part of.
const counterDigits = 5

// ParseDescriptor reads three hex digits of either case. It fails with [ErrKSN] when they are none, or leave no room for the
// counter in 20 digits, or no key set id and no device id.
func ParseDescriptor(s string) (Descriptor, error) {
	b, err := hex.DecodeString("0" + s)
	if err != nil || len(s) != 3 {
		return Descriptor{}, fmt.Errorf("%w: descriptor %q is not three hex digits", ErrKSN, s)
	}
	d := Descriptor{keySet: b[0], subKey: b[1] >> 4, device: b[1] & 15}
	switch {
	case d.keySet == 0 || d.device == 0:
		return Descriptor{}, fmt.Errorf("%w: descriptor %q has no key set id or no device id", ErrKSN, s)
	case d.digits() > 2*TDES.ksnSize():
		return Descriptor{}, fmt.Errorf("%w: descriptor %q describes %d digits, a KSN has %d", ErrKSN, s, d.digits(), 2*TDES.ksnSize())
	}
	return d, nil
}

// String returns the three digits, in upper case.
func (d Descriptor) String() string { return fmt.Sprintf("%X%X%X", d.keySet, d.subKey, d.device) }

// digits returns the number of hex digits of a KSN.
func (d Descriptor) digits() int { return int(d.keySet+d.subKey+d.device) + counterDigits }

// Parse reads a KSN of as many hex digits as d describes, and fills it up with F on the left. It fails with [ErrKSN] for
// another number of digits, and as [ParseKSNHex] does.
func (d Descriptor) Parse(s string) (KSN, error) {
	if d == (Descriptor{}) {
		return KSN{}, fmt.Errorf("%w: no descriptor", ErrKSN)
	}
	if len(s) != d.digits() {
		return KSN{}, fmt.Errorf("%w: %q has %d digits, descriptor %v means %d", ErrKSN, s, len(s), d, d.digits())
	}
	return ParseKSNHex(strings.Repeat("F", 2*TDES.ksnSize()-len(s)) + s)
}

// Split returns the three ids of a TDES KSN in upper-case hex. The bit of the device id that lies in the digits of the counter
// is not shown. It fails with [ErrKSN] for a KSN of AES, and for one with other than
// F before the digits that d describes.
func (d Descriptor) Split(k KSN) (keySet, subKey, device string, err error) {
	if d == (Descriptor{}) || k.Scheme() != TDES {
		return "", "", "", fmt.Errorf("%w: %v by the descriptor %v", ErrKSN, k, d)
	}
	id := k.KeyID().String()
	filled := len(id) - d.digits()
	if id[:filled] != strings.Repeat("F", filled) {
		return "", "", "", fmt.Errorf("%w: %v has more digits than descriptor %v means", ErrKSN, k, d)
	}
	id = id[filled:]
	keySet, id = id[:d.keySet], id[d.keySet:]
	subKey, id = id[:d.subKey], id[d.subKey:]
	return keySet, subKey, id[:d.device], nil
}
