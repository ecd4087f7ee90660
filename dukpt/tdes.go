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

// The two halves of a new key come from two encryptions whose keys and blocks differ in maskInitial. A pair of blocks makes them
// at once.
var (
	flipInitial = des.NewMask(maskInitial)
	flipPair    = des.NewPairMask(maskInitial)
)

// tdesBase is a base key made ready for the initial keys of many terminals. Of one at a time the pair of blocks has the key
// without the mask and with it; of as many as there are lanes, all have the one and then the other.
type tdesBase struct {
	pair         tdesPair
	many, masked tdesParts
}

func newTDESBase(key *tdesKey) *tdesBase {
	b := new(tdesBase)
	b.pair.set(key)
	left, right := tdesHalves(key)
	for i, half := range []uint64{left, right} {
		b.pair[i].Flip(flipPair)
		b.many[i].Set(half)
		b.masked[i].Set(half ^ maskInitial)
	}
	return b
}

func (b *tdesBase) wipe() {
	b.pair.wipe()
	for i := range b.many {
		b.many[i].Wipe()
		b.masked[i].Wipe()
	}
}

// tdesPair is a double-length key for two blocks.
type tdesPair [2]des.PairSchedule

func (k *tdesPair) set(key *tdesKey) {
	left, right := tdesHalves(key)
	k[0].Set(left)
	k[1].Set(right)
}

// encrypt is TDES.
func (k *tdesPair) encrypt(blocks *des.Pair) {
	blocks.Encrypt(&k[0])
	blocks.Decrypt(&k[1])
	blocks.Encrypt(&k[0])
}

func (k *tdesPair) wipe() {
	k[0].Wipe()
	k[1].Wipe()
}

// tdesParts is a double-length key in all lanes.
type tdesParts [2]des.Schedule

// encrypt is TDES.
func (k *tdesParts) encrypt(blocks *des.Blocks) {
	blocks.Encrypt(&k[0])
	blocks.Decrypt(&k[1])
	blocks.Encrypt(&k[0])
}

// generator is where one key after the other is computed, as a pair of blocks: without the mask, and with it. Whoever has used
// one wipes it. The zero value is ready.
type generator struct {
	key    des.PairSchedule
	blocks des.Pair
}

func (g *generator) wipe() {
	g.key.Wipe()
	g.blocks.Wipe()
	runtime.KeepAlive(g)
}

// initial computes the initial key: the first eight bytes of the KSN with a zero counter, encrypted under the base key for
// the left half and under the base key with the mask for the right half (X9.24-1:2009, A.6).
func (g *generator) initial(dst *tdesKey, base *tdesBase, id *KeyID) {
	serial := binary.BigEndian.Uint64(id.b[:8])
	g.blocks.Set(serial, serial)
	base.pair.encrypt(&g.blocks)
	left, right := g.blocks.Blocks()
	tdesJoin(dst, left, right)
}

// step computes the key of counter from the key of its parent. dst may be key.
func (g *generator) step(dst, key *tdesKey, id *KeyID, counter uint32) {
	left, right := tdesHalves(key)
	g.set(left)
	g.child(dst, right, id, counter)
}

// children is multiplier.children for a few.
func (g *generator) children(dst []byte, key *tdesKey, id *KeyID, counter uint32) {
	left, right := tdesHalves(key)
	g.set(left)
	for i := range len(dst) / 16 {
		g.child((*tdesKey)(dst[16*i:]), right, id, counter|1<<i)
	}
}

// set takes the left half of a key.
func (g *generator) set(left uint64) {
	g.key.Set(left)
	g.key.Flip(flipPair)
}

// child computes the key of counter by the non-reversible key generation process (X9.24-1:2009, A.2): the register XOR the
// right half of the parent's key, encrypted under its left half by single DES, XOR its right half gives the right half of the
// new key; the same with the mask on both halves gives its left half.
func (g *generator) child(dst *tdesKey, right uint64, id *KeyID, counter uint32) {
	in := tdesRegister(id, counter) ^ right
	g.blocks.Set(in, in^maskInitial)
	g.blocks.Encrypt(&g.key)
	plain, masked := g.blocks.Blocks()
	tdesJoin(dst, masked^right^maskInitial, plain^right)
}

