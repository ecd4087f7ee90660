package terminal

import (
	"bytes"
	"testing"
)

// FuzzReadRooms: whatever a file holds, only whole rooms come out of it, the newest first, and what was written comes back.
func FuzzReadRooms(f *testing.F) {
	one := appendRoom(nil, 1, room{generation: 3, sealed: []byte("sealed")})
	other := appendRoom(nil, 1, room{generation: 4, sealed: []byte("sealed again")})
	f.Add(bytes.Repeat(one, copies), uint32(0))
	f.Add(bytes.Join([][]byte{other, one, one}, nil), uint32(100))
	f.Add(appendRoom(nil, 2, room{generation: 1 << 40, sealed: make([]byte, copyBlock)}), uint32(5000*8))
	f.Fuzz(func(t *testing.T, file []byte, bit uint32) {
		rooms, blocks := readRooms(file)
		for i, r := range rooms {
			if i > 0 && rooms[i-1].generation < r.generation {
				t.Fatalf("generation %d before %d", rooms[i-1].generation, r.generation)
			}
			again := appendRoom(nil, blocks, r)
			back, n, ok := parseRoom(again, 0)
			if !ok || n != blocks || back.generation != r.generation || !bytes.Equal(back.sealed, r.sealed) {
				t.Fatalf("room %d does not come back", i)
			}
			if !equalRooms(bytes.Repeat(again, copies)) {
				t.Fatal("three equal rooms are not taken for that")
			}
			at := int(bit) % ((copyHeader + len(r.sealed)) * 8)
			again[at/8] ^= 1 << (at % 8)
			if _, _, ok := parseRoom(again, 0); ok {
				t.Fatalf("a room with bit %d flipped is taken for whole", at)
			}
		}
	})
}
