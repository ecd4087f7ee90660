package hsm

import (
	"fmt"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/mac"
)

// A retail MAC chains by single DES under the left part of a key, and ends by triple DES under the whole of it: that the last
// block is undone under the middle and ended under the last part is what E(D(E(x))) is. So a token makes one that derives the
// left part, which is the first eight bytes, as a key of its own.

// retail is the cipher of the chain of one retail MAC.
type retail struct {
	single, triple *block
	left           int // blocks
}

// BlockSize returns 8.
func (r *retail) BlockSize() int { return des.BlockSize }

// Encrypt encrypts the next block of the chain.
func (r *retail) Encrypt(dst, src []byte) {
	r.left--
	if r.left > 0 {
		r.single.Encrypt(dst, src)
		return
	}
	r.triple.Encrypt(dst, src)
}

// Decrypt decrypts nothing: there is nothing to decrypt in a MAC.
func (r *retail) Decrypt(dst, _ []byte) { clear(dst[:des.BlockSize]) }

// Wipe does nothing: the keys are in the token.
func (r *retail) Wipe() {}

// retailMAC computes the 8 bytes of a retail MAC with two keys of the token.
func retailMAC(single, triple *block, s dukpt.MACSpec, msg []byte) ([]byte, error) {
	chain := &retail{single, triple, retailBlocks(s.Padding, len(msg))}
	var state mac.State
	defer state.Wipe()
	if err := state.SetCBC(chain, mac.Padding(s.Padding)); err != nil { // package dukpt numbers the paddings alike, and has checked this one
		return nil, err
	}
	full, err := state.Append(nil, msg, des.BlockSize)
	for _, b := range []*block{single, triple} {
		if b.err != nil {
			return nil, b.err
		}
	}
	if err == nil && chain.left != 0 {
		return nil, fmt.Errorf("hsm: a retail MAC has ended %d blocks early", chain.left)
	}
	return full, err
}

// retailBlocks returns how many blocks a padded message has.
func retailBlocks(p dukpt.MACPadding, length int) int {
	switch p {
	case dukpt.MACPadding2:
		return length/des.BlockSize + 1
	case dukpt.MACPadding3:
		return 1 + retailBlocks(dukpt.MACPadding1, length)
	}
	return max(1, (length+des.BlockSize-1)/des.BlockSize)
}

// newSingle is single DES under a key of the token, block by block.
func newSingle(d cryptoki, s session, key object) *block {
	return &block{device: d, session: s, key: key, code: mechDESECB, size: des.BlockSize}
}

// left makes the left part of the TDES child of a key: the first eight bytes of what is derived, for encryption. The length of
// such a key is never in a template.
func (s shape) left(d cryptoki, in session, parent object, step dukpt.Derivation) (object, error) {
	return d.deriveKey(in, mechanism{code: mechAESDerive, data: step.Data}, parent, secretTemplate(typeDES, false, useEncrypt))
}
