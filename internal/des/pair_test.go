package des

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestPair holds the engine for two blocks to crypto/des, with a key of its own for each block.
func TestPair(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(41, 42))
	for range 3000 {
		key, mask, x, y := r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64()
		var s PairSchedule
		s.Set(key)
		s.Flip(NewPairMask(mask))
		var p Pair
		p.Set(x, y)
		if a, b := p.Blocks(); a != x || b != y {
			t.Fatalf("%x %x came back as %x %x", x, y, a, b)
		}
		p.Encrypt(&s)
		a, b := p.Blocks()
		if wa, wb := slow(key, x), slow(key^mask, y); a != wa || b != wb {
			t.Fatalf("key %x, mask %x, blocks %x %x: %x %x, want %x %x", key, mask, x, y, a, b, wa, wb)
		}
		p.Decrypt(&s)
		if a, b := p.Blocks(); a != x || b != y {
			t.Fatalf("key %x, mask %x: %x %x decrypt to %x %x", key, mask, x, y, a, b)
		}
	}
}

// TestRoomsComeBackWiped works on blocks in lanes, and looks at what that was done in.
func TestRoomsComeBackWiped(t *testing.T) {
	c, err := New([]byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		c.EncryptECB(make([]byte, 8*(few+1)))
		r := rooms.Get().(*room)
		if *r != (room{}) {
			t.Fatal("a key or a block is left in a room")
		}
		rooms.Put(r)
	}
}

// TestFew encrypts and decrypts every small number of blocks, which go two by two up to some number and in lanes beyond.
func TestFew(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(43, 44))
	for _, size := range []int{8, 16, 24} {
		key := make([]byte, size)
		for i := range key {
			key[i] = byte(r.Uint32())
		}
		c, err := New(key)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 2*few + 2 {
			in := make([]byte, 8*n)
			for i := range in {
				in[i] = byte(r.Uint32())
			}
			out := bytes.Clone(in)
			c.EncryptECB(out)
			for i := range n {
				var block [8]byte
				c.Encrypt(block[:], in[8*i:])
				if !bytes.Equal(block[:], out[8*i:8*i+8]) {
					t.Fatalf("%d-byte key, block %d of %d: %x, want %x", size, i, n, out[8*i:8*i+8], block)
				}
			}
			if c.DecryptECB(out); !bytes.Equal(out, in) {
				t.Fatalf("%d-byte key: %d blocks do not come back", size, n)
			}
		}
	}
}
