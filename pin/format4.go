package pin

import (
	"crypto/cipher"
	"crypto/subtle"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

const (
	control4    = 0x4
	fill4       = 0xA
	format4Size = 16
)

// EncryptFormat4 appends the encrypted format 4 block of p and pan, sixteen bytes, to dst. The PIN field is enciphered,
// the PAN field is added, and the sum is enciphered again (ISO 9564-1:2017, 9.4.2). The key of aes must be a PIN key.
//
// The eight bytes of fill must be drawn at random for each block; a host that has to repeat an answer byte for byte derives
// them from a secret instead. All digits of pan go into the PAN field; the short form that some networks use is the
// same block made with a PAN of those twelve digits.
func EncryptFormat4(dst []byte, aes cipher.Block, p PIN, pan PAN, fill [8]byte) ([]byte, error) {
	if p.IsZero() {
		return dst, errNoPIN
	}
	if pan.IsZero() {
		return dst, errNoPAN
	}
	if err := checkAES(aes); err != nil {
		return dst, err
	}
	var block, panField [format4Size]byte
	defer secret.Wipe(block[:])
	defer secret.Wipe(panField[:])
	putPINField4(&block, p, fill)
	putPANField4(&panField, pan.digits.Expose())
	aes.Encrypt(block[:], block[:])
	subtle.XORBytes(block[:], block[:], panField[:])
	aes.Encrypt(block[:], block[:])
	return append(dst, block[:]...), nil
}

// DecryptFormat4 reads the PIN out of an encrypted format 4 block. With another PAN or another key the PIN field comes out
// as noise and is refused. It fails with [ErrBlock] for every fault of the block. The caller wipes the PIN.
func DecryptFormat4(aes cipher.Block, block []byte, pan PAN) (PIN, error) {
	if pan.IsZero() {
		return PIN{}, errNoPAN
	}
	if err := checkAES(aes); err != nil {
		return PIN{}, err
	}
	if len(block) != format4Size {
		return PIN{}, ErrBlock
	}
	var clear, panField [format4Size]byte
	defer secret.Wipe(clear[:])
	defer secret.Wipe(panField[:])
	putPANField4(&panField, pan.digits.Expose())
	aes.Decrypt(clear[:], block)
	subtle.XORBytes(clear[:], clear[:], panField[:])
	aes.Decrypt(clear[:], clear[:])
	field := (*[fieldSize]byte)(clear[:])
	p, err := parseField(field, control4, fill4)
	if err != nil && planted.On(planted.GuardFormat4PAN) {
		return unchecked(field), nil
	}
	return p, err
}

// putPINField4 writes the PIN field with its random half.
func putPINField4(block *[format4Size]byte, p PIN, fill [8]byte) {
	putField((*[fieldSize]byte)(block[:]), p, control4, fill4)
	copy(block[fieldSize:], fill[:])
}

// putPANField4 writes the number of digits beyond twelve, the digits, and zeros (ISO 9564-1:2017, 9.4.2.3). Fewer than
// twelve digits get zeros before them.
func putPANField4(field *[format4Size]byte, digits []byte) {
	pad := max(0, canonicalPAN-len(digits))
	*field = [format4Size]byte{}
	field[0] = byte(max(0, len(digits)-canonicalPAN)) << 4
	for i, d := range digits {
		at := 1 + pad + i
		field[at/2] |= (d - '0') << (4 * (1 - at%2))
	}
}

func checkAES(aes cipher.Block) error {
	if aes == nil || aes.BlockSize() != format4Size {
		return fmt.Errorf("%w: format 4 needs a cipher with blocks of %d bytes", ErrFormat, format4Size)
	}
	return nil
}

// unchecked makes a PIN out of noise, as a decoder would that does not check the PIN field. Only planted faults call it.
func unchecked(field *[fieldSize]byte) PIN {
	s := secret.New(minPIN)
	for i := range s.Expose() {
		s.Expose()[i] = field[1+i] % 10
	}
	return PIN{digits: s}
}
