package pin

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

const format4Size = 16

// EncryptFormat4 is [Format.Encrypt] of format 4 with all digits of the PAN.
func EncryptFormat4(dst []byte, aes cipher.Block, p PIN, pan PAN, fill Fill) ([]byte, error) {
	return Format4.Encrypt(dst, aes, p, pan, fill)
}

// DecryptFormat4 is [Format.Decrypt] of format 4 with all digits of the PAN, into memory of its own.
func DecryptFormat4(aes cipher.Block, block []byte, pan PAN) (Opened, error) {
	var o Opened
	if err := Format4.Decrypt(&o, aes, block, pan); err != nil {
		return Opened{}, err
	}
	return o, nil
}

// encrypt4 enciphers the PIN field with its random half, adds the PAN field, and enciphers the sum again (ISO 9564-1:2017,
// 9.4.2).
func (f Format) encrypt4(dst []byte, c cipher.Block, m *[pinSize]byte, pan PAN, fill Fill) []byte {
	l := layouts[f]
	out := binary.BigEndian.AppendUint64(dst, l.pinField(m, l.word(fill)))
	out = append(out, fill[:]...)
	block := (*[format4Size]byte)(out[len(dst):])
	enciphered := false
	defer wipeUnless(&enciphered, block[:])
	c.Encrypt(block[:], block[:])
	xorPANField4(block, f.panDigits(pan))
	c.Encrypt(block[:], block[:])
	enciphered = true
	return out
}

// open4 reads a block of which the outer encipherment is undone.
func (f Format) open4(m *openedMemory, c cipher.Block, block []byte, pan PAN) error {
	field := (*[format4Size]byte)(block)
	xorPANField4(field, f.panDigits(pan))
	c.Decrypt(field[:], field[:])
	word := binary.BigEndian.Uint64(field[:])
	err := layouts[f].parse(m.pin(), word)
	if err != nil && planted.On(planted.GuardFormat4PAN) {
		unchecked(m.pin(), word)
		err = nil
	}
	if err == nil {
		m.remember(f, pan)
	}
	return err
}

// XORPANField adds the PAN field of format 4, with either PAN field, to a block of which the outer encipherment is undone, or not
// yet done: for devices that undo and do the inner one themselves. The block has 16 bytes and is changed in place. It fails for
// another format, length, and without a PAN.
func (f Format) XORPANField(block []byte, pan PAN) error {
	if f.BlockSize() != format4Size || len(block) != format4Size || pan.IsZero() {
		return fmt.Errorf("pin: no PAN field of %v for a block of %d bytes", f, len(block))
	}
	xorPANField4((*[format4Size]byte)(block), f.panDigits(pan))
	return nil
}

// panDigits returns the ASCII digits that go into the PAN field. They are pan's own.
func (f Format) panDigits(pan PAN) []byte {
	if f == Format4PAN12 {
		return pan.canonical()
	}
	return pan.digits.Expose()
}

// xorPANField4 adds the PAN field: the number of digits beyond twelve, the digits, and zeros (ISO 9564-1:2017, 9.4.2.3). Fewer
// than twelve digits get zeros before them.
func xorPANField4(block *[format4Size]byte, digits []byte) {
	pad := max(0, canonicalPAN-len(digits))
	block[0] ^= byte(max(0, len(digits)-canonicalPAN)) << 4
	for i, d := range digits {
		at := 1 + pad + i
		block[at/2] ^= (d - '0') << (4 * (1 - at%2))
	}
}

// unchecked makes a PIN out of noise, as a decoder would that does not check the PIN field. Only planted faults call it.
func unchecked(m *[pinSize]byte, field uint64) {
	m[0] = minPIN
	for i := range minPIN {
		m[pinDigits+i] = nibble(field, i) % 10
	}
}
