package pin

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/secret"
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
	if err := f.check(p, pan); err != nil {
		return dst, err
	}
	return binary.BigEndian.AppendUint64(dst, f.clearBlock(p, pan, fill)), nil
}

// Decode reads the PIN out of a clear block of format 0, 1, 2 or 3 into p, and allocates nothing when p has its memory. A
// block of format 0 or 3 that was made for another PAN is refused when its digits or its fill come out wrong, as they do
// unless the PANs differ only where the PIN's digits hide it.
//
// It fails with [ErrBlock] for every fault of the block, and with [ErrFormat] or [ErrPAN] when there is no such block or no
// PAN; p holds no PIN then. The caller wipes block and p.
func (f Format) Decode(p *PIN, block []byte, pan PAN) error {
	m := p.ready()
	if f.BlockSize() != fieldSize {
		return fmt.Errorf("%w: %v has no clear block", ErrFormat, f)
	}
	if f.HasPAN() && pan.IsZero() {
		return errNoPAN
	}
	if len(block) != fieldSize {
		return ErrBlock
	}
	return f.open(m, binary.BigEndian.Uint64(block), pan)
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
	if f.BlockSize() == format4Size {
		return f.encrypt4(dst, c, p, pan, fill)
	}
	out, err := f.Append(dst, p, pan, fill)
	if err != nil {
		return dst, err
	}
	block := out[len(dst):]
	c.Encrypt(block, block)
	return out, nil
}

// Decrypt reads the PIN out of a block that [Format.Encrypt] made into p, and allocates nothing when p has its memory. With
// another key the PIN field comes out as noise, and so it does in format 4 with another PAN; of formats 0 and 3 see
// [Format.Decode]. The check is statistical: of a million noisy blocks about 1600 of format 1 and 5 of format 3 read as a PIN;
// of the other formats it is 6 of a hundred million.
//
// It fails with [ErrBlock] for every fault of the block, and with [ErrFormat] or [ErrPAN] when there is no such block or no
// PAN; p holds no PIN then. block is left as it is. The caller wipes p.
func (f Format) Decrypt(p *PIN, c cipher.Block, block []byte, pan PAN) error {
	m := p.ready()
	if err := f.checkCipher(c); err != nil {
		return err
	}
	if f.HasPAN() && pan.IsZero() {
		return errNoPAN
	}
	if len(block) != f.BlockSize() {
		return ErrBlock
	}
	if f.BlockSize() == format4Size {
		return f.decrypt4(m, c, block, pan)
	}
	scratch := m[pinScratch : pinScratch+fieldSize]
	defer secret.Wipe(scratch)
	c.Decrypt(scratch, block)
	return f.open(m, binary.BigEndian.Uint64(scratch), pan)
}

// clearBlock makes a clear block of eight bytes.
func (f Format) clearBlock(p PIN, pan PAN, fill Fill) uint64 {
	l := layouts[f]
	field := l.pinField(p.bytes(), l.word(fill))
	if l.hasPAN {
		field ^= pan.panField()
	}
	return field
}

// open reads a clear block of eight bytes into the memory of a PIN.
func (f Format) open(m *[pinSize]byte, field uint64, pan PAN) error {
	l := layouts[f]
	if l.hasPAN {
		field ^= pan.panField()
	}
	return l.parse(m, field)
}

// check refuses to make a block without its PIN or its PAN.
func (f Format) check(p PIN, pan PAN) error {
	if p.IsZero() {
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
