package keyblock

import (
	"fmt"
	"strings"

	"github.com/latchkey-pos/latchkey/keys"
)

// Identifiers of optional blocks that this project writes or reads.
const (
	OptionalHM = "HM" // hash algorithm of an HMAC key, two hexadecimal digits
	OptionalIK = "IK" // AES DUKPT initial key id, 16 hexadecimal digits
	OptionalKS = "KS" // TDES DUKPT initial key serial number, 20 hexadecimal digits
	OptionalLB = "LB" // label
	OptionalPB = "PB" // padding of the header
)

const hashSHA256 = "21" // in HM

// OptionalBlock is one optional block of a header: two characters and printable ASCII data, without the length.
type OptionalBlock struct {
	ID   string
	Data string
}

// checkOptional holds optional blocks that are about to be written to the rules for a key, and returns them with HM added
// where an HMAC key needs it. KS is for TDES only: some systems write it for AES too, the standard has IK there.
func checkOptional(a keys.Attributes, given []OptionalBlock) ([]OptionalBlock, error) {
	var all []OptionalBlock
	seen := make(map[string]bool)
	for _, ob := range given {
		if seen[ob.ID] {
			return nil, fmt.Errorf("keyblock: optional block %q comes twice", ob.ID)
		}
		if !ob.fits(a) {
			return nil, fmt.Errorf("keyblock: optional block %s with %d characters does not go with %s", ob.ID, len(ob.Data), a.Algorithm)
		}
		seen[ob.ID] = true
		all = append(all, ob)
	}
	if a.Algorithm.IsHMAC() && !seen[OptionalHM] {
		all = append(all, OptionalBlock{ID: OptionalHM, Data: hashSHA256})
	}
	return all, nil
}

// fits reports whether an optional block that has a meaning here may be written for a key.
func (ob OptionalBlock) fits(a keys.Attributes) bool {
	switch ob.ID {
	case OptionalPB: // Wrap adds it
		return false
	case OptionalHM:
		return a.Algorithm.IsHMAC() && ob.Data == hashSHA256
	case OptionalIK:
		return a.Algorithm.IsAES() && len(ob.Data) == 16 && strings.Trim(ob.Data, hexDigits) == ""
	case OptionalKS:
		return a.Algorithm.IsTDES() && len(ob.Data) == 20 && strings.Trim(ob.Data, hexDigits) == ""
	}
	return true
}

// parseOptional reads the optional block that starts at start, and returns where the next one starts. The length counts the
// whole optional block; a length of 00 announces a length of the length and then the length, all of them counted in
// hexadecimal digits (ANSI X9.143, 6.3.6).
func parseOptional(block string, start int) (OptionalBlock, int, error) {
	bad := func(what string) (OptionalBlock, int, error) {
		return OptionalBlock{}, 0, fmt.Errorf("keyblock: optional block at %d: %s", start, what)
	}
	if len(block) < start+4 {
		return bad("is missing")
	}
	id, data := block[start:start+2], start+4
	length, err := hexadecimal(block[start+2 : start+4])
	if err != nil {
		return bad("length is not hexadecimal")
	}
	if length == 0 {
		if len(block) < data+2 {
			return bad("extended length is missing")
		}
		digits, err := hexadecimal(block[data : data+2])
		if err != nil || digits == 0 || digits > 4 || len(block) < data+2+digits {
			return bad("length of the length")
		}
		if length, err = hexadecimal(block[data+2 : data+2+digits]); err != nil {
			return bad("extended length is not hexadecimal")
		}
		data += 2 + digits
	}
	if length < data-start || start+length > len(block) {
		return bad(fmt.Sprintf("length %d", length))
	}
	return OptionalBlock{ID: id, Data: block[data : start+length]}, start + length, nil
}

func writeOptional(b *strings.Builder, ob OptionalBlock) error {
	if len(ob.ID) != 2 || strings.IndexFunc(ob.ID+ob.Data, func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
		return fmt.Errorf("keyblock: optional block %q is not two characters and printable ASCII", ob.ID)
	}
	length := 4 + len(ob.Data)
	if length <= 0xff {
		fmt.Fprintf(b, "%s%02X%s", ob.ID, length, ob.Data)
		return nil
	}
	length += 6 // the length of the length, 04, and four digits
	if length > maxBlock {
		return fmt.Errorf("keyblock: optional block %s of %d characters: too long", ob.ID, length)
	}
	fmt.Fprintf(b, "%s0004%04X%s", ob.ID, length, ob.Data)
	return nil
}