// multiplier is where keys are computed side by side, in all lanes: without the mask, and then with it. Whoever has used one
// wipes it. The zero value is ready.
type multiplier struct {
	key                     des.Schedule
	blocks, others          des.Blocks
	in, plain, masked, last [des.Lanes]uint64
}

func (m *multiplier) wipe() {
	m.key.Wipe()
	m.blocks.Wipe()
	m.others.Wipe()
	for _, x := range []*[des.Lanes]uint64{&m.in, &m.plain, &m.masked, &m.last} {
		clear(x[:])
	}
	runtime.KeepAlive(m)
}

// initials computes the initial keys of several terminals, at most des.Lanes.
func (m *multiplier) initials(dst []tdesKey, base *tdesBase, ids []KeyID) {
	n := len(ids)
	for i := range ids {
		m.in[i] = binary.BigEndian.Uint64(ids[i].b[:8])
	}
	m.blocks.Load(m.in[:n])
	m.others = m.blocks
	base.many.encrypt(&m.blocks)
	m.blocks.Store(m.plain[:n])
	base.masked.encrypt(&m.others)
	m.others.Store(m.masked[:n])
	for i := range ids {
		tdesJoin(&dst[i], m.plain[i], m.masked[i])
	}
}

// steps makes each of several keys, at most des.Lanes, one of its children.
func (m *multiplier) steps(keys []tdesKey, ids []KeyID, counters []uint32) {
	n := len(keys)
	for i := range keys {
		m.in[i], m.last[i] = tdesHalves(&keys[i])
	}
	m.key.SetEach(m.in[:n])
	for i := range keys {
		m.in[i] = tdesRegister(&ids[i], counters[i]) ^ m.last[i]
	}
	m.pairs(n)
	for i := range keys {
		tdesJoin(&keys[i], m.masked[i]^m.last[i]^maskInitial, m.plain[i]^m.last[i])
	}
}

// children computes the keys of counter with one of the lowest bits set, as many as there are places in dst: the lowest
// bit's is the first. There are at most 21.
func (m *multiplier) children(dst []byte, key *tdesKey, id *KeyID, counter uint32) {
	left, right := tdesHalves(key)
	n := len(dst) / 16
	m.key.Set(left)
	for i := range n {
		m.in[i] = tdesRegister(id, counter|1<<i) ^ right
	}
	m.pairs(n)
	for i := range n {
		tdesJoin((*tdesKey)(dst[16*i:]), m.masked[i]^right^maskInitial, m.plain[i]^right)
	}
}

// pairs encrypts n blocks, each under the key of its lane, and again with the mask on blocks and keys.
func (m *multiplier) pairs(n int) {
	m.blocks.Load(m.in[:n])
	m.others = m.blocks
	m.blocks.Encrypt(&m.key)
	m.blocks.Store(m.plain[:n])
	m.key.Flip(flipInitial, ^uint(0))
	m.others.Flip(flipInitial, ^uint(0))
	m.others.Encrypt(&m.key)
	m.others.Store(m.masked[:n])
}

// tdesRegister is the input to a step: the last eight bytes of the KSN with this counter.
func tdesRegister(id *KeyID, counter uint32) uint64 {
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
	var whole tdesPair
	whole.set(key)
	var halves des.Pair
	halves.Set(tdesHalves(key))
	whole.encrypt(&halves)
	left, right := halves.Blocks()
	tdesJoin(key, left, right)
	whole.wipe()
	halves.Wipe()
}

func tdesXOR(key *tdesKey, mask *tdesMask) {
	for i := range mask {
		key[i] ^= mask[i]
		key[8+i] ^= mask[i]
	}
}

// newDES panics when called with a key of another length than 8, 16 or 24, or where DES is forbidden: whoever calls it has the
// key from a method that asks, or has asked (checkDES).
func newDES(key []byte) *des.Cipher {
	c, err := des.New(key)
	if err != nil {
		panic("dukpt: " + err.Error())
	}
	return c
}
