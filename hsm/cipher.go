package hsm

import (
	"crypto/aes"

	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// block is a cipher under a key in the token, block by block, for code that knows ciphers of the standard library. These have
// no errors: whoever uses one asks err afterwards, before believing what came out. It is for one operation.
type block struct {
	device  cryptoki
	session session
	key     object
	code    uint
	size    int
	err     error // the first one; what comes afterwards is zeros
}

func newBlock(c *connection, l *lease, key object, tdes bool) *block {
	b := &block{device: c.device, session: l.session, key: key, code: mechAESECB, size: aes.BlockSize}
	if tdes {
		b.code, b.size = mechDES3ECB, des.BlockSize
	}
	return b
}

// BlockSize returns 8 or 16.
func (b *block) BlockSize() int { return b.size }

// Encrypt encrypts one block.
func (b *block) Encrypt(dst, src []byte) { b.crypt(dst, src, b.device.encrypt) }

// Decrypt decrypts one block.
func (b *block) Decrypt(dst, src []byte) { b.crypt(dst, src, b.device.decrypt) }

// Wipe does nothing: the key is in the token.
func (b *block) Wipe() {}

func (b *block) crypt(dst, src []byte, call func(session, mechanism, object, []byte) ([]byte, error)) {
	var out []byte
	if b.err == nil {
		out, b.err = call(b.session, mechanism{code: b.code}, b.key, src[:b.size])
	}
	b.err = whole(out, b.size, b.err)
	if b.err != nil {
		clear(dst[:b.size])
		return
	}
	copy(dst[:b.size], out)
	secret.Wipe(out)
}
