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
func aesDerive(dst, key, scratch []byte, usage aesUsage, w WorkingKey, id *KeyID, counter uint32) {
	derivationData(scratch[:16], usage, w, id, counter)
	aesStep(dst, key, scratch)
}

// aesDescend goes down the tree of id from counter from to counter to: aesDerive for each node on the way, whose derivation
// data differ in the counter alone.
func aesDescend(key, scratch []byte, w WorkingKey, id *KeyID, from, to uint32) {
	derivationData(scratch[:16], usageDerivation, w, id, from)
	for from != to {
		from = below(from, to)
		binary.BigEndian.PutUint32(scratch[12:], from)
		aesStep(key, key, scratch)
	}
}

// aesStep is aesDerive with derivation data that stand in scratch already, and stay there.
func aesStep(dst, key, scratch []byte) {
	c := newAES(key)
	c.Encrypt(dst, scratch[:16])
	if len(dst) > 16 {
		aesSecond(dst[16:], c, scratch)
	}
	secret.WipeCipher(c)
}

// aesExpand fills dst with the encryptions of the derivation data in scratch, as many blocks as it takes.
func aesExpand(dst []byte, c cipher.Block, scratch []byte) {
	c.Encrypt(dst, scratch[:16])
	if len(dst) > 16 {
		aesSecond(dst[16:], c, scratch)
	}
}

// aesSecond fills dst, half a block or a whole one, with the encryption of the derivation data in scratch as number 2.
func aesSecond(dst []byte, c cipher.Block, scratch []byte) {
	data, out := scratch[:16], scratch[16:aesScratch]
	data[1] = 2
	c.Encrypt(out, data)
	copy(dst, out)
	secret.Wipe(out)
	data[1] = 1
}

// derivationData fills the first block of derivation data, the one that names its number 1 (X9.24-3:2017, 6.3.2).
func derivationData(data []byte, usage aesUsage, w WorkingKey, id *KeyID, counter uint32) {
	_ = data[15]
	t := &workingKeys[w]
	binary.BigEndian.PutUint64(data, 0x0101<<48|uint64(usage)<<32|uint64(t.algorithm)<<16|uint64(t.bits)) // version 1, block 1
	ids := binary.BigEndian.Uint64(id.b[:])
	if usage != usageInitialKey {
		ids = ids<<32 | uint64(counter) // of the initial key id, the half that is the terminal's
	}
	binary.BigEndian.PutUint64(data[8:], ids)
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
		panic(err)
	}
	return c
}
