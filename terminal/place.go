package terminal

import (
	"fmt"
	"slices"

	"github.com/latchkey-pos/latchkey/dukpt"
)

// place is a slot with the number under which the engine has its key.
type place struct {
	Slot
	at uint8 // the number of the slot, with Staged added as long as its key waits
}

// places finds the keys of slots in the engine.
func (t *Terminal) places(slots []Slot) ([]place, error) {
	var out []place
	for _, s := range slots {
		p, ok := t.find(s)
		if !ok {
			return nil, fmt.Errorf("%w: slot %d: the engine does not hold key %v", ErrState, s.Number, s.KeyID)
		}
		out = append(out, p)
	}
	return out, nil
}

func (t *Terminal) find(s Slot) (place, bool) {
	for _, st := range t.engine.Status() {
		if st.Slot&^Staged == s.Number && st.KeyID == s.KeyID {
			return place{Slot: s, at: st.Slot}, true
		}
	}
	return place{}, false
}

// arrange says where the keys are, those in use and those that wait. Messages are MACed under the first slot for card data.
func (t *Terminal) arrange() error {
	slots, err := t.places(t.holder.slots)
	if err != nil {
		return err
	}
	next, err := t.places(t.holder.next)
	if err != nil {
		return err
	}
	t.slots, t.next = slots, next
	t.macSlot = firstWithData(slots)
	return nil
}

func firstWithData(places []place) place {
	i := slices.IndexFunc(places, func(p place) bool { return p.HasData() })
	return places[i] // of validated slots one has data
}

// replaced returns the slots with others in the places of those that have their numbers, or added.
func replaced[S any](slots, with []S, number func(S) uint8) []S {
	out := slices.Clone(slots)
	for _, s := range with {
		i := slices.IndexFunc(out, func(o S) bool { return number(o) == number(s) })
		if i < 0 {
			out = append(out, s)
		} else {
			out[i] = s
		}
	}
	return out
}

func numberOf(s Slot) uint8       { return s.Number }
func numberOfPlace(p place) uint8 { return p.Number }

// nextOf returns the ordinal of the next key of a place, if one is left.
func (t *Terminal) nextOf(p place) (uint32, bool) {
	for _, s := range t.engine.Status() {
		if s.Slot == p.at && !s.Next.IsZero() {
			return s.Next.Ordinal(), true
		}
	}
	return 0, false
}

// holds reports whether a key id is that of a slot in use.
func (t *Terminal) holds(id dukpt.KeyID) bool {
	return slices.ContainsFunc(t.holder.slots, func(s Slot) bool { return s.KeyID == id })
}
