package keyset

import "slices"

// DisjointRanges reports the first pair of sets that cannot live beside each other: sets over one base key whose ranges
// of key ids meet or that disagree about its name, environment or algorithm, sets over two base keys of one name, and
// two sets of one tenant and name. Give it one revision of each set, the latest. The error wraps ErrKeySet.
func DisjointRanges(sets []*KeySet) error {
	for i, a := range sets {
		for _, b := range sets[:i] {
			err := disjoint(b, a)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func disjoint(a, b *KeySet) error {
	if a.Tenant == b.Tenant && a.ID == b.ID {
		return broken("key set %s of tenant %s is given twice", a.ID, a.Tenant)
	}
	same := a.BaseKeyFingerprint == b.BaseKeyFingerprint
	if !same && a.BaseKey == b.BaseKey {
		return broken("key sets %s and %s name two base keys %s", a.ID, b.ID, a.BaseKey)
	}
	if !same {
		return nil
	}
	if a.BaseKey != b.BaseKey {
		return broken("key sets %s and %s have one base key under two names, %s and %s", a.ID, b.ID, a.BaseKey, b.BaseKey)
	}
	if a.Environment != b.Environment {
		return broken("key sets %s and %s put one base key into two environments", a.ID, b.ID)
	}
	if a.Scheme != b.Scheme || a.Algorithm != b.Algorithm {
		return broken("key sets %s and %s disagree about the algorithm of their base key", a.ID, b.ID)
	}
	if a.FirstID.Compare(b.LastID) <= 0 && b.FirstID.Compare(a.LastID) <= 0 {
		return broken("key sets %s and %s over one base key share key ids", a.ID, b.ID)
	}
	return nil
}

// NextRevision returns a copy with the next revision number, to be changed and signed.
func (s *KeySet) NextRevision() *KeySet {
	c := s.Clone()
	c.Revision++
	return c
}

// CheckSuccessor reports why next may not follow prev as its next revision: the number must be the next one, what
// says which keys they are and what they are for stays as it was, and a retired set has no successor. Other purposes or another range
// make another set, because rows that were claimed under the old rules stay. The error wraps ErrKeySet.
func CheckSuccessor(prev, next *KeySet) error {
	if next.Revision != prev.Revision+1 {
		return broken("revision %d follows revision %d", next.Revision, prev.Revision)
	}
	fixed := prev.Clone()
	fixed.Revision = next.Revision
	fixed.R, fixed.Paths, fixed.Unknown, fixed.State = next.R, next.Paths, next.Unknown, next.State
	fixed.OutgoingPINKeys = slices.Clone(next.OutgoingPINKeys)
	fixed.W, fixed.J = next.W, next.J
	same, err := sameBytes(fixed, next)
	if err != nil {
		return err
	}
	if !same {
		return broken("a new revision changes more than windows, horizon, paths, unknown keys, outgoing PIN keys and state")
	}
	if !prev.State.CanBecome(next.State) {
		return broken("a retired set has no further revision")
	}
	return nil
}

func sameBytes(a, b *KeySet) (bool, error) {
	x, err := encode(a.wire())
	if err != nil {
		return false, err
	}
	y, err := encode(b.wire())
	if err != nil {
		return false, err
	}
	return string(x) == string(y), nil
}
