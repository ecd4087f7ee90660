package mac

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/des"
)

// Padding is a padding method of ISO/IEC 9797-1, 6.3.
type Padding uint8

// The padding methods. Method 1 makes a message and the same message with a zero byte behind it look alike; methods 2 and 3
// do not.
const (
	Padding1 Padding = iota + 1 // zeros up to the block; at least one block
	Padding2                    // 80, then zeros up to the block
	Padding3                    // a block with the length in bits in front, then zeros up to the block; at least one block
)

// ErrPadding says that the padding method is none of the three.
var ErrPadding = errors.New("mac: unknown padding method")

// SetCBC sets the state to ISO/IEC 9797-1 algorithm 1: the last block of CBC under b, a cipher with blocks of 8 or 16 bytes,
// which the state takes over: Wipe wipes it. A refused one stays with the caller. Messages of different lengths need [Padding3], or an attacker makes
// new MACs out of old ones; [State.SetCMAC] and [State.SetRetail] do not have that fault. It fails with [ErrKey] and
// [ErrPadding].
func (s *State) SetCBC(b cipher.Block, p Padding) error {
	st := s.fresh()
	if err := checkPadding(p); err != nil {
		return err
	}
	if err := checkBlock(b); err != nil {
		return err
	}
	st.algorithm, st.padding, st.size, st.least, st.chain = cbc, p, b.BlockSize(), MinLength, b
	return nil
}

// SetRetail sets the state to the retail MAC of ANSI X9.19, ISO/IEC 9797-1 algorithm 3 over single DES. Of a 16-byte key the left half
// chains and ends and the right half undoes; the three parts of a 24-byte key chain, undo and end. The key is not kept.
// It fails with [ErrKey] for a key of another length, with [ErrPadding], and where DES is forbidden.
func (s *State) SetRetail(key []byte, p Padding) error {
	if len(key) != 16 && len(key) != 24 {
		s.Wipe()
		return fmt.Errorf("%w: a retail MAC key of %d bytes, want 16 or 24", ErrKey, len(key))
	}
	if err := checkPadding(p); err != nil {
		s.Wipe()
		return err
	}
	st := s.fresh()
	if st.des == nil {
		c, err := des.New(key)
		if err != nil {
			return err
		}
		st.des = c
	} else if err := st.des.Reset(key); err != nil {
		return err
	}
	st.algorithm, st.padding, st.size, st.least = retail, p, des.BlockSize, MinLength
	st.chain = first{st.des}
	return nil
}

// first is single DES under the first part of a key: the chain of a retail MAC.
type first struct{ *des.Cipher }

func (f first) Encrypt(dst, src []byte) { f.EncryptFirst(dst, src) }

func checkPadding(p Padding) error {
	if p < Padding1 || p > Padding3 {
		return fmt.Errorf("%w: %d", ErrPadding, uint8(p))
	}
	return nil
}

func checkBlock(b cipher.Block) error {
	if b == nil {
		return fmt.Errorf("%w: no cipher given", ErrKey)
	}
	if size := b.BlockSize(); size != 8 && size != 16 {
		return fmt.Errorf("%w: a cipher with blocks of %d bytes, want 8 or 16", ErrKey, size)
	}
	return nil
}

// chainPadded leaves the last block of CBC with a zero vector over the padded message in sum.
func (s *state) chainPadded(msg []byte) {
	size, last := s.size, s.last[:s.size]
	if s.padding == Padding3 {
		binary.BigEndian.PutUint64(last[size-8:], 8*uint64(len(msg)))
		s.mix(last)
		clear(last)
	}
	full := len(msg) > 0
	for len(msg) >= size {
		s.mix(msg[:size])
		msg = msg[size:]
	}
	if full && len(msg) == 0 && s.padding != Padding2 {
		return
	}
	copy(last, msg)
	if s.padding == Padding2 {
		last[len(msg)] = 0x80
	}
	s.mix(last)
}

// mix adds one block to the chain.
func (s *state) mix(block []byte) {
	sum := s.sum[:s.size]
	subtle.XORBytes(sum, sum, block)
	s.chain.Encrypt(sum, sum)
}

// Retail appends the 8-byte MAC of msg as after [State.SetRetail].
func Retail(dst, key, msg []byte, p Padding) ([]byte, error) {
	var s State
	if err := s.SetRetail(key, p); err != nil {
		return nil, err
	}
	defer s.Wipe()
	return s.Append(dst, msg, s.Size())
}

// CBC appends the full-block MAC of msg as after [State.SetCBC]. The caller keeps b.
func CBC(dst []byte, b cipher.Block, msg []byte, p Padding) ([]byte, error) {
	var s State
	if err := s.SetCBC(b, p); err != nil {
		return nil, err
	}
	return s.Append(dst, msg, s.Size())
}
