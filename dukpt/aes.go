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

// aesDerive computes the key of type w and the given usage from key, 16, 24 or 32 bytes: as many blocks as the new key
// needs, each the AES encryption of derivation data that names its number (X9.24-3:2017, 6.3.1 and 6.3.2). It writes
// len(dst) bytes, which is the size of w. dst may overlap key.
func aesDerive(dst, key []byte, usage aesUsage, w WorkingKey, id KeyID, counter uint32) {
	var block [16]byte
	var out [maxKey]byte
	block[0] = 0x01 // version
	binary.BigEndian.PutUint16(block[2:], uint16(usage))
	binary.BigEndian.PutUint16(block[4:], workingKeys[w].algorithm)
	binary.BigEndian.PutUint16(block[6:], workingKeys[w].bits)
	if usage == usageInitialKey {
		copy(block[8:], id.b[:8])
	} else {
		copy(block[8:], id.b[4:8])
		binary.BigEndian.PutUint32(block[12:], counter)
	}
	c := newAES(key)
	for i := 0; 16*i < len(dst); i++ {
		block[1] = byte(i + 1)
		c.Encrypt(out[16*i:], block[:])
	}
	secret.WipeCipher(c)
	copy(dst, out[:])
	secret.Wipe(out[:])
}

// aesStep computes the derivation key of counter from that of its parent, both of the type w.
func aesStep(dst, key []byte, w WorkingKey, id KeyID, counter uint32) {
	aesDerive(dst, key, usageDerivation, w, id, counter)
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
