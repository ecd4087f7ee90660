package pin

import (
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// The memory of an opened PIN: that of a PIN, where it came from (the format, the number of digits of the PAN, the PAN), and
// room to decipher a block in.
const (
	openedFormat  = pinSize
	openedPAN     = openedFormat + 1
	openedScratch = openedPAN + 1 + maxPAN
	openedSize    = openedScratch + format4Size
)

// Opened is the PIN of a block that was opened: the host's.
//
// It remembers the format and the PAN of that block, and its only use is [Opened.Encrypt], which puts it into another block
// where PCI PIN requirement 3-3 permits that. No method gives it in the clear or makes a [PIN] of it. It is filled by
// [Format.Decrypt] or [Format.Decode], as often as wanted. Copies share one memory, with what is remembered; [Opened.Wipe]
// empties them all. It is not safe for concurrent use. The zero value holds no PIN.
type Opened struct {
	memory secret.Bytes // openedSize bytes, or none
}

// NewOpened returns an Opened without digits but with the memory for them: reading a block into it allocates nothing.
func NewOpened() Opened { return Opened{memory: secret.New(openedSize)} }

// Decode reads the PIN out of a clear block of format 0, 1, 2 or 3 into o, and allocates nothing when o has its memory. A
// block of format 0 or 3 that was made for another PAN is refused when its digits or its fill come out wrong, as they do
// unless the PANs differ only where the PIN's digits hide it.
//
// It fails with [ErrBlock] for every fault of the block, and with [ErrFormat] or [ErrPAN] when there is no such block or no
// PAN; o holds no PIN then. The caller wipes block and o.
func (f Format) Decode(o *Opened, block []byte, pan PAN) error {
	m := o.ready()
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

// Decrypt reads the PIN out of a block that [Format.Encrypt] made into o, and allocates nothing when o has its memory. With
// another key the PIN field comes out as noise, and so it does in format 4 with another PAN; of formats 0 and 3 see
// [Format.Decode]. The check is statistical: of a million noisy blocks about 1600 of format 1 and 5 of format 3 read as a PIN;
// of the other formats it is 6 of a hundred million.
//
// It fails with [ErrBlock] for every fault of the block, and with [ErrFormat] or [ErrPAN] when there is no such block or no
// PAN; o holds no PIN then. block is left as it is. The caller wipes o.
func (f Format) Decrypt(o *Opened, c cipher.Block, block []byte, pan PAN) error {
	m := o.ready()
	if err := f.checkCipher(c); err != nil {
		return err
	}
	if f.HasPAN() && pan.IsZero() {
		return errNoPAN
	}
	if len(block) != f.BlockSize() {
		return ErrBlock
	}
	scratch := m[openedScratch:][:f.BlockSize()]
	defer secret.Wipe(scratch)
	c.Decrypt(scratch, block)
	if f.BlockSize() == format4Size {
		return f.open4(m, c, scratch, pan)
	}
	return f.open(m, binary.BigEndian.Uint64(scratch), pan)
}

// Encrypt appends the block of o for another zone to dst, enciphered as [Format.Encrypt] does. [Side.Cipher] is taken at its
// word: the PIN is as safe as the key in it.
//
// It fails with [ErrTranslation] when [CheckTranslation] forbids the change of format or of the PAN, with [ErrFormat] when the
// cipher does not go with the format, with [ErrPIN] when o holds no PIN, and with [ErrPAN] when a PAN is missing; it returns dst
// as it was then. It allocates nothing when dst has the room.
func (o Opened) Encrypt(dst []byte, to Side, fill Fill) ([]byte, error) {
	if o.IsZero() {
		return dst, errNoPIN
	}
	m := o.bytes()
	if err := CheckTranslation(Format(m[openedFormat]), to.Format, !m.hasPAN(to.PAN)); err != nil {
		return dst, err
	}
	if err := to.Format.checkCipher(to.Cipher); err != nil {
		return dst, err
	}
	if err := to.Format.check(false, to.PAN); err != nil {
		return dst, err
	}
	return to.Format.encrypt(dst, to.Cipher, m.pin(), to.PAN, fill), nil
}

// IsZero reports whether o holds no PIN: the zero value, cleared, wiped, or a block that did not open.
func (o Opened) IsZero() bool {
	m := o.bytes()
	return m == nil || secret.Public(m[0]) == 0
}

// Clear zeroes the PIN and what is remembered of its block for every copy of o, and keeps the memory for the next one.
func (o Opened) Clear() { secret.Wipe(o.memory.Expose()) }

// Wipe zeroes the PIN and what is remembered of its block for every copy of o, and lets go of the memory.
func (o Opened) Wipe() { o.memory.Wipe() }

// Format implements [fmt.Formatter] and never shows a digit.
func (o Opened) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "[PIN]") }

// MarshalText refuses: a PIN leaves this package in a block only.
func (o Opened) MarshalText() ([]byte, error) { return nil, errors.New("pin: a PIN is not marshalled") }

// openedMemory is the memory of an Opened.
type openedMemory [openedSize]byte

// bytes returns the memory of o, or nil when it has none.
func (o Opened) bytes() *openedMemory {
	m := o.memory.Expose()
	if len(m) != openedSize {
		return nil
	}
	return (*openedMemory)(m)
}

// ready returns the memory of o with nothing in it, allocated if there is none.
func (o *Opened) ready() *openedMemory {
	if o.bytes() == nil {
		*o = NewOpened()
	}
	o.Clear()
	return o.bytes()
}

// pin is the part that the memory of a PIN has too.
func (m *openedMemory) pin() *[pinSize]byte { return (*[pinSize]byte)(m[:pinSize]) }

// remember notes which block the PIN came out of. One of format 1 or 2 names no PAN.
func (m *openedMemory) remember(f Format, pan PAN) {
	m[openedFormat] = byte(f)
	if f.HasPAN() {
		m[openedPAN] = byte(copy(m[openedPAN+1:][:maxPAN], pan.digits.Expose()))
	}
}

// hasPAN reports whether the PIN came out of a block of this PAN, in constant time.
func (m *openedMemory) hasPAN(pan PAN) bool {
	own := m[openedPAN+1:][:m[openedPAN]]
	return secret.Public(subtle.ConstantTimeCompare(own, pan.digits.Expose())) == 1
}

// open reads a clear block of eight bytes.
func (f Format) open(m *openedMemory, field uint64, pan PAN) error {
	l := layouts[f]
	if l.hasPAN {
		field ^= pan.panField()
	}
	if err := l.parse(m.pin(), field); err != nil {
		return err
	}
	m.remember(f, pan)
	return nil
}
