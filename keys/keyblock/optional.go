package keyblock

import (
	"fmt"
	"strings"
)

// Identifiers of the optional blocks that have a meaning (6.3.6). Others are kept in order, byte for byte.
const (
	OptionalAL = "AL" // life of an asymmetric key
	OptionalBI = "BI" // base derivation key id of AES DUKPT, or key set id of TDES DUKPT
	OptionalCT = "CT" // certificates of a public key
	OptionalDA = "DA" // derivations allowed
	OptionalHM = "HM" // hash algorithm of an HMAC key
	OptionalIK = "IK" // AES DUKPT initial key id
	OptionalKC = "KC" // check value of the wrapped key
	OptionalKP = "KP" // check value of the protection key
	OptionalKS = "KS" // TDES DUKPT initial key serial number
	OptionalLB = "LB" // label
	OptionalPB = "PB" // padding of the header
	OptionalPK = "PK" // check value of the protection key of an export
	OptionalTC = "TC" // time of creation
	OptionalTS = "TS" // time stamp
	OptionalWP = "WP" // wrapping pedigree
)

// OptionalBlock is one optional block of a header: two characters and printable ASCII data, without the length.
type OptionalBlock struct {
	ID   string
	Data string
}

const maxShort = 0xff // characters of an optional block with a length of two digits

// parseOptional reads the optional block that starts at start, and returns where the next one starts and whether its length
// is written as writeOptional writes it. The length counts the whole optional block; a length of 00 announces a length of the
// length and then the length, all of them counted in hexadecimal digits (6.2, table 1).
func parseOptional(block string, start int) (ob OptionalBlock, next int, canonical bool, err error) {
	bad := func(what string) (OptionalBlock, int, bool, error) {
		return OptionalBlock{}, 0, false, fmt.Errorf("keyblock: optional block at %d: %s", start, what)
	}
	if len(block) < start+4 {
		return bad("is missing")
	}
	id, data := block[start:start+2], start+4
	length, err := hexadecimal(block[start+2 : start+4])
	if err != nil {
		return bad("length is not hexadecimal")
	}
	canonical = true
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
		canonical = digits == 4 && length > maxShort+6
	}
	if length < data-start || start+length > len(block) {
		return bad(fmt.Sprintf("length %d", length))
	}
	return OptionalBlock{ID: id, Data: block[data : start+length]}, start + length, canonical, nil
}

func writeOptional(b *strings.Builder, ob OptionalBlock) error {
	if len(ob.ID) != 2 || strings.IndexFunc(ob.ID+ob.Data, func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
		return fmt.Errorf("%w: %q is not two characters and printable ASCII", ErrOptional, ob.ID)
	}
	length := 4 + len(ob.Data)
	if length <= maxShort {
		fmt.Fprintf(b, "%s%02X%s", ob.ID, length, ob.Data)
		return nil
	}
	length += 6 // the length of the length, 04, and four digits
	if length > maxBlock {
		return fmt.Errorf("%w: %s of %d characters: too long", ErrOptional, ob.ID, length)
	}
	fmt.Fprintf(b, "%s0004%04X%s", ob.ID, length, ob.Data)
	return nil
}
