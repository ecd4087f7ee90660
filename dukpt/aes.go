package dukpt

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// aesUsage is the key usage in the derivation data, always as the terminal sees it (X9.24-3:2017, 6.3.2).
type aesUsage uint16

const (
	usageKeyEncryption aesUsage = 0x0002
	usagePIN           aesUsage = 0x1000
	usageMACGenerate   aesUsage = 0x2000
	usageMACVerify     aesUsage = 0x2001
	usageMACBoth       aesUsage = 0x2002
	usageDataEncrypt   aesUsage = 0x3000
	usageDataDecrypt   aesUsage = 0x3001
	usageDataBoth      aesUsage = 0x3002
	usageDerivation    aesUsage = 0x8000
	usageInitialKey    aesUsage = 0x8001
)

// aesScratch is the room that a derivation needs: the derivation data, and a block of output. It is the caller's, because what
// is handed to a cipher would be allocated anew each time.
const aesScratch = 2 * 16

// aesDerive computes the key of type w and the given usage from key, 16, 24 or 32 bytes (X9.24-3:2017, 6.3.1 and 6.3.2). It
// writes len(dst) bytes, which is the size of w. dst may overlap key. It allocates one cipher.
func aesDerive(dst, key, scratch []byte, usage aesUsage, w WorkingKey, id KeyID, counter uint32) {
	c := newAES(key)
	aesDeriveUnder(dst, c, scratch, usage, w, id, counter)
	secret.WipeCipher(c)
}

// aesDeriveUnder is aesDerive under a cipher: as many blocks as the new key needs, each the encryption of derivation data
// that names its number.
func aesDeriveUnder(dst []byte, c cipher.Block, scratch []byte, usage aesUsage, w WorkingKey, id KeyID, counter uint32) {
	data, out := scratch[:16], scratch[16:aesScratch]
	derivationData(data, usage, w, id, counter)
	for ; len(dst) >= 16; data[1]++ {
		c.Encrypt(dst, data)
		dst = dst[16:]
	}
	if len(dst) > 0 { // 192 bits
		c.Encrypt(out, data)
		copy(dst, out)
		secret.Wipe(out)
	}
}

// derivationData fills the first block of derivation data, the one that names its number 1 (X9.24-3:2017, 6.3.2).
func derivationData(data []byte, usage aesUsage, w WorkingKey, id KeyID, counter uint32) {
	binary.BigEndian.PutUint32(data, 0x0101_0000|uint32(usage)) // version 1, block 1
	binary.BigEndian.PutUint16(data[4:], workingKeys[w].algorithm)
	binary.BigEndian.PutUint16(data[6:], workingKeys[w].bits)
	if usage == usageInitialKey {
		copy(data[8:], id.b[:8])
	} else {
		copy(data[8:], id.b[4:8])
		binary.BigEndian.PutUint32(data[12:], counter)
	}
}

// checkStrength refuses a working key that is stronger than the derivation key it comes from (X9.24-3:2017, 6.1.3).
func checkStrength(w, parent WorkingKey) error {
	if workingKeys[w].strength > workingKeys[parent].strength {
		return ErrStrength
	}
	return nil
}

// newAES returns a cipher that the caller wipes by secret.WipeCipher. It panics only when called with a key of another length than 16, 24 or 32.
func newAES(key []byte) cipher.Block {
	c, err := aes.NewCipher(key)
	if err != nil {
		panic("dukpt: " + err.Error())
	}
	return c
}
