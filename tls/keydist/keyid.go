package keydist

import (
	"bytes"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// nextKeyID returns the key id of a set that follows the highest of these, or the first one of the set when all are zero.
// It refuses with CodeNoKeyID when there is none left.
func nextKeyID(set *keyset.KeySet, given ...dukpt.KeyID) (dukpt.KeyID, error) {
	var last dukpt.KeyID
	for _, id := range given {
		if id.IsZero() {
			continue
		}
		if !set.Contains(id) {
			return dukpt.KeyID{}, refuse(CodeKeyIDMismatch, id.String()+" is no key id of "+string(set.ID))
		}
		if last.IsZero() || above(id, last) {
			last = id
		}
	}
	if last.IsZero() {
		return set.FirstID, nil
	}
	next, ok := successor(last)
	if !ok || !set.Contains(next) {
		return dukpt.KeyID{}, refuse(CodeNoKeyID, string(set.ID)+" ends at "+set.LastID.String())
	}
	return next, nil
}

// above compares key ids of one scheme.
func above(a, b dukpt.KeyID) bool { return bytes.Compare(a.Append(nil), b.Append(nil)) > 0 }

// successor returns the key id after id: one more in the bits above the counter, which are the upper 59 of a TDES KSN and
// all 64 of an AES key id. It returns false for the last one there is.
func successor(id dukpt.KeyID) (dukpt.KeyID, bool) {
	step := uint16(1)
	if id.Scheme() == dukpt.TDES {
		step = 1 << (21 - 16) // the counter takes the two lowest bytes and five bits of the third
	}
	b := id.Append(nil)
	if len(b) < 8 {
		return dukpt.KeyID{}, false
	}
	for i := 7; i >= 0 && step > 0; i-- {
		sum := uint16(b[i]) + step
		b[i], step = byte(sum), sum>>8
	}
	var next dukpt.KeyID
	if step > 0 || next.UnmarshalBinary(b) != nil {
		return dukpt.KeyID{}, false
	}
	return next, true
}
