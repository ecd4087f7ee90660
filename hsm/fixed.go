package hsm

import (
	"context"
	"fmt"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// dataKey is the operations under a data key of the token. Its PIN keys only encrypt, since that is all their objects may do, and it
// holds no MAC keys and no keys that unwrap.
type dataKey struct {
	token *Token
	info  engine.KeyInfo
	ended bool
}

// Open gives the operations under a data key. Keys of other usages have none in a token.
func (n tokenEngine) Open(ctx context.Context, ref keyset.KeyRef) (engine.FixedOps, error) {
	info, err := n.Describe(ctx, ref)
	if err != nil {
		return nil, err
	}
	switch info.Attributes.Usage {
	case keys.UsageData:
		return &dataKey{token: n.token, info: info}, nil
	case keys.UsagePIN:
		return nil, fmt.Errorf("%w: a PIN key in a token only encrypts: PINs come under the keyring's", dukpt.ErrUnsupported)
	}
	return nil, fmt.Errorf("%w: %s has usage %s", engine.ErrUsage, ref, info.Attributes.Usage)
}

// Unwrap refuses: a token of this package holds no keys that unwrap.
func (n tokenEngine) Unwrap(ctx context.Context, kek keyset.KeyRef, _ string) (engine.FixedOps, error) {
	info, err := n.Describe(ctx, kek)
	if err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%w: %s: a token holds no key that unwraps others", dukpt.ErrUnsupported, info.Ref)
}

func (k *dataKey) Info() engine.KeyInfo { return k.info }

func (k *dataKey) End() { k.ended = true }

func (k *dataKey) Decrypt(dst []byte, s engine.CipherSpec, ct []byte) ([]byte, error) {
	if err := k.permits(s, keys.ModeDecrypt, len(ct)); err != nil {
		return dst, err
	}
	return k.crypt(dst, s, ct, func(c *connection, l *lease, m mechanism, o object) ([]byte, error) {
		return c.device.decrypt(l.session, m, o, ct)
	})
}

func (k *dataKey) Encrypt(dst []byte, s engine.CipherSpec, plain []byte) ([]byte, error) {
	if err := k.permits(s, keys.ModeEncrypt, len(plain)); err != nil {
		return dst, err
	}
	return k.crypt(dst, s, plain, func(c *connection, l *lease, m mechanism, o object) ([]byte, error) {
		return c.device.encrypt(l.session, m, o, plain)
	})
}

func (k *dataKey) permits(s engine.CipherSpec, mode keys.Mode, length int) error {
	if k.ended {
		return engine.ErrEnded
	}
	if err := engine.Permits(k.info.Attributes, keys.UsageData, mode, keys.ModeBoth); err != nil {
		return err
	}
	return s.Check(k.block(), length)
}

func (k *dataKey) block() int { return blockSize(k.info.Attributes.Algorithm.IsTDES()) }

func (k *dataKey) crypt(dst []byte, s engine.CipherSpec, in []byte, call func(*connection, *lease, mechanism, object) ([]byte, error)) ([]byte, error) {
	m := cipherOf(dukpt.DataSpec{Mode: s.Mode, IV: s.IV}, k.block())
	var out []byte
	err := k.token.use(context.Background(), func(c *connection, l *lease) error {
		e, err := c.keys.Load().find(k.info.ID)
		if err != nil {
			return err
		}
		out, err = call(c, l, m, e.object)
		return whole(out, len(in), err)
	})
	if err != nil {
		return dst, unsupported(err)
	}
	return append(dst, out...), nil
}

func (k *dataKey) TranslatePIN(dst []byte, _ engine.PINIn, _ engine.PINOut) ([]byte, error) {
	return dst, k.otherUse()
}

func (k *dataKey) MAC(dst []byte, _ engine.FixedMAC, _ []byte) ([]byte, error) {
	return dst, k.otherUse()
}

func (k *dataKey) VerifyMAC(engine.FixedMAC, []byte, []byte) error { return k.otherUse() }

func (k *dataKey) otherUse() error {
	if k.ended {
		return engine.ErrEnded
	}
	return fmt.Errorf("%w: %s has usage %s", engine.ErrUsage, k.info.Ref, k.info.Attributes.Usage)
}
