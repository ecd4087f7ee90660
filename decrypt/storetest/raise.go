package storetest

import (
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
)

// floorOf is a floor of a key under the base key of the suite.
func floorOf(id dukpt.KeyID, n uint32) decrypt.Floor {
	return decrypt.Floor{Counter: decrypt.CounterKey{BaseKey: base, KeyID: id}, Ordinal: n}
}

// testRaise raises the floors of keys that another host has used: of one that something is known about, and of one that nothing is.
func testRaise(t *testing.T, h Harness) {
	dir := t.TempDir()
	s := h.Open(t, dir)
	first := sale("s5", 5)
	claimed(t, s, first, decrypt.Fresh)
	raised := func(want int, floors ...decrypt.Floor) {
		t.Helper()
		if moved, err := s.Raise(t.Context(), floors, record("store/raise", "import")); err != nil || moved != want {
			t.Fatalf("raise: %d moved, %v, want %d", moved, err, want)
		}
	}
	raised(2, floorOf(dataID, 20), floorOf(otherID, 7))
	leaves := len(h.Dump(t, s).Leaves)
	raised(0, floorOf(dataID, 20), floorOf(otherID, 7)) // the same again
	raised(0, floorOf(dataID, 19))                      // and one that is lower: none goes down
	if got := h.Dump(t, s).Leaves; len(got) != leaves || got[leaves-1].Action != "store/raise" {
		t.Errorf("the log has %d records after nothing was moved, want %d that end with that of the floors", len(got), leaves)
	}
	check := func() {
		t.Helper()
		claimed(t, s, first, decrypt.Resend) // what was claimed here is answered as before
		for what, set := range map[string]decrypt.ClaimSet{
			"below": sale("s6", 6), "at the floor": sale("s20", 20), "of a key that was never seen": set("u", claim(otherID, 7, decrypt.PurposeMAC, "u")),
			"that no MAC covers": set("b", bare(otherID, 1, decrypt.PurposeData, "b")),
		} {
			if _, err := s.Claim(t.Context(), set); codeOf(err) != decrypt.CodeKSNTooOld {
				t.Errorf("%s: %v, want %s", what, err, decrypt.CodeKSNTooOld)
			}
		}
		if state, err := s.Counters(t.Context(), base, otherID); err != nil || state.Floor != 7 || state.Seen != 0 || state.High != 0 {
			t.Errorf("a key that was never seen: %+v, %v", state, err)
		}
	}
	check()
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	s = h.open(t, dir)
	check()
	claimed(t, s, set("v", claim(otherID, 8, decrypt.PurposeMAC, "v")), decrypt.Fresh)
	claimed(t, s, sale("s21", 21), decrypt.Fresh)
	raised(1, floorOf(otherID, 9)) // another list, with a higher counter
	if _, err := s.Claim(t.Context(), set("w", claim(otherID, 9, decrypt.PurposeMAC, "w"))); codeOf(err) != decrypt.CodeKSNTooOld {
		t.Errorf("below the higher floor: %v", err)
	}
	for what, floors := range map[string][]decrypt.Floor{
		"none": nil, "of nothing": {floorOf(otherID, 0)}, "beyond the last key": {floorOf(otherID, otherID.Scheme().MaxOrdinal()+1)},
		"two for one counter": {floorOf(otherID, 30), floorOf(otherID, 40)}, "without a base key": {{Counter: decrypt.CounterKey{BaseKey: keys.Fingerprint{}, KeyID: otherID}, Ordinal: 1}},
	} {
		if moved, err := s.Raise(t.Context(), floors, record("store/raise", "wrong")); err == nil || moved != 0 {
			t.Errorf("%s: %d moved, %v", what, moved, err)
		}
	}
}

// testImported has claims bring the floor of their key, as the registry says it: the store that does not know it yet keeps it.
func testImported(t *testing.T, h Harness) {
	dir := t.TempDir()
	s := h.Open(t, dir)
	imported := func(name string, n uint32) decrypt.ClaimSet {
		c := claim(otherID, n, decrypt.PurposeMAC, name)
		c.Floor = 30
		return set(name, c)
	}
	for n := uint32(1); n <= 30; n += 29 {
		if _, err := s.Claim(t.Context(), imported("old", n)); codeOf(err) != decrypt.CodeKSNTooOld {
			t.Errorf("ordinal %d of another host: %v, want %s", n, err, decrypt.CodeKSNTooOld)
		}
	}
	claimed(t, s, imported("new", 31), decrypt.Fresh)
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	s = h.open(t, dir)
	if _, err := s.Claim(t.Context(), set("x", claim(otherID, 29, decrypt.PurposeMAC, "x"))); codeOf(err) != decrypt.CodeKSNTooOld {
		t.Errorf("the floor is forgotten with its claim: %v", err)
	}
	if state, err := s.Counters(t.Context(), base, otherID); err != nil || state.Floor != 30 {
		t.Errorf("%+v, %v", state, err)
	}
}

// testImportedBehindFence has a database that was restored not know of keys that came from elsewhere: what was claimed above their
// floors may be lost as well, whether the store hears of the floor first or a claim brings it.
func testImportedBehindFence(t *testing.T, h Harness) {
	const n, floor = 10, 30
	s := h.open(t, t.TempDir())
	if _, err := s.Fence(t.Context(), n, record("store/fence", "all")); err != nil {
		t.Fatal(err)
	}
	raised := func(want int) {
		t.Helper()
		if moved, err := s.Raise(t.Context(), []decrypt.Floor{floorOf(dataID, floor)}, record("store/raise", "import")); err != nil || moved != want {
			t.Fatalf("raise: %d moved, %v, want %d", moved, err, want)
		}
	}
	raised(1)
	raised(0)
	for name, id := range map[string]dukpt.KeyID{"raised": dataID, "brought": otherID} {
		imported := func(at uint32) decrypt.ClaimSet {
			c := claim(id, at, decrypt.PurposeMAC, fmt.Sprint(name, at))
			c.Floor = floor
			return set(fmt.Sprint(name, at), c)
		}
		for at, want := range map[uint32]decrypt.Code{1: "", n + 1: decrypt.CodeKSNTooOld, floor + 1: decrypt.CodeKSNFenced, floor + n: decrypt.CodeKSNFenced} {
			if _, err := s.Claim(t.Context(), imported(at)); codeOf(err) != want && (want != "" || err == nil) {
				t.Errorf("%s, ordinal %d: %v, want %s", name, at, err, want)
			}
		}
		claimed(t, s, imported(floor+n+1), decrypt.Fresh)
		if state, err := s.Counters(t.Context(), base, id); err != nil || state.Floor != floor+n {
			t.Errorf("%s: %+v, %v", name, state, err)
		}
	}
}
