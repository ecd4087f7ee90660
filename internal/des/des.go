// Package des is the DES and TDES block cipher of FIPS 46-3 and NIST SP 800-67, as DUKPT and retail MACs need it: many keys
// for few blocks each, in constant time.
//
// Selection functions are logic: no table is indexed and no branch taken by a secret. There are two engines. [Schedule] and
// [Blocks] are bitsliced: every bit of the state is a word, with one bit for each of up to 64 blocks (lanes). [PairSchedule] and
// [Pair] have all bits of two blocks in two words, and take half the time where there are no more. Both change keys by a mask.
// [Cipher] is the usual block cipher on top of them.
package des

import (
	"crypto/fips140"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

//go:generate go run ./gen -dir .

// BlockSize is the length of a block in bytes.
const BlockSize = 8

// Cipher is DES under an 8-byte key, TDES under a 16-byte key (2TDEA: the first part is used again) or a 24-byte one
// (3TDEA). It implements cipher.Block and is safe for concurrent use between one Reset or Wipe and the next.
//
// One block costs half of what [Lanes] of them cost: the methods for many blocks are the fast ones, where the mode allows it.
//
// The key stands behind two pointers: fmt follows one, under %s even out of an unexported field.
type Cipher struct{ key **key }

// key is one DES key or three. A key of two parts has its first again as the third.
type key struct {
	parts int // 0 after Wipe
	words [3]uint64
	part  [3]PairSchedule
}

// ErrForbidden says that Go's FIPS mode is enforced.
var ErrForbidden = errors.New("des: Go's FIPS mode is enforced (GODEBUG=fips140=only) and forbids DES and TDES")

// Available returns nil where New works, and ErrForbidden where it does not.
// The engine itself would run there; it is for its callers to ask.
func Available() error {
	if fips140.Enforced() {
		return ErrForbidden
	}
	return nil
}

// New returns the cipher under a key. The key is not kept; parity bits are ignored. Keys of other lengths are an error, and
// so is every key where Go's FIPS mode is enforced: ErrForbidden.
func New(keyBytes []byte) (*Cipher, error) {
	k := new(key)
	c := &Cipher{key: &k}
	if err := c.Reset(keyBytes); err != nil {
		return nil, err
	}
	return c, nil
}

// Reset gives a cipher that New has made another key, of any of the lengths, and allocates nothing. It fails as New does,
// and then the cipher has no key.
func (c *Cipher) Reset(keyBytes []byte) error {
	c.Wipe()
	if err := Available(); err != nil {
		return err
	}
	k := *c.key
	switch len(keyBytes) {
	case 8:
		k.parts = 1
	case 16, 24:
		k.parts = 3
	default:
		return fmt.Errorf("des: key of %d bytes: want 8, 16 or 24", len(keyBytes))
	}
	for i := range len(keyBytes) / 8 {
		k.words[i] = binary.BigEndian.Uint64(keyBytes[8*i:])
		k.part[i].Set(k.words[i])
	}
	if len(keyBytes) == 16 {
		k.words[2], k.part[2] = k.words[0], k.part[0]
	}
	return nil
}

// Wipe zeroes the key. The cipher must not be used again before Reset; Wipe itself may be called again.
func (c *Cipher) Wipe() {
	if c == nil || c.key == nil {
		return
	}
	k := *c.key
	k.parts = 0
	if planted.On(planted.SkipWipe) {
		return
	}
	*k = key{}
	runtime.KeepAlive(k)
}

// BlockSize returns 8.
func (c *Cipher) BlockSize() int { return BlockSize }

// Encrypt encrypts one block of src into dst; they may be the same. A wiped cipher panics.
func (c *Cipher) Encrypt(dst, src []byte) {
	var b Pair
	b.Set(binary.BigEndian.Uint64(src), 0)
	(*c.key).crypt(&b, false)
	b.put(dst)
}

// Decrypt decrypts one block of src into dst; they may be the same. A wiped cipher panics.
func (c *Cipher) Decrypt(dst, src []byte) {
	var b Pair
	b.Set(binary.BigEndian.Uint64(src), 0)
	(*c.key).crypt(&b, true)
	b.put(dst)
}

// EncryptFirst encrypts one block under the first part of the key alone, as the chain of a retail MAC does (ISO/IEC 9797-1,
// algorithm 3). dst and src may be the same. A wiped cipher panics.
func (c *Cipher) EncryptFirst(dst, src []byte) {
	(*c.key).check()
	var b Pair
	b.Set(binary.BigEndian.Uint64(src), 0)
	b.Encrypt(&(*c.key).part[0])
	b.put(dst)
}

// DecryptEncrypt decrypts one block under the second part of the key and encrypts it under the third, as a retail MAC ends. A
// key of 8 bytes leaves the block as it is. dst and src may be the same. A wiped cipher panics.
func (c *Cipher) DecryptEncrypt(dst, src []byte) {
	k := *c.key
	k.check()
	var b Pair
	b.Set(binary.BigEndian.Uint64(src), 0)
	if k.parts == 3 {
		b.Decrypt(&k.part[1])
		b.Encrypt(&k.part[2])
	}
	b.put(dst)
}

// put writes the first block to dst, and wipes.
func (p *Pair) put(dst []byte) {
	first, _ := p.Blocks()
	binary.BigEndian.PutUint64(dst, first)
	p.Wipe()
}

// EncryptECB encrypts whole blocks in place. A wiped cipher and a part of a block panic.
func (c *Cipher) EncryptECB(data []byte) { (*c.key).each(data, false) }

// DecryptECB decrypts whole blocks in place. A wiped cipher and a part of a block panic.
func (c *Cipher) DecryptECB(data []byte) { (*c.key).each(data, true) }

// EncryptCBC encrypts whole blocks in place, one after the other: the mode allows no more. A wiped cipher, a part of a block,
// and an iv that is no block panic.
func (c *Cipher) EncryptCBC(iv, data []byte) {
	checkWhole(data)
	var chain [BlockSize]byte
	copy(chain[:], iv[:BlockSize])
	for ; len(data) > 0; data = data[BlockSize:] {
		for i := range chain {
			chain[i] ^= data[i]
		}
		c.Encrypt(chain[:], chain[:])
		copy(data, chain[:])
	}
}

// DecryptCBC decrypts whole blocks in place, Lanes of them at once. It panics as EncryptCBC does.
func (c *Cipher) DecryptCBC(iv, data []byte) {
	checkWhole(data)
	before := binary.BigEndian.Uint64(iv[:BlockSize])
	var in, out [Lanes]uint64
	for len(data) > 0 {
		n := take(in[:], data)
		copy(out[:], in[:n])
		(*c.key).lanes(out[:n], true)
		for i := range n {
			binary.BigEndian.PutUint64(data[BlockSize*i:], out[i]^before)
			before = in[i]
		}
		data = data[BlockSize*n:]
	}
	clear(out[:])
	runtime.KeepAlive(&out)
}

// each works on whole blocks in place, Lanes of them at once.
func (k *key) each(data []byte, decrypt bool) {
	checkWhole(data)
	var x [Lanes]uint64
	for len(data) > 0 {
		n := take(x[:], data)
		k.lanes(x[:n], decrypt)
		for i, v := range x[:n] {
			binary.BigEndian.PutUint64(data[BlockSize*i:], v)
		}
		data = data[BlockSize*n:]
	}
	clear(x[:])
	runtime.KeepAlive(&x)
}

// few is how many blocks take less time two by two than in lanes.
const few = 4

// lanes works on at most Lanes blocks.
func (k *key) lanes(x []uint64, decrypt bool) {
	if len(x) <= few {
		k.twos(x, decrypt)
		return
	}
	r := rooms.Get().(*room)
	r.blocks.Load(x)
	for _, p := range k.passes(decrypt) {
		r.part.Set(k.words[p.part])
		if p.inverse {
			r.blocks.Decrypt(&r.part)
		} else {
			r.blocks.Encrypt(&r.part)
		}
	}
	r.part.Wipe()
	r.blocks.Store(x)
	r.blocks.Wipe()
	rooms.Put(r)
}

// room is where blocks are worked on in lanes.
type room struct {
	part   Schedule
	blocks Blocks
}

// rooms are wiped, and not on a stack: one that grows or shrinks leaves the old one behind as it was, and here is a key in every
// lane.
var rooms = sync.Pool{New: func() any { return new(room) }}

// twos works on blocks two by two.
func (k *key) twos(x []uint64, decrypt bool) {
	var b Pair
	for ; len(x) > 0; x = x[min(2, len(x)):] {
		if len(x) == 1 {
			b.Set(x[0], 0)
		} else {
			b.Set(x[0], x[1])
		}
		k.crypt(&b, decrypt)
		first, second := b.Blocks()
		x[0] = first
		if len(x) > 1 {
			x[1] = second
		}
	}
	b.Wipe()
}

func (k *key) check() {
	if k.parts == 0 {
		panic("des: the cipher is wiped")
	}
}

// pass is one encryption, or its inverse, under a part of the key.
type pass struct {
	part    int
	inverse bool
}

var (
	single = [2][]pass{{{0, false}}, {{0, true}}}
	triple = [2][]pass{{{0, false}, {1, true}, {2, false}}, {{2, true}, {1, false}, {0, true}}}
)

// passes are those that encrypt, or decrypt.
func (k *key) passes(decrypt bool) []pass {
	k.check()
	kind := &triple
	if k.parts == 1 {
		kind = &single
	}
	if decrypt {
		return kind[1]
	}
	return kind[0]
}

// crypt works on a pair of blocks.
func (k *key) crypt(b *Pair, decrypt bool) {
	for _, p := range k.passes(decrypt) {
		if p.inverse {
			b.Decrypt(&k.part[p.part])
		} else {
			b.Encrypt(&k.part[p.part])
		}
	}
}

// take reads as many blocks as there are, and as into holds, and returns how many.
func take(into []uint64, data []byte) int {
	n := min(len(into), len(data)/BlockSize)
	for i := range n {
		into[i] = binary.BigEndian.Uint64(data[BlockSize*i:])
	}
	return n
}

func checkWhole(data []byte) {
	if len(data)%BlockSize != 0 {
		panic("des: data is not whole blocks")
	}
}
