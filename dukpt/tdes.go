package dukpt

import (
	"encoding/binary"

	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// tdesKey is a double-length key, halves side by side.
type tdesKey = [16]byte

// tdesMask is XORed to both halves of a key, which gives another key (X9.24-1:2009, table A-1 and A.2).
type tdesMask = [8]byte

var (
	maskInitial      = tdesMask{0xC0, 0xC0, 0xC0, 0xC0, 0, 0, 0, 0}
	maskPIN          = tdesMask{7: 0xFF}
	maskMACRequest   = tdesMask{6: 0xFF}
	maskMACResponse  = tdesMask{4: 0xFF}
	maskDataRequest  = tdesMask{5: 0xFF}
	maskDataResponse = tdesMask{3: 0xFF}
)

// tdesInitial computes the initial key: the first eight bytes of the KSN with a zero counter, encrypted under the base key
// for the left half and under the base key with the mask C0C0C0C0 for the right half (X9.24-1:2009, A.6).
func tdesInitial(dst, base *tdesKey, id KeyID) {
	var out tdesKey
	tdesEncrypt(out[:8], base, id.b[:8])
	k := *base
	tdesXOR(&k, &maskInitial)
	tdesEncrypt(out[8:], &k, id.b[:8])
	*dst = out
	secret.Wipe(k[:])
	secret.Wipe(out[:])
}

// tdesStep computes the key of counter from the key of its parent by the non-reversible key generation process
// (X9.24-1:2009, A.2). The input to it are the last eight bytes of the KSN with this counter. dst may be key.
func tdesStep(dst, key *tdesKey, id KeyID, counter uint32) {
	r := [8]byte(id.b[2:])
	binary.BigEndian.PutUint32(r[4:], binary.BigEndian.Uint32(r[4:])|counter)
	var out tdesKey
	k := *key
	tdesHalf((*[8]byte)(out[8:]), &k, &r)
	tdesXOR(&k, &maskInitial)
	tdesHalf((*[8]byte)(out[:8]), &k, &r)
	*dst = out
	secret.Wipe(k[:])
	secret.Wipe(out[:])
}

// tdesHalf encrypts r XOR the right half under the left half by single DES, and adds the right half again.
func tdesHalf(dst *[8]byte, key *tdesKey, r *[8]byte) {
	for i := range dst {
		dst[i] = r[i] ^ key[8+i]
	}
	c := newDES(key[:8])
	c.Encrypt(dst[:], dst[:])
	c.Wipe()
	for i := range dst {
		dst[i] ^= key[8+i]
	}
}

// tdesOneWay encrypts each half of key under the whole of it: the last step of data keys (X9.24-1:2009, A.4.1).
func tdesOneWay(key *tdesKey) {
	k := *key
	c := newDES(k[:])
	c.Encrypt(key[:8], k[:8])
	c.Encrypt(key[8:], k[8:])
	c.Wipe()
	secret.Wipe(k[:])
}

func tdesXOR(key *tdesKey, mask *tdesMask) {
	for i := range mask {
		key[i] ^= mask[i]
		key[8+i] ^= mask[i]
	}
}

func tdesEncrypt(dst []byte, key *tdesKey, src []byte) {
	c := newDES(key[:])
	c.Encrypt(dst, src)
	c.Wipe()
}

// newDES panics when called with a key of another length than 8, 16 or 24, or where DES is forbidden: familyOf refuses TDES
// there before any key of it exists, and PINTarget.check refuses a TDES target.
func newDES(key []byte) *des.Cipher {
	c, err := des.New(key)
	if err != nil {
		panic("dukpt: " + err.Error())
	}
	return c
}
