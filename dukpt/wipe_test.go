package dukpt

import "testing"

// TestRoomsWipe looks into what derivations work in, after its wipe: nothing of it may be left.
func TestRoomsWipe(t *testing.T) {
	t.Parallel()
	key := tdesKey{1, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF, 0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10}
	id := testIDs(t)[TDES]

	base := newTDESBase(&key)
	if *base == (tdesBase{}) {
		t.Fatal("a base key that is made ready is zeros")
	}
	base.wipe()
	if *base != (tdesBase{}) {
		t.Error("the base key made ready is not wiped")
	}

	var g generator
	var child [3 * 16]byte
	g.children(child[:], &key, &id, 0)
	if g == (generator{}) {
		t.Fatal("a generator that was used is zeros")
	}
	g.wipe()
	if g != (generator{}) {
		t.Error("the generator is not wiped")
	}

	m := multipliers.Get().(*multiplier)
	var children [21 * 16]byte
	m.children(children[:], &key, &id, 0)
	if *m == (multiplier{}) {
		t.Fatal("a multiplier that was used is zeros")
	}
	m.wipe()
	if *m != (multiplier{}) {
		t.Error("the multiplier is not wiped")
	}

	ready := newTDESBase(&key)
	room := &lanes{roots: make([]tdesKey, 2)}
	other, _ := id.Next()
	room.begin(ready, []run{{id: id}, {id: other}})
	if room.engine == (multiplier{}) || room.roots[0] == (tdesKey{}) || room.roots[1] == (tdesKey{}) {
		t.Fatal("the room of a batch that has begun is zeros")
	}
	roots := room.roots
	room.wipe()
	if room.engine != (multiplier{}) || roots[0] != (tdesKey{}) || roots[1] != (tdesKey{}) {
		t.Error("the room of a batch is not wiped")
	}
}

// TestMultipliersComeBackWiped has a terminal make its registers, which takes all lanes, and looks at what it gave back.
func TestMultipliersComeBackWiped(t *testing.T) {
	b := testBases(t)[0]
	for range 20 {
		b.terminal(t)
		m := multipliers.Get().(*multiplier)
		if *m != (multiplier{}) {
			t.Fatal("a key is left in a multiplier")
		}
		multipliers.Put(m)
	}
}
