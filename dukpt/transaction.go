package dukpt

import (
	"crypto/rand"
	"crypto/subtle"
	"fmt"

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

// EncryptPIN appends the encrypted PIN block to dst. The format is 0 under TDES and 4 under AES, where the PIN key is an
// AES-128 key and the fill is random; it fails with [ErrUnsupported] for another. The caller wipes p.
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
	var fill [8]byte
	_, _ = rand.Read(fill[:]) // cannot fail
	return tx.s.encryptPIN(dst, s, p, pan, fill)
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

// encryptPIN makes the block of a validated specification: format 0 or, with the fill, format 4.
func (s *session) encryptPIN(dst []byte, spec PINSpec, p pin.PIN, pan pin.PAN, fill [8]byte) (out []byte, err error) {
	secret.Do(func() {
		defer s.wipeWorkingKey()
		var k []byte
		if k, err = s.pinKey(spec); err != nil {
			out = dst
			return
		}
		if !s.usesDES(spec.Key) {
			out, err = pin.EncryptFormat4(dst, newAES(k), p, pan, fill)
			return
		}
		out, err = encryptFormat0(dst, k, p, pan)
	})
	return out, err
}

// encryptFormat0 builds the clear block on its own stack and encrypts it there.
func encryptFormat0(dst, key []byte, p pin.PIN, pan pin.PAN) ([]byte, error) {
	var block [8]byte
	defer secret.Wipe(block[:])
	if _, err := pin.AppendFormat0(block[:0], p, pan); err != nil {
		return dst, err
	}
	c := newDES(key)
	defer c.Wipe()
	c.Encrypt(block[:], block[:])
	return append(dst, block[:]...), nil
}

// checkPINFormat refuses every format but the one that goes with the cipher.
func checkPINFormat(f pin.Format, s Scheme) error {
	if s == TDES && f == pin.Format0 || s == AES && f == pin.Format4 {
		return nil
	}
	return fmt.Errorf("%w: a PIN block of %v under %v", ErrUnsupported, f, s)
}

func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// noCopy makes go vet complain about copies.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}
