// Package mac computes the message authentication codes of retail payments: algorithms 1 and 3 of ISO/IEC 9797-1 with paddings
// 1 to 3, CMAC (NIST SP 800-38B) and HMAC with SHA-2 (RFC 2104, ISO/IEC 9797-2 algorithm 2).
//
// The usual path is a [State] that its owner keeps: set it to an algorithm and a key, then call [State.Append] or
// [State.Verify] as often as needed; these allocate nothing. [CMAC], [CBC] and [Retail] do it all for a single message.
//
// A MAC is shortened by keeping its left bytes, never below what [State.MinSize] says. It tells who made a message, not
// when: the package knows nothing of replays.
package mac

import (
	"crypto/cipher"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"runtime"

	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// MinLength is the least number of bytes that may be kept of a MAC by a block cipher: terminals of X9.24 send 4. An attacker
// without the key guesses such a MAC once in 2^32 tries, so whoever keeps so few bytes limits the tries.
const MinLength = 4

const (
	maxSize  = 64  // bytes of the longest MAC: HMAC-SHA-512
	maxBlock = 128 // bytes of the longest block: of SHA-384 and SHA-512
)

var (
	// ErrKey says that a key or cipher does not fit the algorithm, or that a state has no key.
	ErrKey = errors.New("mac: key does not fit the algorithm")
	// ErrLength says that more bytes of a MAC are asked for than it has, or fewer than may be kept.
	ErrLength = errors.New("mac: length of the MAC is out of range")
	// ErrVerify says that a MAC is not that of the message, or has another length than required. It never says which.
	ErrVerify = errors.New("mac: does not verify")
)

type algorithm uint8

const (
	cbc algorithm = iota + 1
	retail
	cmac
	hmac
)

// State computes MACs under one key at a time. The zero value has no key; a Set method gives it one, and may be called again.
// Copies share one content. It is not safe for concurrent use: the scratch memory is inside, behind two pointers, because fmt
// follows one.
type State struct{ inner **state }

// state holds the key of the moment and the scratch of one computation, which is zero between computations.
type state struct {
	algorithm   algorithm // 0: no key
	size, least int       // bytes of a whole MAC and of the shortest one
	padding     Padding
	chain       cipher.Block
	des         *des.Cipher // of a retail MAC: made at first use and kept
	hash        hash.Hash
	hashes      [len(digests)]hash.Hash // made at first use and kept: keying again allocates nothing
	mask        [maxBlock]byte          // CMAC: the two subkeys; HMAC: the key block, mixed with the inner constant
	sum         [maxSize]byte
	last        [maxBlock]byte
}

// Size returns the number of bytes of a whole MAC: one block of the cipher, or 32, 48 or 64. It is 0 without a key.
func (s *State) Size() int {
	if s.inner == nil {
		return 0
	}
	return (*s.inner).size
}

// MinSize returns the least number of bytes that may be kept: [MinLength] of a block, half of an HMAC (RFC 2104, section 5). It
// is 0 without a key.
func (s *State) MinSize() int {
	if s.inner == nil {
		return 0
	}
	return (*s.inner).least
}

// Append appends the left length bytes of the MAC of msg to dst, which must not overlap msg. It fails with [ErrLength] for
// a length outside of MinSize to Size, and with [ErrKey] without a key; then it returns dst as it was.
func (s *State) Append(dst, msg []byte, length int) ([]byte, error) {
	st, err := s.ready(length)
	if err != nil {
		return dst, err
	}
	st.compute(msg)
	dst = append(dst, st.sum[:length]...)
	st.forget()
	return dst, nil
}

// Verify checks that given is the MAC of msg at exactly the required length, in time that does not depend on the bytes of
// either MAC. It fails with [ErrVerify], given of another length included, and for the length as [State.Append] does.
func (s *State) Verify(msg, given []byte, length int) error {
	st, err := s.ready(length)
	if err != nil {
		return err
	}
	st.compute(msg)
	same := secret.Public(subtle.ConstantTimeCompare(st.sum[:length], given))
	st.forget()
	if same != 1 {
		return ErrVerify
	}
	return nil
}

// Wipe zeroes the key and the scratch, and wipes the ciphers the state was set to. Afterwards the state has
// no key. It may be called again.
func (s *State) Wipe() {
	if s.inner != nil {
		(*s.inner).wipe()
	}
}

// ready returns what computes, if it has a key and may give so many bytes.
func (s *State) ready(length int) (*state, error) {
	if s.Size() == 0 {
		return nil, fmt.Errorf("%w: none is set", ErrKey)
	}
	st := *s.inner
	if length < st.least || length > st.size {
		return nil, fmt.Errorf("%w: %d bytes, want %d to %d", ErrLength, length, st.least, st.size)
	}
	return st, nil
}

// fresh returns the content without a key, and makes it first where there is none.
func (s *State) fresh() *state {
	if s.inner == nil {
		st := new(state)
		s.inner = &st
	}
	(*s.inner).wipe()
	return *s.inner
}

// compute leaves the whole MAC of msg in sum.
func (s *state) compute(msg []byte) {
	switch s.algorithm {
	case cbc:
		s.chainPadded(msg)
	case retail:
		s.chainPadded(msg)
		s.des.DecryptEncrypt(s.sum[:s.size], s.sum[:s.size])
	case cmac:
		s.cmac(msg)
	case hmac:
		s.hmac(msg)
	}
}

// forget zeroes the scratch.
func (s *state) forget() {
	secret.Wipe(s.sum[:])
	secret.Wipe(s.last[:])
}

func (s *state) wipe() {
	if w, ok := s.chain.(interface{ Wipe() }); ok {
		w.Wipe()
	} else {
		secret.WipeCipher(s.chain)
	}
	s.des.Wipe()
	*s = state{des: s.des, hashes: s.hashes} // the hashes were flushed when they were last used
	runtime.KeepAlive(s)
}
