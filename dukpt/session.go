package dukpt

import (
	"crypto/cipher"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/mac"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// session is what both roles do with the key of one transaction. Its cell holds that key and beside it one working key at
// a time, which is wiped before the method that made it returns.
type session struct {
	ksn    KSN
	family family
	live   bool
	cell   secret.Bytes
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
	k := s.workingKey(int(workingKeys[w].bits / 8))
	aesDerive(k, s.key(), s.scratch(), usage, w, s.ksn.KeyID(), s.ksn.Counter())
	return k, nil
}

// scratch is the room to derive a key in.
func (s *session) scratch() []byte { return s.cell.Expose()[2*maxKey:] }

func (s *session) wipeWorkingKey() { secret.Wipe(s.workingKey(maxKey)) }

// pinKey computes the PIN encryption key. Under AES it is an AES-128 key, whatever the initial key is.
func (s *session) pinKey() ([]byte, error) {
	if s.family.scheme == TDES {
		return s.variant(maskPIN)[:], nil
	}
	return s.derive(usagePIN, KeyAES128)
}

// dataKey computes the data key of a validated specification.
func (s *session) dataKey(spec DataSpec) ([]byte, error) {
	if s.family.scheme == AES {
		return s.derive(dataUsage(spec.Direction), spec.Key)
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
	if s.family.scheme == TDES {
		if d == Response {
			return s.variant(maskMACResponse)[:], nil
		}
		return s.variant(maskMACRequest)[:], nil
	}
	switch d {
	case Request:
		return s.derive(usageMACGenerate, w)
	case Response:
		return s.derive(usageMACVerify, w)
	}
	return s.derive(usageMACBoth, w)
}

// mac computes the MAC of msg, cut to the length of the specification.
func (s *session) mac(dst []byte, spec MACSpec, implied Direction, msg []byte) ([]byte, error) {
	s.check()
	if err := spec.Validate(s.family.scheme); err != nil {
		return dst, err
	}
	d, err := spec.resolve(implied)
	if err != nil {
		return dst, err
	}
	var sum []byte
	secret.Do(func() { sum, err = s.fullMAC(spec, d, msg) })
	if err != nil {
		return dst, err
	}
	return append(dst, sum[:spec.Length]...), nil
}

// fullMAC computes the MAC of a validated specification at its full length.
func (s *session) fullMAC(spec MACSpec, d Direction, msg []byte) ([]byte, error) {
	defer s.wipeWorkingKey()
	k, err := s.macKey(d, spec.Key)
	if err != nil {
		return nil, err
	}
	switch spec.Algorithm {
	case MACRetail:
		return mac.Retail(nil, k, msg, spec.Padding.method())
	case MACCMAC:
		c := newAES(k)
		defer secret.WipeCipher(c)
		return mac.CMAC(nil, c, msg), nil
	}
	return nil, fmt.Errorf("%w: %v", ErrUnsupported, spec.Algorithm)
}

// verify compares a MAC in constant time. It fails with ErrVerify for a MAC of another length too.
func (s *session) verify(spec MACSpec, implied Direction, msg, given []byte) error {
	var want [16]byte
	defer secret.Wipe(want[:])
	sum, err := s.mac(want[:0], spec, implied, msg)
	if err != nil {
		return err
	}
	if !equal(sum, given) {
		return ErrVerify
	}
	return nil
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
	if size := s.family.scheme.blockSize(); len(in) == 0 || len(in)%size != 0 {
		return dst, fmt.Errorf("%w: %d bytes of data are no multiple of %d", ErrLength, len(in), size)
	}
	n := len(dst)
	out := append(dst, in...)
	var err error
	secret.Do(func() { err = s.cryptBlocks(out[n:], spec, encrypt) })
	if err != nil {
		secret.Wipe(out[n:])
		return dst, err
	}
	return out, nil
}

// cryptBlocks encrypts or decrypts whole blocks in place under the data key of a validated specification.
func (s *session) cryptBlocks(data []byte, spec DataSpec, encrypt bool) error {
	defer s.wipeWorkingKey()
	k, err := s.dataKey(spec)
	if err != nil {
		return err
	}
	if s.family.scheme == AES {
		c := newAES(k)
		defer secret.WipeCipher(c)
		spec.crypt(data, c, encrypt)
		return nil
	}
	c := newDES(k)
	defer c.Wipe()
	spec.crypt(data, c, encrypt)
	return nil
}

// crypt works on whole blocks in place.
func (s DataSpec) crypt(out []byte, c cipher.Block, encrypt bool) {
	size := c.BlockSize()
	switch {
	case s.Mode == CBC && encrypt:
		mode := cipher.NewCBCEncrypter(c, s.iv(size))
		mode.CryptBlocks(out, out)
		secret.WipeCipher(mode)
	case s.Mode == CBC:
		mode := cipher.NewCBCDecrypter(c, s.iv(size))
		mode.CryptBlocks(out, out)
		secret.WipeCipher(mode)
	default:
		for ; len(out) > 0; out = out[size:] {
			if encrypt {
				c.Encrypt(out[:size], out[:size])
			} else {
				c.Decrypt(out[:size], out[:size])
			}
		}
	}
}

func (s DataSpec) iv(size int) []byte {
	if s.IV == nil {
		return make([]byte, size)
	}
	return s.IV
}
