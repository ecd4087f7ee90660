package pin

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
)

// Append appends the clear block of p, eight bytes, to dst. In formats 0 and 3 it is the PIN field XOR the PAN field, in
// formats 1 and 2, for which pan is not looked at, the PIN field alone (ISO 9564-1:2017, 9.3.2 to 9.3.5). Format 4 has no
// clear block. The block is as secret as the PIN: the caller enciphers it in place or wipes it.
//
// It fails with [ErrFormat], [ErrPIN] or [ErrPAN], and returns dst as it was. It allocates nothing when dst has the room.
func (f Format) Append(dst []byte, p PIN, pan PAN, fill Fill) ([]byte, error) {
	if f.BlockSize() != fieldSize {
		return dst, fmt.Errorf("%w: %v has no clear block", ErrFormat, f)
	}
	if err := f.check(p.IsZero(), pan); err != nil {
		return dst, err
	}
	return f.appendClear(dst, p.bytes(), pan, fill), nil
}

// Encrypt appends the block of p, enciphered by c, to dst: 8 bytes of formats 0, 1 and 3 by a TDES cipher, 16 bytes of
// format 4 by an AES cipher. The key of c must be a PIN key. Format 2 never goes under one.
//
// It fails with [ErrFormat], [ErrPIN] or [ErrPAN], and returns dst as it was. It allocates nothing when dst has the room;
// the clear block stands there until it is enciphered.
func (f Format) Encrypt(dst []byte, c cipher.Block, p PIN, pan PAN, fill Fill) ([]byte, error) {
	if err := f.checkCipher(c); err != nil {
		return dst, err
	}
	if err := f.check(p.IsZero(), pan); err != nil {
		return dst, err
	}
	return f.encrypt(dst, c, p.bytes(), pan, fill), nil
}

// appendClear appends a clear block of eight bytes.
func (f Format) appendClear(dst []byte, m *[pinSize]byte, pan PAN, fill Fill) []byte {
	l := layouts[f]
	field := l.pinField(m, l.word(fill))
	if l.hasPAN {
		field ^= pan.panField()
	}
	return binary.BigEndian.AppendUint64(dst, field)
}

// encrypt appends an enciphered block. What it needs is checked.
func (f Format) encrypt(dst []byte, c cipher.Block, m *[pinSize]byte, pan PAN, fill Fill) []byte {
	if f.BlockSize() == format4Size {
		return f.encrypt4(dst, c, m, pan, fill)
	}
	out := f.appendClear(dst, m, pan, fill)
	block := out[len(dst):]
	c.Encrypt(block, block)
	return out
}

// check refuses to make a block without its PIN or its PAN.
func (f Format) check(noPIN bool, pan PAN) error {
	if noPIN {
		return errNoPIN
	}
	if f.HasPAN() && pan.IsZero() {
		return errNoPAN
	}
	return nil
}

// checkCipher refuses a cipher with blocks of another size, which is of another algorithm, and formats that have none.
func (f Format) checkCipher(c cipher.Block) error {
	if !f.IsValid() || f == Format2 {
		return fmt.Errorf("%w: %v is not enciphered under a PIN key", ErrFormat, f)
	}
	if c == nil || c.BlockSize() != f.BlockSize() {
		return fmt.Errorf("%w: %v needs a cipher with blocks of %d bytes", ErrFormat, f, f.BlockSize())
	}
	return nil
}
