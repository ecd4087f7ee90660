package dukpt

import (
	"encoding/binary"
	"runtime"

	"github.com/latchkey-pos/latchkey/internal/des"
)

// tdesKey is a double-length key, halves side by side.
type tdesKey = [16]byte

// tdesMask is XORed to both halves of a key, which gives another key (X9.24-1:2009, table A-1 and A.2).
type tdesMask = [8]byte

var (
	maskPIN          = tdesMask{7: 0xFF}
	maskMACRequest   = tdesMask{6: 0xFF}
	maskMACResponse  = tdesMask{4: 0xFF}
	maskDataRequest  = tdesMask{5: 0xFF}
	maskDataResponse = tdesMask{3: 0xFF}
)

// maskInitial is the mask of initial keys and of one half of each later key, C0C0C0C0 00000000.
const maskInitial uint64 = 0xC0C0C0C0_00000000

// The two halves of a new key come from two encryptions whose keys and blocks differ in maskInitial: they are made at once,
// in the lanes plain and masked.
const (
	plain  = 0
	masked = 1
)

// generator is where TDES keys are computed: an engine, and the blocks that go into it and come out. Whoever has used one
// wipes it. The zero value is ready.
type generator struct {
	key     des.Schedule
	blocks  des.Blocks
	others  des.Blocks
	in, out [des.Lanes]uint64
}

func (g *generator) wipe() {
	*g = generator{}
	runtime.KeepAlive(g)
}

// tdesBase is a base key made ready for the initial keys of many terminals.
type tdesBase [2]des.Schedule

func newTDESBase(key *tdesKey) *tdesBase {
	left, right := tdesHalves(key)
	var b tdesBase
	b[0].Set(left)
	b[1].Set(right)
	return &b
}

func (b *tdesBase) wipe() {
	b[0].Wipe()
	b[1].Wipe()
}

// initial computes the initial key: the first eight bytes of the KSN with a zero counter, encrypted under the base key for
// the left half and under the base key with the mask for the right half (X9.24-1:2009, A.6).
func (g *generator) initial(dst *tdesKey, base *tdesBase, id KeyID) {
	g.blocks.Set(binary.BigEndian.Uint64(id.b[:8]))
	g.tdes(base, 1<<masked)
	g.blocks.Store(g.out[:2])
	tdesJoin(dst, g.out[plain], g.out[masked])
}

// tdes encrypts the blocks under a base key, with the mask in the lanes given.
func (g *generator) tdes(base *tdesBase, lanes uint) {
	g.key = base[0]
	g.key.Flip(maskInitial, lanes)
	g.blocks.Encrypt(&g.key)
	g.key = base[1]
	g.key.Flip(maskInitial, lanes)
	g.blocks.Decrypt(&g.key)
	g.key = base[0]
	g.key.Flip(maskInitial, lanes)
	g.blocks.Encrypt(&g.key)
}

// step computes the key of counter from the key of its parent by the non-reversible key generation process (X9.24-1:2009,
// A.2): the register XOR the right half, encrypted under the left half by single DES, XOR the right half gives the right
// half of the new key; the same with the mask on both halves gives its left half. dst may be key.
func (g *generator) step(dst, key *tdesKey, id KeyID, counter uint32) {
	left, right := tdesHalves(key)
	g.key.Set(left)
	g.key.Flip(maskInitial, 1<<masked)
	g.blocks.Set(tdesRegister(id, counter) ^ right)
	g.blocks.Flip(maskInitial, 1<<masked)
	g.blocks.Encrypt(&g.key)
	g.blocks.Store(g.out[:2])
	tdesJoin(dst, g.out[masked]^right^maskInitial, g.out[plain]^right)
}

