package dukpt

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/pin"
)

// HostTransaction is the host's role in one transaction: it verifies requests and opens their data, moves PINs under another
// key, and MACs and encrypts responses. It never gives a PIN out.
//
// [BaseKey.Begin] makes it, [HostTransaction.End] wipes its keys; using it afterwards panics, but for [BaseKey.Bind]. It is not safe for concurrent
// use. It keeps no record of the KSNs it has seen: refusing a replay is the caller's.
type HostTransaction struct{ s session }

// PINBlock is an encrypted PIN block as a terminal sent it.
type PINBlock struct {
	Format pin.Format // 0, 1 or 3 under TDES, 4 with either PAN field under AES
	Key    WorkingKey // as in PINSpec: zero for TDES, and for an AES-128 key
	PAN    pin.PAN    // the PAN the block was made with; not looked at in format 1
	Block  []byte     // 8 or 16 bytes; not kept
}

func (b PINBlock) spec() PINSpec { return PINSpec{Format: b.Format, Key: b.Key} }

// PINTarget says where a PIN goes.
type PINTarget struct {
	Format pin.Format // 0, 1 or 3 under a TDES key, 4 with either PAN field under an AES key
	PAN    pin.PAN    // must equal the PAN of the incoming block, unless that is of format 1
	Key    keys.Key   // the zone PIN key, usage P0, mode E, B or N; not wiped. The zero key where Cipher is given
	// Cipher encrypts under a zone PIN key that is in a device, for a caller that has looked at what that key may do. Nil: Key.
	Cipher cipher.Block
	Fill   pin.Fill // of a block of format 1, 3 or 4; unused for format 0
}

// NewHostTransaction returns a transaction bound to nothing, for [BaseKey.Bind]. The memory for its keys is allocated here.
func NewHostTransaction() *HostTransaction {
	return &HostTransaction{s: session{cell: secret.New(sessionSize)}}
}

// KSN returns the key serial number of the transaction.
func (tx *HostTransaction) KSN() KSN {
	tx.s.check()
	return tx.s.ksn
}

// TranslatePIN opens the block of a terminal and appends the PIN, encrypted for the next zone, to dst. The clear PIN lives
// inside this call only.
//
// It fails with [pin.ErrTranslation] when PCI PIN requirement 3-3 forbids the change of format or the PANs differ, with
// [ErrUnsupported] when a format does not go with its key or the key is no PIN key, with [ErrStrength], with [ErrLength] for
// a block of the wrong size, and with [ErrVerify] for every fault of the block itself.
func (tx *HostTransaction) TranslatePIN(dst []byte, in PINBlock, out PINTarget) ([]byte, error) {
	tx.s.check()
	if err := pin.CheckTranslation(in.Format, out.Format, !in.PAN.Equal(out.PAN)); err != nil {
		return dst, err
	}
	if err := in.spec().Validate(tx.s.family.scheme); err != nil {
		return dst, err
	}
	if err := out.check(); err != nil {
		return dst, err
	}
	if len(in.Block) != in.Format.BlockSize() {
		return dst, fmt.Errorf("%w: a block of %v has %d bytes, not %d", ErrLength, in.Format, in.Format.BlockSize(), len(in.Block))
	}
	var block []byte
	var err error
	secret.Do(func() { block, err = tx.s.translate(dst, in, out) })
	return block, err
}

// translate moves a PIN from a block of the right format and length to a checked target.
func (s *session) translate(dst []byte, in PINBlock, out PINTarget) ([]byte, error) {
	o, err := s.decryptPIN(in)
	if err != nil {
		return dst, err
	}
	defer o.Wipe()
	return out.encrypt(dst, o)
}

// DecryptData appends ct, decrypted under the request key and without its padding, to dst, which must not overlap ct. It fails
// with [ErrLength] when ct is no multiple of the block or empty, with [ErrVerify] when the padding is wrong, with
// [ErrUnsupported] when the scheme does not have what s asks for, and with [ErrStrength]. Nothing tells a wrong key from the
// right one: verify a MAC first.
func (tx *HostTransaction) DecryptData(dst []byte, s DataSpec, ct []byte) ([]byte, error) {
	return tx.s.crypt(dst, s, Request, ct, false)
}

