package keyring

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/mac"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// fixed is the operations under one key of fixed value.
type fixed struct {
	ring  *Ring
	info  engine.KeyInfo
	came  keys.Key // that came in a key block, and is wiped at the end; none of a key of the ring
	ended bool
}

// Open gives the operations under a key of the ring.
func (s software) Open(ctx context.Context, ref keyset.KeyRef) (engine.FixedOps, error) {
	info, err := s.Describe(ctx, ref)
	if err != nil {
		return nil, err
	}
	if err := hasFixedOps(info.Attributes.Usage); err != nil {
		return nil, err
	}
	return &fixed{ring: s.ring, info: info}, nil
}

// hasFixedOps refuses usages of keys that derive or wrap others.
func hasFixedOps(u keys.Usage) error {
	switch u {
	case keys.UsageData, keys.UsagePIN, keys.UsageMACCBC, keys.UsageMACRetail, keys.UsageMACCMAC, keys.UsageHMAC:
		return nil
	}
	return fmt.Errorf("%w: a key of usage %s encrypts no data and no PIN, and makes no MAC", engine.ErrUsage, u)
}

// Unwrap gives the operations under a key that comes in a block under a key of the ring.
func (s software) Unwrap(ctx context.Context, kek keyset.KeyRef, block string) (engine.FixedOps, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.ring.mu.RLock()
	defer s.ring.mu.RUnlock()
	e, err := s.ring.find(kek)
	if err != nil {
		return nil, err
	}
	came, err := e.unwrap(block)
	if err != nil {
		return nil, err
	}
	info := e.info
	info.Ref, info.Attributes, info.KCV, info.Fingerprint = kek, came.Attributes(), came.KCV(), keys.Fingerprint{}
	return &fixed{ring: s.ring, info: info, came: came}, nil
}

// unwrap reads a key block under this key, which has to be one that protects keys. The ring is locked.
func (e *entry) unwrap(block string) (keys.Key, error) {
	a := e.info.Attributes
	switch a.Usage {
	case keys.UsageKBPK, keys.UsageKEK:
	default:
		return keys.Key{}, fmt.Errorf("%w: %s has usage %s and unwraps no keys", engine.ErrUsage, e.info.Ref, a.Usage)
	}
	if err := engine.Permits(a, a.Usage, keys.ModeDecrypt, keys.ModeBoth); err != nil {
		return keys.Key{}, err
	}
	a.Usage = keys.UsageKBPK // what AWS calls a key encryption key protects key blocks
	kbpk, err := keys.NewKey(a, e.key.Material().Expose())
	if err != nil {
		return keys.Key{}, err
	}
	defer kbpk.Wipe()
	p, err := keyblock.NewProtector(kbpk)
	if err != nil {
		return keys.Key{}, err
	}
	defer p.Wipe()
	content, err := p.Unwrap(block)
	if err != nil {
		return keys.Key{}, dukpt.ErrVerify
	}
	defer content.Wipe()
	key, err := content.Key()
	if err != nil {
		return keys.Key{}, fmt.Errorf("%w: %v", engine.ErrUsage, err)
	}
	err = keyUse(content.Header, key)
	if err == nil {
		err = key.CheckWeak()
	}
	if err != nil {
		key.Wipe()
		return keys.Key{}, fmt.Errorf("%w: %v", engine.ErrUsage, err)
	}
	return key, nil
}

// keyUse refuses keys that came in a block and may not be used here by what its header says. Exportability is about leaving, and
// nothing leaves: every one may be used.
func keyUse(h keyblock.Header, key keys.Key) error {
	switch {
	case h.Version != 'B' && h.Version != 'D':
		return errors.New("the block is of a version whose MAC has 32 bits")
	case h.Context() == keyblock.ContextStorage:
		return errors.New("the block is for storage only")
	}
	return hasFixedOps(key.Attributes().Usage)
}

func (f *fixed) Info() engine.KeyInfo { return f.info }

func (f *fixed) End() {
	f.ended = true
	f.came.Wipe()
}

// use calls do with the key, which stays where it is meanwhile.
func (f *fixed) use(do func(k keys.Key) error) error {
	if f.ended {
		return engine.ErrEnded
	}
	f.ring.mu.RLock()
	defer f.ring.mu.RUnlock()
	if f.ring.closed {
		return errClosed
	}
	if !f.came.IsZero() {
		return do(f.came)
	}
	e, err := f.ring.find(f.info.ID)
	if err != nil {
		return err
	}
	return do(e.key)
}

