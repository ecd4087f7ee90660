// Package des is the DES and TDES block cipher of ANSI X3.92 and NIST SP 800-67, as DUKPT and retail MACs need it: keys of
// one, two or three parts, and a wipe.
//
// It stands on crypto/des, whose table look-ups depend on the key: an attacker who measures the cache of the same machine
// may learn from them. The package is the one place to put a constant-time engine.
package des

import (
	"crypto/cipher"
	"crypto/des"
	"crypto/fips140"
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// BlockSize is the length of a block in bytes.
const BlockSize = des.BlockSize

// Cipher is DES under an 8-byte key, TDES under a 16-byte key (2TDEA: the first part is used again) or a 24-byte one
// (3TDEA). It implements cipher.Block and is safe for concurrent use until it is wiped.
//
// The key schedule stands behind two pointers: fmt follows one, under %s even out of an unexported field.
type Cipher struct{ block **cipher.Block }

var errForbidden = errors.New("des: Go's FIPS mode is enforced (GODEBUG=fips140=only) and forbids DES and TDES")

// Available returns nil where New works, and otherwise an error that says why it does not: Go's FIPS mode is enforced.
func Available() error {
	if fips140.Enforced() {
		return errForbidden
	}
	return nil
}

// New returns the cipher under key. The key is not kept; parity bits are ignored. Keys of other lengths, and TDES where
// Go's FIPS mode is enforced, are an error.
func New(key []byte) (*Cipher, error) {
	var block cipher.Block
	var err error
	switch len(key) {
	case 8:
		block, err = des.NewCipher(key)
	case 16:
		var long [24]byte
		copy(long[:], key)
		copy(long[16:], key[:8])
		block, err = des.NewTripleDESCipher(long[:])
		secret.Wipe(long[:])
	case 24:
		block, err = des.NewTripleDESCipher(key)
	default:
		return nil, fmt.Errorf("des: key of %d bytes: want 8, 16 or 24", len(key))
	}
	if err != nil {
		return nil, fmt.Errorf("des: %w", err)
	}
	inner := &block
	return &Cipher{block: &inner}, nil
}

// BlockSize returns 8.
func (c *Cipher) BlockSize() int { return BlockSize }

// Encrypt encrypts one block of src into dst; they may be the same. A wiped cipher panics.
func (c *Cipher) Encrypt(dst, src []byte) { (**c.block).Encrypt(dst, src) }

// Decrypt decrypts one block of src into dst; they may be the same. A wiped cipher panics.
func (c *Cipher) Decrypt(dst, src []byte) { (**c.block).Decrypt(dst, src) }
