package pin

import (
	"errors"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

const (
	control0 = 0x0
	fill0    = 0xF
)

var (
	errNoPIN = errors.New("pin: no PIN given")
	errNoPAN = errors.New("pin: no PAN given")
)

// AppendFormat0 appends the clear format 0 block of p and pan, eight bytes, to dst: the PIN field XOR the PAN field
// (ISO 9564-1:2017, 9.3.2). The block is as secret as the PIN: the caller encrypts it in place or wipes it.
func AppendFormat0(dst []byte, p PIN, pan PAN) ([]byte, error) {
	if p.IsZero() {
		return dst, errNoPIN
	}
	if pan.IsZero() {
		return dst, errNoPAN
	}
	var field, panField [fieldSize]byte
	defer secret.Wipe(field[:])
	defer secret.Wipe(panField[:])
	putField(&field, p, control0, fill0)
	putPANField0(&panField, pan)
	xor8(&field, &panField)
	return append(dst, field[:]...), nil
}

// DecodeFormat0 reads the PIN out of a clear format 0 block. A block that was made for another PAN is refused when its
// digits or its fill come out wrong, as they do unless the PANs differ only where the PIN's digits hide it. It fails with
// [ErrBlock] for every fault of the block. The caller wipes block and the PIN.
func DecodeFormat0(block []byte, pan PAN) (PIN, error) {
	if pan.IsZero() {
		return PIN{}, errNoPAN
	}
	if len(block) != fieldSize {
		return PIN{}, ErrBlock
	}
	var field, panField [fieldSize]byte
	defer secret.Wipe(field[:])
	defer secret.Wipe(panField[:])
	copy(field[:], block)
	putPANField0(&panField, pan)
	xor8(&field, &panField)
	return parseField(&field, control0, fill0)
}

// putPANField0 writes four zero nibbles and the twelve canonical digits (ISO 9564-1:2017, 9.3.2.3).
func putPANField0(field *[fieldSize]byte, pan PAN) {
	c := pan.Canonical12()
	defer c.Wipe()
	d := c.Expose()
	for i := range canonicalPAN / 2 {
		field[2+i] = (d[2*i]-'0')<<4 | (d[2*i+1] - '0')
	}
}