func (f *fixed) TranslatePIN(dst []byte, in engine.PINIn, out engine.PINOut) (made []byte, err error) {
	made = dst
	err = f.use(func(k keys.Key) error {
		if err := pin.CheckTranslation(in.Format, out.Format, !in.PAN.Equal(out.PAN)); err != nil {
			return err
		}
		if err := engine.Permits(k.Attributes(), keys.UsagePIN, keys.ModeDecrypt, keys.ModeBoth); err != nil {
			return err
		}
		to, err := f.outgoing(out)
		if err != nil {
			return err
		}
		from, err := side(k, in.Format, in.PAN)
		if err != nil {
			return err
		}
		defer secret.WipeCipher(from.Cipher)
		onto, err := side(to, out.Format, out.PAN)
		if err != nil {
			return err
		}
		defer secret.WipeCipher(onto.Cipher)
		if len(in.Block) != in.Format.BlockSize() {
			return fmt.Errorf("%w: a block of %v has %d bytes, not %d", dukpt.ErrLength, in.Format, in.Format.BlockSize(), len(in.Block))
		}
		secret.Do(func() { made, err = pin.Translate(dst, in.Block, from, onto, out.Fill) })
		if errors.Is(err, pin.ErrBlock) {
			return dukpt.ErrVerify
		}
		return err
	})
	if err != nil {
		return dst, err
	}
	return made, nil
}

// outgoing returns the key that a PIN leaves under. The ring is locked.
func (f *fixed) outgoing(out engine.PINOut) (keys.Key, error) {
	var k keys.Key
	var env keyset.Environment
	if out.Under != nil {
		u, ok := out.Under.(*fixed)
		if !ok || u.ring != f.ring || u.ended || u.came.IsZero() {
			return keys.Key{}, fmt.Errorf("%w: an outgoing key that did not come to this keyring", engine.ErrUsage)
		}
		k, env = u.came, u.info.Labels.Environment
	} else {
		e, err := f.ring.find(out.Key)
		if err != nil {
			return keys.Key{}, err
		}
		k, env = e.key, e.info.Labels.Environment
	}
	if err := engine.Permits(k.Attributes(), keys.UsagePIN, keys.ModeEncrypt, keys.ModeBoth); err != nil {
		return keys.Key{}, err
	}
	if own := f.info.Labels.Environment; env != own {
		return keys.Key{}, fmt.Errorf("%w: a %v key, and the PIN comes under one of %v", engine.ErrUsage, env, own)
	}
	return k, nil
}

// side is one end of a translation; whoever called wipes the cipher.
func side(k keys.Key, f pin.Format, pan pin.PAN) (pin.Side, error) {
	c, err := blockCipher(k)
	if err != nil {
		return pin.Side{}, err
	}
	if c.BlockSize() != f.BlockSize() {
		secret.WipeCipher(c)
		return pin.Side{}, fmt.Errorf("%w: a PIN block of %v under a key of %v", dukpt.ErrUnsupported, f, k.Attributes().Algorithm)
	}
	return pin.Side{Format: f, PAN: pan, Cipher: c}, nil
}

// blockCipher returns the cipher of a TDES or AES key, for the caller to wipe.
func blockCipher(k keys.Key) (cipher.Block, error) {
	switch a := k.Attributes().Algorithm; {
	case a.IsTDES():
		return des.New(k.Material().Expose())
	case a.IsAES():
		return aes.NewCipher(k.Material().Expose())
	}
	return nil, fmt.Errorf("%w: %v is no block cipher", engine.ErrUsage, k.Attributes().Algorithm)
}

func (f *fixed) Decrypt(dst []byte, s engine.CipherSpec, ct []byte) ([]byte, error) {
	return f.crypt(dst, s, ct, false)
}

func (f *fixed) Encrypt(dst []byte, s engine.CipherSpec, plain []byte) ([]byte, error) {
	return f.crypt(dst, s, plain, true)
}

