package engine

import (
	"fmt"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/pin"
)

// FixedOps works under one key of fixed value: a key of the inventory, or one that came in a key block. What the key may do is what its
// attributes say: usage and mode of use, and of a key that came the authenticated header of its block. Everything else is
// [ErrUsage]. It is not safe for concurrent use. After End every operation returns [ErrEnded]. Output is appended to dst, which
// must not overlap the input.
//
// Nothing here counts: whoever may call may call again, with whatever he likes. It is for the caller to limit that.
type FixedOps interface {
	// Info says which key it is: of a key that came in a block its attributes and check value, with the reference and the identifier
	// of the key that the block is under, and no fingerprint.
	Info() KeyInfo

	// TranslatePIN opens a PIN block under this key (usage P0, and a mode that decrypts) and seals the PIN again, as HostOps does,
	// with the same errors.
	TranslatePIN(dst []byte, in PINIn, out PINOut) ([]byte, error)

	// Decrypt decrypts whole blocks (usage D0). Nothing tells a wrong key from the right one. Errors wrap ErrUsage, dukpt.ErrLength
	// for data or an IV of a wrong length, and dukpt.ErrUnsupported for a mode that is none.
	Decrypt(dst []byte, s CipherSpec, ct []byte) ([]byte, error)

	// Encrypt encrypts whole blocks (usage D0). It fails as Decrypt does.
	Encrypt(dst []byte, s CipherSpec, plain []byte) ([]byte, error)

	// MAC appends the MAC of a message (usages M1, M3, M6, M7, and a mode that generates). Errors wrap ErrUsage, also for an algorithm
	// of another usage, and dukpt.ErrLength.
	MAC(dst []byte, s FixedMAC, msg []byte) ([]byte, error)

	// VerifyMAC checks a MAC, whose length is that of s. Any failure of content is dukpt.ErrVerify.
	VerifyMAC(s FixedMAC, msg, mac []byte) error

	// End wipes what was made for these operations. It may be called more than once.
	End()
}

// PINIn is a PIN block as it comes.
type PINIn struct {
	Format pin.Format
	PAN    pin.PAN
	Block  []byte
}

// CipherSpec says how data is encrypted under a key of fixed value. There is no padding: data comes in whole blocks.
type CipherSpec struct {
	Mode dukpt.CipherMode
	IV   []byte // one block, or nil for zeros; nil for ECB. Not kept.
}

// FixedMAC says how a message is MACed under a key of fixed value. Algorithms 1 and 3 of ISO 9797-1 take whole blocks: a padding that
// nobody named is a padding that two ends disagree about.
type FixedMAC struct {
	Algorithm dukpt.MACAlgorithm
	Length    int // bytes kept from the left: 4 to a block of the cipher, or half to all of an HMAC
}

// MACUsage returns the usage of the keys that a MAC algorithm takes; "" for none.
func MACUsage(a dukpt.MACAlgorithm) keys.Usage {
	switch a {
	case dukpt.MACCBC:
		return keys.UsageMACCBC
	case dukpt.MACRetail:
		return keys.UsageMACRetail
	case dukpt.MACCMAC:
		return keys.UsageMACCMAC
	case dukpt.MACHMACSHA256, dukpt.MACHMACSHA384, dukpt.MACHMACSHA512:
		return keys.UsageHMAC
	}
	return ""
}

// Permits refuses a key of another usage, or whose mode of use is none of the modes. Mode N stands for all.
func Permits(a keys.Attributes, usage keys.Usage, modes ...keys.Mode) error {
	if a.Usage != usage || usage == "" {
		return fmt.Errorf("%w: the key has usage %s, want %s", ErrUsage, a.Usage, usage)
	}
	for _, m := range modes {
		if a.Mode == m || a.Mode == keys.ModeNone {
			return nil
		}
	}
	return fmt.Errorf("%w: the key has mode of use %s", ErrUsage, a.Mode)
}

// Check refuses a specification that does not go with a cipher of this block size, and data that is not whole blocks of it.
func (s CipherSpec) Check(block, length int) error {
	switch {
	case s.Mode != dukpt.CBC && s.Mode != dukpt.ECB:
		return fmt.Errorf("%w: %v", dukpt.ErrUnsupported, s.Mode)
	case s.Mode == dukpt.ECB && s.IV != nil, s.IV != nil && len(s.IV) != block:
		return fmt.Errorf("%w: an IV of %d bytes", dukpt.ErrLength, len(s.IV))
	case length == 0 || length%block != 0:
		return fmt.Errorf("%w: %d bytes of data are no multiple of %d", dukpt.ErrLength, length, block)
	}
	return nil
}
