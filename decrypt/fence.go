package decrypt

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/latchkey-pos/latchkey/dukpt"
)

// Fenced returns the state behind a fence of n ordinals: a floor that far above everything that is known of the counter, an earlier floor
// included, which the terminal has followed, and what
// lies below it closed with CodeKSNFenced as far as it was never claimed (docs/protocol.md, section 10). It is for a database that
// may lack claims that were answered: as long as it lacks fewer than n of a counter, none of them can be released again. s is not
// changed. A fence goes no further than the last key of the scheme.
func (s KeyIDState) Fenced(id dukpt.KeyID, n uint32) KeyIDState {
	floor := uint32(min(uint64(max(s.High, s.Seen, s.Floor))+uint64(n), uint64(id.Scheme().MaxOrdinal())))
	if n == 0 {
		return s
	}
	return s.fencedTo(floor)
}

// Raised returns the state with a floor at an ordinal or above: a key was used up to there before it came here. Where the store has fences,
// of so many ordinals in all, they close what lies above: what was claimed there before something was lost. s is not changed.
func (s KeyIDState) Raised(id dukpt.KeyID, floor, fences uint32) KeyIDState {
	to := min(uint64(floor)+uint64(fences), uint64(id.Scheme().MaxOrdinal()))
	if floor == 0 || to <= uint64(s.Floor) {
		return s
	}
	s.Floor = max(s.Floor, floor)
	return s.fencedTo(uint32(to))
}

// fencedTo closes what lies between the floor and an ordinal, which becomes the floor.
func (s KeyIDState) fencedTo(floor uint32) KeyIDState {
	if floor <= s.Floor {
		return s
	}
	fence := Range{s.Floor + 1, floor}
	s.Fences, s.Floor = slices.Clone(s.Fences), floor
	if last := len(s.Fences) - 1; last >= 0 && s.Fences[last].To+1 == fence.From {
		s.Fences[last].To = floor
	} else {
		s.Fences = append(s.Fences, fence)
	}
	return s
}

// Floor is how far the key of a counter was used before it came here.
type Floor struct {
	Counter CounterKey
	Ordinal uint32 // at and below it nothing new is accepted
}

// CheckFloors refuses floors that our own code made wrongly: none, two for one counter, one of nothing, or one beyond the last key of its scheme.
func CheckFloors(all []Floor) error {
	if len(all) == 0 {
		return errors.New("decrypt: no floors to raise")
	}
	seen := make(map[CounterKey]bool, len(all))
	for _, f := range all {
		if seen[f.Counter] {
			return fmt.Errorf("decrypt: two floors for key id %v", f.Counter.KeyID)
		}
		seen[f.Counter] = true
		if f.Counter.BaseKey.IsZero() || f.Counter.KeyID.IsZero() || f.Ordinal == 0 || f.Ordinal > f.Counter.KeyID.Scheme().MaxOrdinal() {
			return fmt.Errorf("decrypt: a floor of %d for key id %v", f.Ordinal, f.Counter.KeyID)
		}
	}
	return nil
}

// FencesJoined is the fence of counters that nothing is known about, after one more: each may have been used as far as any fence says.
func FencesJoined(before, n uint32) uint32 {
	return uint32(min(uint64(before)+uint64(n), math.MaxUint32))
}
