package des

import (
	stdes "crypto/des"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
)

// slow is crypto/des: the oracle.
func slow(key, block uint64) uint64 {
	c, err := stdes.NewCipher(binary.BigEndian.AppendUint64(nil, key))
	if err != nil {
		panic(err)
	}
	var out [8]byte
	c.Encrypt(out[:], binary.BigEndian.AppendUint64(nil, block))
	return binary.BigEndian.Uint64(out[:])
}

func randomWords(r *rand.Rand, n int) []uint64 {
	x := make([]uint64, n)
	for i := range x {
		x[i] = r.Uint64()
	}
	return x
}

// TestLanes encrypts in every number of lanes, each under a key of its own, and back.
func TestLanes(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for n := range Lanes + 1 {
		for range 20 {
			keys, in, out := randomWords(r, n), randomWords(r, n), make([]uint64, n)
			var s Schedule
			var b Blocks
			s.SetEach(keys)
			b.Load(in)
			b.Encrypt(&s)
			b.Store(out)
			for i := range out {
				if want := slow(keys[i], in[i]); out[i] != want {
					t.Fatalf("lane %d of %d: %016x, want %016x", i, n, out[i], want)
				}
			}
			b.Decrypt(&s)
			b.Store(out)
			for i := range out {
				if out[i] != in[i] {
					t.Fatalf("lane %d of %d: decrypts to %016x, not %016x", i, n, out[i], in[i])
				}
			}
		}
	}
}

// TestLanesBeyond does not look at blocks and keys for which there is no lane.
func TestLanesBeyond(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	keys, in, out := randomWords(r, Lanes+3), randomWords(r, Lanes+3), make([]uint64, Lanes+3)
	var s Schedule
	var b Blocks
	s.SetEach(keys)
	b.Load(in)
	b.Encrypt(&s)
	b.Store(out)
	for i := range Lanes {
		if want := slow(keys[i], in[i]); out[i] != want {
			t.Fatalf("lane %d: %016x, want %016x", i, out[i], want)
		}
	}
	for i := Lanes; i < len(out); i++ {
		if out[i] != 0 {
			t.Errorf("lane %d was written", i)
		}
	}
}

// TestFlip holds a mask that is flipped in against the same mask added before, at every bit and in every lane.
func TestFlip(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	masks := randomWords(r, 20)
	for i := range 64 {
		masks = append(masks, 1<<i)
	}
	for _, swapped := range []bool{false, true} {
		for _, mask := range masks {
			key, block, lanes := r.Uint64(), r.Uint64(), uint(r.Uint64())
			var s Schedule
			var b Blocks
			var out [Lanes]uint64
			s.Set(key)
			b.Load(slices.Repeat([]uint64{block}, Lanes))
			plain := block
			if swapped {
				b.Encrypt(&s)
				plain = slow(key, plain)
			}
			s.Flip(NewMask(mask), lanes)
			b.Flip(NewMask(mask), lanes)
			b.Encrypt(&s)
			b.Store(out[:])
			for i, got := range out {
				want := slow(key, plain)
				if lanes>>i&1 == 1 {
					want = slow(key^mask, plain^mask)
				}
				if got != want {
					t.Fatalf("mask %016x, lane %d: %016x, want %016x", mask, i, got, want)
				}
			}
		}
	}
}

func TestEngineAllocatesNothing(t *testing.T) {
	keys, out := randomWords(rand.New(rand.NewPCG(9, 10)), Lanes), make([]uint64, Lanes)
	c, err := New(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	mask, pairMask := NewMask(3), NewPairMask(3)
	data, key := make([]byte, 8*(Lanes+5)), make([]byte, 24)
	for name, use := range map[string]func(){
		"the engine": func() {
			var s Schedule
			var b Blocks
			s.SetEach(keys)
			s.Flip(mask, 1)
			b.Flip(mask, 1)
			b.Load(keys)
			b.Encrypt(&s)
			b.Store(out)
			s.Wipe()
			b.Wipe()
		},
		"the engine for two": func() {
			var s PairSchedule
			var b Pair
			s.Set(keys[0])
			s.Flip(pairMask)
			b.Set(keys[1], keys[2])
			b.Encrypt(&s)
			out[0], out[1] = b.Blocks()
			s.Wipe()
			b.Wipe()
		},
		"Reset":        func() { _ = c.Reset(key) },
		"Encrypt":      func() { c.Encrypt(data, data) },
		"Decrypt":      func() { c.Decrypt(data, data) },
		"EncryptFirst": func() { c.EncryptFirst(data, data) },
		"EncryptECB":   func() { c.EncryptECB(data) },
		"DecryptECB":   func() { c.DecryptECB(data) },
		"EncryptCBC":   func() { c.EncryptCBC(key, data[:16]) },
		"DecryptCBC":   func() { c.DecryptCBC(key, data) },
	} {
		if n := testing.AllocsPerRun(20, use); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	var x Blocks
	in := make([]uint64, Lanes)
	for b.Loop() {
		x.Load(in)
	}
}

func BenchmarkPass(b *testing.B) {
	var s Schedule
	var x Blocks
	for b.Loop() {
		x.Encrypt(&s)
	}
}
