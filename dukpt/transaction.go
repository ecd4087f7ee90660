package dukpt

import (
	"crypto/subtle"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/pin"
)

// Transaction is the terminal's role in one transaction: it encrypts PINs and data and MACs requests, verifies and decrypts
// responses, and has no way back from an encrypted PIN.
//
// [Terminal.Next] binds it to a key, [Transaction.End] wipes that key, and both may be repeated with the same Transaction.
// Using it outside of Next and End panics. It is not safe for concurrent use.
type Transaction struct {
	_ noCopy
	s session
}

// NewTransaction returns a transaction bound to nothing. The memory for its keys is allocated here.
func NewTransaction() *Transaction {
	return &Transaction{s: session{cell: secret.New(sessionSize)}}
}

// KSN returns the key serial number that goes with everything this transaction makes.
func (tx *Transaction) KSN() KSN {
	tx.s.check()
	return tx.s.ksn
}

// EncryptPIN appends the encrypted PIN block to dst. The format is 0, 1 or 3 under TDES, and 4 with either PAN field under AES,
// where the PIN key is an AES-128 key; it fails with [ErrUnsupported] for another. Fill is random. Format 1 does not look at
// pan. The caller wipes p.
func (tx *Transaction) EncryptPIN(dst []byte, f pin.Format, p pin.PIN, pan pin.PAN) ([]byte, error) {
	return tx.EncryptPINUnder(dst, PINSpec{Format: f}, p, pan)
}

// EncryptPINUnder appends the encrypted PIN block to dst, with the PIN key of s. The fill of format 4 is random. It fails with
// [ErrUnsupported] when the scheme does not have what s asks for, and with [ErrStrength]. The caller wipes p.
func (tx *Transaction) EncryptPINUnder(dst []byte, s PINSpec, p pin.PIN, pan pin.PAN) ([]byte, error) {
	tx.s.check()
	if err := s.Validate(tx.s.family.scheme); err != nil {
		return dst, err
	}
	return tx.s.encryptPIN(dst, s, p, pan, pin.GenerateFill())
}

// EncryptData appends plain, padded as s says and encrypted under the request key, to dst, which must not overlap plain. It
// fails with [ErrLength] when plain is empty or no multiple of the block and s does not pad that, with [ErrUnsupported] when
// the scheme does not have what s asks for, and with [ErrStrength].
func (tx *Transaction) EncryptData(dst []byte, s DataSpec, plain []byte) ([]byte, error) {
	return tx.s.crypt(dst, s, Request, plain, true)
}

// MAC appends the MAC of a request to dst. It fails with [ErrUnsupported], [ErrLength] or [ErrStrength] when s asks for what
// the scheme does not have.
func (tx *Transaction) MAC(dst []byte, s MACSpec, msg []byte) ([]byte, error) {
	return tx.s.mac(dst, s, Request, msg)
}

// VerifyResponse checks the MAC of a response in constant time. It fails with [ErrVerify], and for the specification as
// [Transaction.MAC] does.
func (tx *Transaction) VerifyResponse(s MACSpec, msg, mac []byte) error {
	return tx.s.verify(s, Response, msg, mac)
}

// DecryptResponse appends ct, decrypted under the response key and without its padding, to dst, which must not overlap ct.
// Verify the MAC of the response first. It fails with [ErrLength] when ct is no multiple of the block or empty, with
// [ErrVerify] when the padding is wrong, with [ErrUnsupported] and with [ErrStrength].
func (tx *Transaction) DecryptResponse(dst []byte, s DataSpec, ct []byte) ([]byte, error) {
	return tx.s.crypt(dst, s, Response, ct, false)
}

// End wipes the key. It is idempotent.
func (tx *Transaction) End() { tx.s.end() }

// encryptPIN makes a block of a validated specification.
func (s *session) encryptPIN(dst []byte, spec PINSpec, p pin.PIN, pan pin.PAN, fill pin.Fill) (out []byte, err error) {
	secret.Do(func() {
		defer s.wipeWorkingKey()
		var k []byte
		if k, err = s.pinKey(spec); err != nil {
			out = dst
			return
		}
		if !s.usesDES(spec.Key) {
			c := newAES(k)
			defer secret.WipeCipher(c)
			out, err = spec.Format.Encrypt(dst, c, p, pan, fill)
			return
		}
		c := s.setDES(k)
		defer c.Wipe()
		out, err = encryptTDES(dst, c, spec.Format, p, pan, fill)
	})
	return out, err
}

// encryptTDES builds the clear block on its own stack and encrypts it there.
func encryptTDES(dst []byte, c *des.Cipher, f pin.Format, p pin.PIN, pan pin.PAN, fill pin.Fill) ([]byte, error) {
	var block [8]byte
	defer secret.Wipe(block[:])
	if _, err := f.Append(block[:0], p, pan, fill); err != nil {
		return dst, err
	}
	c.Encrypt(block[:], block[:])
	return append(dst, block[:]...), nil
}

// checkPINFormat refuses every format that does not go with the cipher, and format 2, which only a chip card reads.
func checkPINFormat(f pin.Format, s Scheme) error {
	switch f {
	case pin.Format0, pin.Format1, pin.Format3:
		if s == TDES {
			return nil
		}
	case pin.Format4, pin.Format4PAN12:
		if s == AES {
			return nil
		}
	}
	return fmt.Errorf("%w: a PIN block of %v under %v", ErrUnsupported, f, s)
}

func equal(a, b []byte) bool { return secret.Public(subtle.ConstantTimeCompare(a, b)) == 1 }

// noCopy makes go vet complain about copies.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}
