package mac

import (
	"crypto/cipher"
	"crypto/subtle"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// SetCMAC sets the state to CMAC under b, a cipher with blocks of 8 or 16 bytes (NIST SP 800-38B, 6.2), which the state takes
// over: Wipe wipes it. It fails with [ErrKey].
func (s *State) SetCMAC(b cipher.Block) error {
	st := s.fresh()
	if err := checkBlock(b); err != nil {
		return err
	}
	size := b.BlockSize()
	st.algorithm, st.size, st.least, st.chain = cmac, size, MinLength, b
	one, two := st.mask[:size], st.mask[size:2*size]
	b.Encrypt(one, one)
	double(one)
	copy(two, one)
	double(two)
	return nil
}

func (s *state) cmac(msg []byte) {
	size := s.size
	for len(msg) > size {
		s.mix(msg[:size])
		msg = msg[size:]
	}
	last, subkey := s.last[:size], s.mask[:size]
	copy(last, msg)
	if len(msg) < size {
		last[len(msg)] = 0x80
		subkey = s.mask[size : 2*size]
	}
	subtle.XORBytes(last, last, subkey)
	s.mix(last)
}

// double multiplies by x in GF(2^64) or GF(2^128), without a branch on the secret (SP 800-38B, 5.3: constants 1B and 87).
func double(k []byte) {
	constant := byte(0x1b)
	if len(k) == 16 {
		constant = 0x87
	}
	var carry byte
	for i := len(k) - 1; i >= 0; i-- {
		next := k[i] >> 7
		k[i] = k[i]<<1 | carry
		carry = next
	}
	k[len(k)-1] ^= constant & -carry
}

// CMAC appends the full-block CMAC of msg under b, a cipher with blocks of 8 or 16 bytes; it panics for another. The caller
// keeps b.
func CMAC(dst []byte, b cipher.Block, msg []byte) []byte {
	var s State
	err := s.SetCMAC(b)
	if err != nil {
		panic(err.Error())
	}
	dst, _ = s.Append(dst, msg, s.Size()) // cannot fail: the key is set and the length its own
	secret.Wipe((*s.inner).mask[:])
	return dst
}
