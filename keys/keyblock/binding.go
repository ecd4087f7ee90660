package keyblock

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"

	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/mac"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// working are the ciphers under the two keys that belong to a protection key in one version. They are wiped after one block.
type working struct {
	version   byte
	form      form
	enc, auth cipher.Block
}

// wipe zeroes the key schedules.
func (w working) wipe() {
	for _, c := range []cipher.Block{w.enc, w.auth} {
		if tdes, ok := c.(*des.Cipher); ok {
			tdes.Wipe()
		} else {
			secret.WipeCipher(c)
		}
	}
}

// encrypt encrypts content in place in CBC.
func (w working) encrypt(iv, content []byte) {
	if c, ok := w.enc.(*des.Cipher); ok {
		c.EncryptCBC(iv, content)
		return
	}
	mode := cipher.NewCBCEncrypter(w.enc, iv)
	mode.CryptBlocks(content, content)
	secret.WipeCipher(mode) // it has a copy of the schedule
}

// decrypt decrypts content in place in CBC.
func (w working) decrypt(iv, content []byte) {
	if c, ok := w.enc.(*des.Cipher); ok {
		c.DecryptCBC(iv, content)
		return
	}
	mode := cipher.NewCBCDecrypter(w.enc, iv)
	mode.CryptBlocks(content, content)
	secret.WipeCipher(mode)
}

// isVariant reports whether a version is of the key variant binding method: it encrypts, then MACs what it encrypted.
func isVariant(version byte) bool { return version == 'A' || version == 'C' }

// newCipher returns the cipher under key that versions of this kind use.
func newCipher(tdes bool, key []byte) (cipher.Block, error) {
	if !tdes {
		return aes.NewCipher(key)
	}
	c, err := des.New(key)
	if err != nil {
		return nil, err // a nil *des.Cipher in the interface would not be nil
	}
	return c, nil
}

// What makes the encryption and the authentication key: the bytes that every byte of the protection key is changed by in
// the key variant binding method, and the purpose in the derivation data of the key derivation binding method (7.2).
const (
	variantEnc, variantAuth = 'E', 'M'
	purposeEnc, purposeAuth = 0, 1
)

// working returns the ciphers for a version.
func (p *Protector) working(version byte) (working, error) {
	w := working{version: version, form: forms[version]}
	var err error
	if w.enc, err = p.cipher(version, variantEnc, purposeEnc); err != nil {
		return working{}, err
	}
	if w.auth, err = p.cipher(version, variantAuth, purposeAuth); err != nil {
		w.wipe()
		return working{}, err
	}
	return w, nil
}

// cipher returns the cipher under one of the two keys.
func (p *Protector) cipher(version, variant, purpose byte) (cipher.Block, error) {
	key := make([]byte, 0, 2*aes.BlockSize)
	defer func() { secret.Wipe(key[:cap(key)]) }()
	if isVariant(version) {
		for _, b := range p.kbpk.Expose() {
			key = append(key, b^variant)
		}
		return newCipher(p.tdes, key)
	}
	root, err := newCipher(p.tdes, p.kbpk.Expose())
	if err != nil {
		return nil, err
	}
	defer working{enc: root}.wipe()
	key = p.derive(key, root, purpose)
	return newCipher(p.tdes, key)
}

// derive appends the key for a purpose to key, which is empty and has room for it (7.2.1.1, table 24, for AES; 7.2.2.1,
// table 25, for TDES): CMAC of a counter, the purpose 0000 or 0001, the algorithm 0000 to 0004 for 2TDEA, 3TDEA and the three
// of AES, and the length in bits, block by block.
func (p *Protector) derive(key []byte, root cipher.Block, purpose byte) []byte {
	size := p.kbpk.Len()
	algorithm := byte(size / 8) // AES: 2, 3, 4
	if p.tdes {
		algorithm = byte(size/8) - 2 // 0, 1
	}
	for counter := byte(1); len(key) < size; counter++ {
		key = mac.CMAC(key, root, []byte{counter, 0, purpose, 0, 0, algorithm, byte(8 * size >> 8), byte(8 * size)})
	}
	return key[:size]
}

// seal encrypts content in place and returns the MAC, for versions B and D: of the header and the clear content, and the MAC is
// the initialization vector (7.2.1, 7.2.2).
func (w working) seal(header string, content []byte) []byte {
	sum := w.sum(header, content)
	w.encrypt(sum, content)
	return sum
}

// open decrypts content in place and reports whether the MAC received is right. Versions A and C have the MAC over the
// encrypted content, and the start of the header as initialization vector.
func (w working) open(header string, content, received []byte) bool {
	if !isVariant(w.version) {
		w.decrypt(received, content)
		return secret.Public(subtle.ConstantTimeCompare(w.sum(header, content), received)) == 1
	}
	if secret.Public(subtle.ConstantTimeCompare(w.sum(header, content), received)) != 1 {
		return false
	}
	w.decrypt([]byte(header[:w.form.block]), content)
	return true
}

// sum is the MAC over the header as it stands and the content: CMAC, or the first bytes of a CBC-MAC for versions A and C.
// Both are whole blocks, so that no padding is added.
func (w working) sum(header string, content []byte) []byte {
	message := make([]byte, 0, len(header)+len(content))
	message = append(append(message, header...), content...)
	defer secret.Wipe(message)
	if !isVariant(w.version) {
		return mac.CMAC(nil, w.auth, message)
	}
	sum, err := mac.CBC(nil, w.auth, message, mac.Padding1)
	if err != nil {
		return nil // matches no MAC; the one error is an unknown padding
	}
	return sum[:w.form.mac]
}
