package keyset

import "time"

// Rotation replaces a key set by another with an overlap. Until it starts, new keys come of the previous set; from then on of
// the next one only, while what was protected under the previous one is processed until the end. It is a plan that the two
// signed sets stand by: what they say themselves (blocked, retired) counts as well. Build it with NewRotation; the zero value
// rotates nothing.
type Rotation struct {
	previous, next *KeySet
	from, until    time.Time
}

// NewRotation returns the plan that from from on next stands for previous, which ends at until. Both are times in whole
// seconds. The sets are not copied, and may be other revisions later: give it the latest.
//
// Refused are sets that cannot stand for each other: of two tenants or environments, for other purposes, over the key ids of
// one another, a weaker base key after a stronger one, a set that has retired. The overlap is at least the horizon R of the
// previous set, because that is how long what terminals have queued may still come. The error wraps ErrKeySet.
func NewRotation(previous, next *KeySet, from, until time.Time) (Rotation, error) {
	for _, s := range []*KeySet{previous, next} {
		if err := s.Validate(); err != nil {
			return Rotation{}, err
		}
		if s.State == Retired {
			return Rotation{}, broken("key set %s is retired", s.ID)
		}
	}
	if previous.Tenant != next.Tenant || previous.Environment != next.Environment {
		return Rotation{}, broken("key sets %s and %s are of two tenants or environments", previous.ID, next.ID)
	}
	if err := DisjointRanges([]*KeySet{previous, next}); err != nil {
		return Rotation{}, err
	}
	for _, u := range previous.Usages {
		if !next.Has(u) {
			return Rotation{}, broken("key set %s does not serve %v, as %s does", next.ID, u, previous.ID)
		}
	}
	if next.Algorithm.StrengthBits() < previous.Algorithm.StrengthBits() {
		return Rotation{}, broken("%v is weaker than %v", next.Algorithm, previous.Algorithm)
	}
	if from.Nanosecond() != 0 || until.Nanosecond() != 0 {
		return Rotation{}, broken("a rotation starts and ends at whole seconds")
	}
	if until.Sub(from) < previous.R {
		return Rotation{}, broken("overlap of %v, want at least the horizon of key set %s, %v", until.Sub(from), previous.ID, previous.R)
	}
	return Rotation{previous: previous, next: next, from: from, until: until}, nil
}

// KeyStates returns the state in which the keys of both sets are at a time: of the previous one active, deactivated from the
// start and destroyed from the end on; of the next one pre-activation and active from the start on; or what the set itself
// says, where that is stricter.
func (r Rotation) KeyStates(now time.Time) (previous, next KeyState) {
	if r.previous == nil {
		return KeyDestroyed, KeyDestroyed
	}
	previous, next = KeyDeactivated, KeyActive
	if now.Before(r.from) {
		previous, next = KeyActive, KeyPreActivation
	}
	if !now.Before(r.until) {
		previous = KeyDestroyed
	}
	return Strictest(previous, r.previous.State.KeyState()), Strictest(next, r.next.State.KeyState())
}

// Delivering returns the one of the two sets that new keys come of at a time, and whether it permits that now.
func (r Rotation) Delivering(now time.Time) (*KeySet, bool) {
	previous, next := r.KeyStates(now)
	if now.Before(r.from) {
		return r.previous, previous.Permits(Deliver)
	}
	return r.next, next.Permits(Deliver)
}