// VerifyMAC checks the MAC of a request in constant time. It fails with [ErrVerify], and with [ErrUnsupported], [ErrLength]
// or [ErrStrength] when s asks for what the scheme does not have.
func (tx *HostTransaction) VerifyMAC(s MACSpec, msg, mac []byte) error {
	return tx.s.verify(s, Request, msg, mac)
}

// MACResponse appends the MAC of a response to dst. It fails for the specification as [HostTransaction.VerifyMAC] does.
func (tx *HostTransaction) MACResponse(dst []byte, s MACSpec, msg []byte) ([]byte, error) {
	return tx.s.mac(dst, s, Response, msg)
}

// EncryptResponse appends plain, padded as s says and encrypted under the response key, to dst, which must not overlap plain.
// It fails as [Transaction.EncryptData] does.
func (tx *HostTransaction) EncryptResponse(dst []byte, s DataSpec, plain []byte) ([]byte, error) {
	return tx.s.crypt(dst, s, Response, plain, true)
}

// End wipes the keys. It is idempotent.
func (tx *HostTransaction) End() { tx.s.end() }

// decryptPIN opens a block of the right format and length. The caller wipes the PIN.
func (s *session) decryptPIN(in PINBlock) (pin.Opened, error) {
	defer s.wipeWorkingKey()
	k, err := s.pinKey(in.spec())
	if err != nil {
		return pin.Opened{}, err
	}
	var o pin.Opened
	if !s.usesDES(in.Key) {
		c := newAES(k)
		defer secret.WipeCipher(c)
		err = in.Format.Decrypt(&o, c, in.Block, in.PAN)
	} else {
		o, err = decryptTDES(s.setDES(k), in)
	}
	if err != nil {
		return pin.Opened{}, ErrVerify
	}
	return o, nil
}

func decryptTDES(c *des.Cipher, in PINBlock) (o pin.Opened, err error) {
	var block [8]byte
	defer secret.Wipe(block[:])
	defer c.Wipe()
	c.Decrypt(block[:], in.Block)
	err = in.Format.Decode(&o, block[:], in.PAN)
	return o, err
}

// check refuses a key that is not for PINs, or not for the format.
func (t PINTarget) check() error {
	if t.Cipher != nil {
		return t.checkCipher()
	}
	if t.Key.IsZero() {
		return fmt.Errorf("%w: no outgoing PIN key given", ErrUnsupported)
	}
	a := t.Key.Attributes()
	if a.Usage != keys.UsagePIN {
		return fmt.Errorf("%w: an outgoing PIN key has usage %v, not %v", ErrUnsupported, keys.UsagePIN, a.Usage)
	}
	if a.Mode != keys.ModeEncrypt && a.Mode != keys.ModeBoth && a.Mode != keys.ModeNone {
		return fmt.Errorf("%w: an outgoing PIN key of mode %v does not encrypt", ErrUnsupported, a.Mode)
	}
	switch {
	case a.Algorithm.IsTDES():
		if err := checkDES(); err != nil {
			return err
		}
		return checkPINFormat(t.Format, TDES)
	case a.Algorithm.IsAES():
		return checkPINFormat(t.Format, AES)
	}
	return fmt.Errorf("%w: an outgoing PIN key of %v", ErrUnsupported, a.Algorithm)
}

// checkCipher refuses a cipher beside a key, and one that is not for the format.
func (t PINTarget) checkCipher() error {
	if !t.Key.IsZero() {
		return fmt.Errorf("%w: an outgoing PIN key and a cipher", ErrUnsupported)
	}
	if t.Cipher.BlockSize() == tdesBlock {
		return checkPINFormat(t.Format, TDES)
	}
	return checkPINFormat(t.Format, AES)
}

// encrypt makes the outgoing block. The target is checked.
func (t PINTarget) encrypt(dst []byte, o pin.Opened) ([]byte, error) {
	if t.Cipher != nil {
		return o.Encrypt(dst, pin.Side{Format: t.Format, PAN: t.PAN, Cipher: t.Cipher}, t.Fill)
	}
	k := t.Key.Material().Expose()
	to := pin.Side{Format: t.Format, PAN: t.PAN}
	if t.Format.BlockSize() == aes.BlockSize {
		to.Cipher = newAES(k)
		defer secret.WipeCipher(to.Cipher)
		return o.Encrypt(dst, to, t.Fill)
	}
	c := newDES(k)
	defer c.Wipe()
	to.Cipher = c
	return o.Encrypt(dst, to, t.Fill)
}