func (f *fixed) crypt(dst []byte, s engine.CipherSpec, in []byte, encrypts bool) (out []byte, err error) {
	out = dst
	err = f.use(func(k keys.Key) error {
		mode := keys.ModeDecrypt
		if encrypts {
			mode = keys.ModeEncrypt
		}
		if err := engine.Permits(k.Attributes(), keys.UsageData, mode, keys.ModeBoth); err != nil {
			return err
		}
		c, err := blockCipher(k)
		if err != nil {
			return err
		}
		defer secret.WipeCipher(c)
		if err := s.Check(c.BlockSize(), len(in)); err != nil {
			return err
		}
		out = append(dst, in...)
		cryptBlocks(c, s, out[len(dst):], encrypts)
		return nil
	})
	if err != nil {
		return dst, err
	}
	return out, nil
}

// cryptBlocks works on checked blocks in place.
func cryptBlocks(c cipher.Block, s engine.CipherSpec, blocks []byte, encrypts bool) {
	size := c.BlockSize()
	if s.Mode == dukpt.CBC {
		iv := s.IV
		if iv == nil {
			iv = make([]byte, size)
		}
		if encrypts {
			cipher.NewCBCEncrypter(c, iv).CryptBlocks(blocks, blocks)
			return
		}
		cipher.NewCBCDecrypter(c, iv).CryptBlocks(blocks, blocks)
		return
	}
	for i := 0; i < len(blocks); i += size {
		if encrypts {
			c.Encrypt(blocks[i:], blocks[i:])
		} else {
			c.Decrypt(blocks[i:], blocks[i:])
		}
	}
}

func (f *fixed) MAC(dst []byte, s engine.FixedMAC, msg []byte) (out []byte, err error) {
	out = dst
	err = f.maced(s, msg, keys.ModeGenerate, func(m *mac.State) error {
		out, err = m.Append(dst, msg, s.Length)
		return err
	})
	return out, err
}

func (f *fixed) VerifyMAC(s engine.FixedMAC, msg, given []byte) error {
	return f.maced(s, msg, keys.ModeVerify, func(m *mac.State) error { return m.Verify(msg, given, s.Length) })
}

// maced calls do with the state of an algorithm under the key.
func (f *fixed) maced(s engine.FixedMAC, msg []byte, mode keys.Mode, do func(*mac.State) error) error {
	return f.use(func(k keys.Key) error {
		if err := engine.Permits(k.Attributes(), engine.MACUsage(s.Algorithm), mode, keys.ModeGenVerify); err != nil {
			return err
		}
		if !f.came.IsZero() && s.Algorithm != dukpt.MACHMACSHA256 && k.Attributes().Usage == keys.UsageHMAC {
			return fmt.Errorf("%w: the block says that its key is for %v", engine.ErrUsage, dukpt.MACHMACSHA256) // no other one is read
		}
		var m mac.State
		defer m.Wipe()
		if err := setMAC(&m, s.Algorithm, k, len(msg)); err != nil {
			return err
		}
		err := do(&m)
		switch {
		case errors.Is(err, mac.ErrVerify):
			return dukpt.ErrVerify
		case errors.Is(err, mac.ErrLength):
			return fmt.Errorf("%w: a MAC of %v has %d to %d bytes, not %d", dukpt.ErrLength, s.Algorithm, m.MinSize(), m.Size(), s.Length)
		}
		return err
	})
}

func setMAC(m *mac.State, a dukpt.MACAlgorithm, k keys.Key, length int) error {
	raw := k.Material().Expose()
	switch a {
	case dukpt.MACHMACSHA256:
		return m.SetHMAC(mac.SHA256, raw)
	case dukpt.MACHMACSHA384:
		return m.SetHMAC(mac.SHA384, raw)
	case dukpt.MACHMACSHA512:
		return m.SetHMAC(mac.SHA512, raw)
	}
	c, err := blockCipher(k)
	if err != nil {
		return err
	}
	if a == dukpt.MACCMAC {
		return m.SetCMAC(c)
	}
	if length == 0 || length%c.BlockSize() != 0 {
		secret.WipeCipher(c)
		return fmt.Errorf("%w: %v takes whole blocks of %d bytes, not %d", dukpt.ErrLength, a, c.BlockSize(), length)
	}
	if a == dukpt.MACRetail {
		secret.WipeCipher(c)
		return m.SetRetail(raw, mac.Padding1) // whole blocks stay as they are
	}
	return m.SetCBC(c, mac.Padding1)
}