// steps is step for a child of each of several keys, at most des.Lanes.
func (g *generator) steps(keys []tdesKey, ids []KeyID, counters []uint32) {
	n := len(keys)
	for i := range keys {
		g.in[i] = binary.BigEndian.Uint64(keys[i][:8])
	}
	g.key.SetEach(g.in[:n])
	for i := range keys {
		g.in[i] = tdesRegister(ids[i], counters[i]) ^ binary.BigEndian.Uint64(keys[i][8:])
	}
	g.pairs(n)
	for i := range keys {
		_, right := tdesHalves(&keys[i])
		tdesJoin(&keys[i], g.in[i]^right^maskInitial, g.out[i]^right)
	}
}

// children computes the keys of counter with one of the lowest n bits set, as many as there are places in dst: the lowest
// bit's is the first. n is at most 21.
func (g *generator) children(dst []byte, key *tdesKey, id KeyID, counter uint32) {
	left, right := tdesHalves(key)
	n := len(dst) / 16
	g.key.Set(left)
	for i := range n {
		g.in[i] = tdesRegister(id, counter|1<<i) ^ right
	}
	g.pairs(n)
	for i := range n {
		tdesJoin((*tdesKey)(dst[16*i:]), g.in[i]^right^maskInitial, g.out[i]^right)
	}
}

// pairs encrypts n blocks of in, each under the key of its lane, to out, and with the mask on blocks and keys back to in.
func (g *generator) pairs(n int) {
	g.blocks.Load(g.in[:n])
	g.others = g.blocks
	g.blocks.Encrypt(&g.key)
	g.blocks.Store(g.out[:n])
	g.key.Flip(maskInitial, ^uint(0))
	g.others.Flip(maskInitial, ^uint(0))
	g.others.Encrypt(&g.key)
	g.others.Store(g.in[:n])
}

// initials computes the initial keys of several terminals, at most des.Lanes.
func (g *generator) initials(dst []tdesKey, base *tdesBase, ids []KeyID) {
	n := len(ids)
	for i := range ids {
		g.in[i] = binary.BigEndian.Uint64(ids[i].b[:8])
	}
	g.blocks.Load(g.in[:n])
	g.others = g.blocks
	g.tdes(base, 0)
	g.blocks.Store(g.out[:n])
	g.blocks = g.others
	g.tdes(base, ^uint(0))
	g.blocks.Store(g.in[:n])
	for i := range ids {
		tdesJoin(&dst[i], g.out[i], g.in[i])
	}
}

// tdesRegister is the input to a step: the last eight bytes of the KSN with this counter.
func tdesRegister(id KeyID, counter uint32) uint64 {
	return binary.BigEndian.Uint64(id.b[2:]) | uint64(counter)
}

func tdesHalves(key *tdesKey) (left, right uint64) {
	return binary.BigEndian.Uint64(key[:8]), binary.BigEndian.Uint64(key[8:])
}

func tdesJoin(dst *tdesKey, left, right uint64) {
	binary.BigEndian.PutUint64(dst[:8], left)
	binary.BigEndian.PutUint64(dst[8:], right)
}

// tdesOneWay encrypts each half of key under the whole of it: the last step of data keys (X9.24-1:2009, A.4.1).
func tdesOneWay(key *tdesKey) {
	var g generator
	g.in[0], g.in[1] = tdesHalves(key)
	base := newTDESBase(key)
	g.blocks.Load(g.in[:2])
	g.tdes(base, 0)
	g.blocks.Store(g.out[:2])
	tdesJoin(key, g.out[0], g.out[1])
	base.wipe()
	g.wipe()
}

func tdesXOR(key *tdesKey, mask *tdesMask) {
	for i := range mask {
		key[i] ^= mask[i]
		key[8+i] ^= mask[i]
	}
}

// newDES panics when called with a key of another length than 8, 16 or 24, or where DES is forbidden: familyOf refuses TDES
// there before any key of it exists, and PINTarget.check refuses a TDES target.
func newDES(key []byte) *des.Cipher {
	c, err := des.New(key)
	if err != nil {
		panic("dukpt: " + err.Error())
	}
	return c
}
