package mac

import (
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
)

// Hash is the hash function of an HMAC. The zero value is none.
type Hash uint8

// The hash functions of FIPS 180-4 that HMACs of payments use.
const (
	SHA256 Hash = iota + 1
	SHA384
	SHA512
)

// digests make the hash functions, in the order of their constants.
var digests = [...]func() hash.Hash{sha256.New, sha512.New384, sha512.New}

// Size returns the number of bytes of a hash, and 0 for an unknown function.
func (h Hash) Size() int {
	switch h {
	case SHA256:
		return sha256.Size
	case SHA384:
		return sha512.Size384
	case SHA512:
		return sha512.Size
	}
	return 0
}

const (
	innerPad = 0x36
	outerPad = 0x5c
)

// SetHMAC sets the state to HMAC (RFC 2104, FIPS 198-1) under key, which is not kept. A key longer than the block of the hash is
// hashed first, as the standard says. It fails with [ErrKey] for an empty key and an unknown hash. The hash function is
// allocated when a state is first set to it.
//
// It stands here and not on crypto/hmac because that has no way to wipe a key.
func (s *State) SetHMAC(h Hash, key []byte) error {
	st := s.fresh()
	if h < SHA256 || h > SHA512 {
		return fmt.Errorf("%w: hash %d is none", ErrKey, uint8(h))
	}
	if len(key) == 0 {
		return fmt.Errorf("%w: an HMAC key is empty", ErrKey)
	}
	if st.hashes[h-1] == nil {
		st.hashes[h-1] = digests[h-1]()
	}
	st.hash = st.hashes[h-1]
	st.algorithm, st.size, st.least = hmac, st.hash.Size(), st.hash.Size()/2
	block := st.mask[:st.hash.BlockSize()]
	if len(key) > len(block) {
		st.hash.Reset()
		st.write(key)
		st.hash.Sum(block[:0])
		st.flush()
	} else {
		copy(block, key)
	}
	for i := range block {
		block[i] ^= innerPad
	}
	return nil
}

func (s *state) hmac(msg []byte) {
	block, last := s.mask[:s.hash.BlockSize()], s.last[:s.hash.BlockSize()]
	inner := s.sum[:s.size]
	s.hash.Reset()
	s.hash.Write(block)
	s.write(msg)
	s.hash.Sum(inner[:0])
	for i := range last {
		last[i] = block[i] ^ innerPad ^ outerPad
	}
	s.hash.Reset()
	s.hash.Write(last)
	s.hash.Write(inner)
	s.hash.Sum(inner[:0])
	s.flush()
}

// write hashes b by way of the scratch: the call through the interface would move b itself to the heap.
func (s *state) write(b []byte) {
	for len(b) > 0 {
		n := copy(s.last[:], b)
		s.hash.Write(s.last[:n])
		b = b[n:]
	}
}

// flush overwrites what the hash function holds of a message or key: two writes of zeros that fill its buffer, of which
// the first stays in it, and then its start.
func (s *state) flush() {
	if s.hash == nil {
		return
	}
	s.hash.Reset()
	clear(s.last[:])
	s.hash.Write(s.last[:s.hash.BlockSize()-1])
	s.hash.Write(s.last[:1])
	s.hash.Reset()
}
