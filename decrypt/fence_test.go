package decrypt_test

import (
	"math"
	"slices"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
)

func TestFenced(t *testing.T) {
	t.Parallel()
	tdes, aes := must[dukpt.KeyID](t)(dukpt.ParseKeyID("FFFF9876543210E00000")), must[dukpt.KeyID](t)(dukpt.ParseKeyID("1234567890123456"))
	last := dukpt.TDES.MaxOrdinal()
	for name, tt := range map[string]struct {
		id   dukpt.KeyID
		was  decrypt.KeyIDState
		n    uint32
		want decrypt.KeyIDState
	}{
		"unknown":            {aes, decrypt.KeyIDState{}, 100, decrypt.KeyIDState{Floor: 100, Fences: []decrypt.Range{{From: 1, To: 100}}}},
		"above the highest":  {aes, decrypt.KeyIDState{High: 70, Seen: 80, Floor: 6}, 10, decrypt.KeyIDState{High: 70, Seen: 80, Floor: 90, Fences: []decrypt.Range{{From: 7, To: 90}}}},
		"no ordinals":        {aes, decrypt.KeyIDState{High: 70, Seen: 80, Floor: 6}, 0, decrypt.KeyIDState{High: 70, Seen: 80, Floor: 6}},
		"as far as it goes":  {tdes, decrypt.KeyIDState{High: last - 3, Seen: last - 3}, 10, decrypt.KeyIDState{High: last - 3, Seen: last - 3, Floor: last, Fences: []decrypt.Range{{From: 1, To: last}}}},
		"the last key used":  {tdes, decrypt.KeyIDState{High: last, Seen: last, Floor: last}, 10, decrypt.KeyIDState{High: last, Seen: last, Floor: last}},
		"above the floor":    {aes, decrypt.KeyIDState{High: 5, Seen: 5, Floor: 20}, 10, decrypt.KeyIDState{High: 5, Seen: 5, Floor: 30, Fences: []decrypt.Range{{From: 21, To: 30}}}},
		"more than there is": {tdes, decrypt.KeyIDState{High: 5, Seen: 5}, math.MaxUint32, decrypt.KeyIDState{High: 5, Seen: 5, Floor: last, Fences: []decrypt.Range{{From: 1, To: last}}}},
		"beside another": {
			aes, decrypt.KeyIDState{High: 5, Seen: 95, Floor: 90, Fences: []decrypt.Range{{From: 7, To: 90}}}, 10,
			decrypt.KeyIDState{High: 5, Seen: 95, Floor: 105, Fences: []decrypt.Range{{From: 7, To: 105}}},
		},
		"above another": {
			aes, decrypt.KeyIDState{High: 200, Seen: 200, Floor: 136, Fences: []decrypt.Range{{From: 7, To: 90}}}, 10,
			decrypt.KeyIDState{High: 200, Seen: 200, Floor: 210, Fences: []decrypt.Range{{From: 7, To: 90}, {From: 137, To: 210}}},
		},
	} {
		before := slices.Clone(tt.was.Fences)
		got := tt.was.Fenced(tt.id, tt.n)
		if got.Floor != tt.want.Floor || got.High != tt.want.High || got.Seen != tt.want.Seen || !slices.Equal(got.Fences, tt.want.Fences) {
			t.Errorf("%s: got %+v, want %+v", name, got, tt.want)
		}
		if !slices.Equal(tt.was.Fences, before) {
			t.Errorf("%s: the state that was given has changed", name)
		}
	}
	if n := decrypt.FencesJoined(math.MaxUint32-1, 5); n != math.MaxUint32 {
		t.Errorf("joined to %d", n)
	}
}
