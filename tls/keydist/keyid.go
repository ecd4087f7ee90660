package keydist

import (
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
		if id.Compare(last) > 0 {
			last = id
		}
	}
	if last.IsZero() {
		return set.FirstID, nil
	}
	next, ok := last.Next()
	if !ok || !set.Contains(next) {
		return dukpt.KeyID{}, refuse(CodeNoKeyID, string(set.ID)+" ends at "+set.LastID.String())
	}
	return next, nil
}
