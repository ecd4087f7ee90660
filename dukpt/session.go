package dukpt

import (
	"crypto/cipher"
	"crypto/subtle"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/mac"
	"github.com/latchkey-pos/latchkey/internal/padding"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// session is what both roles do with the key of one transaction. Its cell holds that key and beside it one working key at
// a time, which is wiped before the method that made it returns, and so is what macs holds of it.
type session struct {
	ksn    KSN
	family family
	live   bool
	cell   secret.Bytes
	macs   mac.State
	tdes   *des.Cipher // for one working key after the other; wiped in between
}

// maxKey is the longest key, sessionSize the transaction key, one working key, and the room to derive it in.
const (
	maxKey      = 32
	sessionSize = 2*maxKey + aesScratch
)

func (s *session) bind(f family, ksn KSN) {
	s.ksn, s.family, s.live = ksn, f, true
}

func (s *session) end() {
	secret.Wipe(s.cell.Expose())
	s.live = false
}

// free panics when the transaction cannot be bound to a key. Both are faults of the program.
func (s *session) free(method string) {
	if s.cell.IsZero() {
		panic("dukpt: " + method + " with a transaction that was not made by its New function")
	}
	if s.live {
		panic("dukpt: " + method + " with a transaction before End")
	}
}

// check panics when the transaction is not live: using a key after its end is a fault of the program.
func (s *session) check() {
	if !s.live {
		panic("dukpt: use of a transaction after End or before Next")
	}
}

// key is the key of the transaction.
func (s *session) key() []byte { return s.cell.Expose()[:s.family.size] }

// workingKey is the place of a working key of n bytes.
func (s *session) workingKey(n int) []byte { return s.cell.Expose()[maxKey : maxKey+n] }

// variant computes a TDES key: the transaction key with a mask.
func (s *session) variant(mask tdesMask) *tdesKey {
	k := (*tdesKey)(s.workingKey(16))
	*k = *(*tdesKey)(s.key())
	tdesXOR(k, &mask)
	return k
}

// derive computes an AES DUKPT working key.
func (s *session) derive(usage aesUsage, w WorkingKey) ([]byte, error) {
	if !w.valid() {
		return nil, fmt.Errorf("%w: %v", ErrUnsupported, w)
	}
	if err := checkStrength(w, s.family.key); err != nil {
		return nil, fmt.Errorf("%w: %v under %v", err, w, s.family.key)
	}
	if w.isTDES() {
		if err := checkDES(); err != nil {
			return nil, err
		}
	}
	k := s.workingKey(int(workingKeys[w].bits / 8))
	aesDerive(k, s.key(), s.scratch(), usage, w, &s.ksn.id, s.ksn.counter)
	return k, nil
}

// scratch is the room to derive a key in.
func (s *session) scratch() []byte { return s.cell.Expose()[2*maxKey:] }

func (s *session) wipeWorkingKey() { secret.Wipe(s.workingKey(maxKey)) }

// usesDES reports whether keys of type w, zero under TDES, are for TDES.
func (s *session) usesDES(w WorkingKey) bool { return s.family.scheme == TDES || w.isTDES() }

// pinKey computes the PIN encryption key of a validated specification.
func (s *session) pinKey(spec PINSpec) ([]byte, error) {
	if err := s.family.check(); err != nil {
		return nil, err
	}
	if s.family.scheme == TDES {
		return s.variant(maskPIN)[:], nil
	}
	return s.derive(usagePIN, spec.key(AES))
}

// dataKey computes the data key of a validated specification.
func (s *session) dataKey(spec DataSpec) ([]byte, error) {
	if s.family.scheme == AES {
		return s.derive(dataUsage(spec.Direction), spec.Key)
	}
	if err := s.family.check(); err != nil {
		return nil, err
	}
	mask := maskDataRequest
	if spec.Direction == Response {
		mask = maskDataResponse
	}
	switch spec.Profile {
	case DataOneWay:
		k := s.variant(mask)
		tdesOneWay(k)
		return k[:], nil
	case DataMask:
		return s.variant(mask)[:], nil
	case DataPINVariant:
		return s.variant(maskPIN)[:], nil
	case DataBareKey:
		return s.variant(tdesMask{})[:], nil
	}
	return nil, fmt.Errorf("%w: data profile %v", ErrUnsupported, spec.Profile)
}

func dataUsage(d Direction) aesUsage {
	switch d {
	case Request:
		return usageDataEncrypt
	case Response:
		return usageDataDecrypt
	}
	return usageDataBoth
}

// macKey computes the MAC key of a direction.
func (s *session) macKey(d Direction, w WorkingKey) ([]byte, error) {
	if err := s.family.check(); err != nil {
		return nil, err
	}
	if s.family.scheme == TDES {
		if d == Response {
			return s.variant(maskMACResponse)[:], nil
		}
		return s.variant(maskMACRequest)[:], nil
	}
	return s.derive(macUsage(d), w)
}

func macUsage(d Direction) aesUsage {
	switch d {
	case Request:
		return usageMACGenerate
	case Response:
		return usageMACVerify
	}
	return usageMACBoth
}

// mac appends the MAC of msg, cut to the length of the specification.
func (s *session) mac(dst []byte, spec MACSpec, implied Direction, msg []byte) ([]byte, error) {
	s.check()
	d, err := spec.direction(s.family.scheme, implied)
	if err != nil {
		return dst, err
	}
	secret.Do(func() {
		defer s.wipeMAC()
		if err = s.setMAC(spec, d); err == nil {
			dst, err = s.macs.Append(dst, msg, spec.Length)
		}
	})
	return dst, err
}

// verify compares a MAC in constant time. It fails with ErrVerify for a MAC of another length too.
func (s *session) verify(spec MACSpec, implied Direction, msg, given []byte) error {
	s.check()
	d, err := spec.direction(s.family.scheme, implied)
	if err != nil {
		return err
	}
	secret.Do(func() {
		defer s.wipeMAC()
		if err = s.setMAC(spec, d); err == nil && s.macs.Verify(msg, given, spec.Length) != nil {
			err = ErrVerify // the length is valid, and nothing else can be wrong
		}
	})
	return err
}

// setMAC gives the MAC state the key and algorithm of a validated specification.
func (s *session) setMAC(spec MACSpec, d Direction) error {
	k, err := s.macKey(d, spec.Key)
	if err != nil {
		return err
	}
	switch spec.Algorithm {
	case MACRetail:
		return s.macs.SetRetail(k, spec.Padding.method())
	case MACCBC:
		return s.macs.SetCBC(s.setDES(k), spec.Padding.method())
	case MACCMAC:
		if s.usesDES(spec.Key) {
			return s.macs.SetCMAC(s.setDES(k))
		}
		return s.macs.SetCMAC(newAES(k))
	}
	return s.macs.SetHMAC(spec.Algorithm.hash(), k)
}

func (s *session) wipeMAC() {
	s.macs.Wipe()
	s.wipeWorkingKey()
}

// direction returns the direction of the key for a method whose own is implied, if the specification is valid.
func (s MACSpec) direction(scheme Scheme, implied Direction) (Direction, error) {
	if err := s.Validate(scheme); err != nil {
		return 0, err
	}
	return s.resolve(implied)
}

// crypt encrypts or decrypts in and appends the result to dst.
func (s *session) crypt(dst []byte, spec DataSpec, implied Direction, in []byte, encrypt bool) ([]byte, error) {
	s.check()
	if err := spec.Validate(s.family.scheme); err != nil {
		return dst, err
	}
	if err := spec.checkDirection(implied); err != nil {
		return dst, err
	}
	size := aesBlock
	if s.usesDES(spec.Key) {
		size = tdesBlock
	}
	out, err := spec.lay(dst, in, size, encrypt)
	if err != nil {
		return dst, err
	}
	blocks := out[len(dst):]
	secret.Do(func() { err = s.cryptBlocks(blocks, spec, encrypt) })
	if err == nil && !encrypt {
		blocks, err = spec.unpad(blocks, size)
	}
	if err != nil {
		secret.Wipe(out[len(dst):])
		return dst, err
	}
	return out[:len(dst)+len(blocks)], nil
}

// lay appends the whole blocks that are to be encrypted or decrypted, those to be encrypted with their padding.
func (s DataSpec) lay(dst, in []byte, size int, encrypt bool) ([]byte, error) {
	how := s.Padding.method()
	if !encrypt {
		how = padding.None // a ciphertext comes in whole blocks
	}
	out, err := how.Pad(dst, in, size)
	if err != nil {
		return dst, fmt.Errorf("%w: %d bytes of data are no multiple of %d", ErrLength, len(in), size)
	}
	return out, nil
}

// unpad returns decrypted blocks without their padding. What is wrong with it stays here.
func (s DataSpec) unpad(blocks []byte, size int) ([]byte, error) {
	plain, err := s.Padding.method().Unpad(blocks, size)
	if err != nil {
		return nil, ErrVerify
	}
	return plain, nil
}

// cryptBlocks encrypts or decrypts whole blocks in place under the data key of a validated specification.
func (s *session) cryptBlocks(data []byte, spec DataSpec, encrypt bool) error {
	defer s.wipeWorkingKey()
	k, err := s.dataKey(spec)
	if err != nil {
		return err
	}
	if !s.usesDES(spec.Key) {
		c := newAES(k)
		defer secret.WipeCipher(c)
		spec.crypt(data, c, encrypt)
		return nil
	}
	c := s.setDES(k)
	defer c.Wipe()
	switch {
	case spec.Mode == CBC && encrypt:
		c.EncryptCBC(spec.iv(tdesBlock), data)
	case spec.Mode == CBC:
		c.DecryptCBC(spec.iv(tdesBlock), data)
	case encrypt:
		c.EncryptECB(data)
	default:
		c.DecryptECB(data)
	}
	return nil
}

// setDES returns the cipher of the session under another key. It fails as newDES does.
func (s *session) setDES(key []byte) *des.Cipher {
	if s.tdes == nil {
		s.tdes = newDES(key)
	} else if err := s.tdes.Reset(key); err != nil {
		panic("dukpt: " + err.Error())
	}
	return s.tdes
}

// zeroIV stands in for an IV that is not given. Nothing writes to it.
var zeroIV [aesBlock]byte

// iv is the initialization vector, zeros where none is given.
func (s DataSpec) iv(size int) []byte {
	if s.IV == nil {
		return zeroIV[:size]
	}
	return s.IV
}

// crypt works on whole blocks in place. CBC stands here and not on package cipher because that allocates for each message.
func (s DataSpec) crypt(out []byte, c cipher.Block, encrypt bool) {
	size := c.BlockSize()
	iv := s.iv(size)
	switch {
	case s.Mode == CBC && encrypt:
		for ; len(out) > 0; out = out[size:] {
			subtle.XORBytes(out[:size], out[:size], iv)
			c.Encrypt(out[:size], out[:size])
			iv = out[:size]
		}
	case s.Mode == CBC:
		// From the end, so that the ciphertext block before is still there to be added.
		for at := len(out) - size; at > 0; at -= size {
			c.Decrypt(out[at:at+size], out[at:at+size])
			subtle.XORBytes(out[at:at+size], out[at:at+size], out[at-size:at])
		}
		c.Decrypt(out[:size], out[:size])
		subtle.XORBytes(out[:size], out[:size], iv)
	case encrypt:
		for ; len(out) > 0; out = out[size:] {
			c.Encrypt(out[:size], out[:size])
		}
	default:
		for ; len(out) > 0; out = out[size:] {
			c.Decrypt(out[:size], out[:size])
		}
	}
}
