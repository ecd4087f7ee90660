package hsm

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/mac"
	"github.com/latchkey-pos/latchkey/internal/padding"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// inside is the host role in one transaction whose keys are all in the token. It holds none: each operation finds the key of
// the transaction in the cache, or derives it, and makes one working key, for one use, that is gone when the operation ends.
type inside struct {
	token       *Token
	base        keyset.KeyRef // an id
	environment keyset.Environment
	ksn         dukpt.KSN
	parent      dukpt.WorkingKey
	carries     bool // PIN blocks are carried, and never opened in the host
	ended       bool
}

// under calls f with a working key in a session. f may be called again after the token was lost.
func (o *inside) under(step step, u use, f func(c *connection, l *lease, key object) error) error {
	return o.underFor(step, []use{u}, f)
}

// underFor is under with a key for several uses.
func (o *inside) underFor(step step, uses []use, f func(c *connection, l *lease, key object) error) error {
	whole := func(c *connection, l *lease, parent object) (object, error) {
		return step.make(o.token.shape, c.device, l.session, parent, uses...)
	}
	return o.underAll(func(c *connection, l *lease, made []object) error { return f(c, l, made[0]) }, whole)
}

// underAll calls f with as many working keys as there are ways to make one of the key of the transaction.
func (o *inside) underAll(f func(c *connection, l *lease, made []object) error, ways ...func(*connection, *lease, object) (object, error)) error {
	t := o.token
	err := t.use(context.Background(), func(c *connection, l *lease) error {
		e, err := c.keys.Load().find(o.base)
		if err != nil {
			return err
		}
		var made []object
		err = c.parent(l, t.shape, e, o.ksn, func(parent object) error {
			for _, way := range ways {
				t.counts.derivations.Add(1)
				key, err := way(c, l, parent)
				if err != nil {
					return err
				}
				made = append(made, key)
			}
			return nil
		})
		defer func() {
			for _, key := range made {
				l.destroy(c, key)
			}
		}()
		if err != nil {
			return err
		}
		return f(c, l, made)
	})
	return unsupported(err)
}

// parent calls f with what working keys are made of: the key of the transaction, or under TDES the base key.
func (c *connection) parent(l *lease, s shape, e *entry, ksn dukpt.KSN, f func(parent object) error) error {
	if ksn.Scheme() == dukpt.TDES {
		return f(e.base)
	}
	return c.paths.walk(l.ctx, s, e, ksn, f)
}

// destroy destroys a session object, and has the session closed, which takes it along, where the token does not.
func (l *lease) destroy(c *connection, o object) {
	if c.device.destroyObject(l.session, o) != nil {
		l.spoilt = true
	}
}

// unsupported says of what a token refuses, though it was asked rightly, that it cannot be done with this token.
func unsupported(err error) error {
	if _, refused := errors.AsType[rv](err); refused && !errors.Is(err, engine.ErrUnavailable) {
		return fmt.Errorf("%w: the token refuses: %w", dukpt.ErrUnsupported, err)
	}
	return err
}

func (o *inside) TranslatePIN(dst []byte, in dukpt.PINBlock, out engine.PINOut) ([]byte, error) {
	if o.ended {
		return dst, engine.ErrEnded
	}
	c, err := o.token.current(context.Background())
	if err != nil {
		return dst, err
	}
	zone, err := c.keys.Load().zone(out.Key, o.environment)
	if err != nil {
		return dst, err
	}
	step, err := o.checkPIN(in, out, zone)
	if err != nil {
		return dst, err
	}
	if o.carries {
		return o.carry(dst, in, out, zone, step)
	}
	var made []byte
	err = o.under(step, useDecrypt, func(c *connection, l *lease, key object) error {
		zone, err := c.keys.Load().zone(out.Key, o.environment) // handles are those of this connection
		if err != nil {
			return err
		}
		from, to := newBlock(c, l, key, step.Key.Algorithm().IsTDES()), newBlock(c, l, zone.object, zone.info.Attributes.Algorithm.IsTDES())
		made, err = translate(in, out, from, to)
		return err
	})
	if err != nil {
		return dst, err
	}
	return append(dst, made...), nil
}

// checkPIN refuses a translation that may not be, and returns the step to the PIN key.
func (o *inside) checkPIN(in dukpt.PINBlock, out engine.PINOut, zone *entry) (step, error) {
	if err := pin.CheckTranslation(in.Format, out.Format, !in.PAN.Equal(out.PAN)); err != nil {
		return step{}, err
	}
	made, err := o.pinStep(in)
	if err != nil {
		return step{}, err
	}
	if tdes := zone.info.Attributes.Algorithm.IsTDES(); out.Format.BlockSize() != blockSize(tdes) {
		return step{}, fmt.Errorf("%w: a PIN block of %v under a key of %v", dukpt.ErrUnsupported, out.Format, zone.info.Attributes.Algorithm)
	}
	if len(in.Block) != in.Format.BlockSize() {
		return step{}, fmt.Errorf("%w: a block of %v has %d bytes, not %d", dukpt.ErrLength, in.Format, in.Format.BlockSize(), len(in.Block))
	}
	return made, nil
}

// translate opens a block under one key of the token and closes it under another. The clear PIN lives inside this call only.
func translate(in dukpt.PINBlock, out engine.PINOut, from, to *block) ([]byte, error) {
	o := pin.NewOpened()
	defer o.Wipe()
	err := in.Format.Decrypt(&o, from, in.Block, in.PAN)
	if from.err != nil {
		return nil, from.err
	}
	if err != nil {
		return nil, dukpt.ErrVerify
	}
	made, err := o.Encrypt(nil, pin.Side{Format: out.Format, PAN: out.PAN, Cipher: to}, out.Fill)
	if to.err != nil {
		return nil, to.err
	}
	return made, err
}

func (o *inside) DecryptData(dst []byte, s dukpt.DataSpec, ct []byte) ([]byte, error) {
	if o.ended {
		return dst, engine.ErrEnded
	}
	step, err := o.stepOf(s, dukpt.Request)
	if err != nil {
		return dst, err
	}
	size := blockSize(step.Key.Algorithm().IsTDES())
	if len(ct) == 0 || len(ct)%size != 0 {
		return dst, fmt.Errorf("%w: %d bytes of data are no multiple of %d", dukpt.ErrLength, len(ct), size)
	}
	var blocks []byte
	err = o.under(step, useDecrypt, func(c *connection, l *lease, key object) (err error) {
		blocks, err = c.device.decrypt(l.session, cipherOf(s, size), key, ct)
		return whole(blocks, len(ct), err)
	})
	defer secret.Wipe(blocks)
	if err != nil {
		return dst, err
	}
	plain, err := paddingOf(s.Padding).Unpad(blocks, size)
	if err != nil {
		return dst, dukpt.ErrVerify
	}
	return append(dst, plain...), nil
}

func (o *inside) EncryptResponse(dst []byte, s dukpt.DataSpec, plain []byte) ([]byte, error) {
	if o.ended {
		return dst, engine.ErrEnded
	}
	step, err := o.stepOf(s, dukpt.Response)
	if err != nil {
		return dst, err
	}
	size := blockSize(step.Key.Algorithm().IsTDES())
	blocks, err := paddingOf(s.Padding).Pad(nil, plain, size)
	if err != nil {
		return dst, fmt.Errorf("%w: %d bytes of data are no multiple of %d", dukpt.ErrLength, len(plain), size)
	}
	defer secret.Wipe(blocks)
	var ct []byte
	err = o.under(step, useEncrypt, func(c *connection, l *lease, key object) (err error) {
		ct, err = c.device.encrypt(l.session, cipherOf(s, size), key, blocks)
		return whole(ct, len(blocks), err)
	})
	if err != nil {
		return dst, err
	}
	return append(dst, ct...), nil
}

func (o *inside) VerifyMAC(s dukpt.MACSpec, msg, given []byte) error {
	if o.ended {
		return engine.ErrEnded
	}
	full, err := o.mac(s, dukpt.Request, msg)
	defer secret.Wipe(full)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(full[:s.Length], given) != 1 {
		return dukpt.ErrVerify
	}
	return nil
}

func (o *inside) MACResponse(dst []byte, s dukpt.MACSpec, msg []byte) ([]byte, error) {
	if o.ended {
		return dst, engine.ErrEnded
	}
	full, err := o.mac(s, dukpt.Response, msg)
	defer secret.Wipe(full)
	if err != nil {
		return dst, err
	}
	return append(dst, full[:s.Length]...), nil
}

// mac returns the whole MAC of a message: at least as many bytes as s asks for.
func (o *inside) mac(s dukpt.MACSpec, implied dukpt.Direction, msg []byte) ([]byte, error) {
	step, err := o.stepOf(s, implied)
	if err != nil {
		return nil, err
	}
	if s.Algorithm == dukpt.MACRetail {
		return o.retail(s, step, msg)
	}
	code, u, err := macOf(s.Algorithm, step.Key.Algorithm().IsTDES())
	if err != nil {
		return nil, err
	}
	var full []byte
	err = o.under(step, u, func(c *connection, l *lease, key object) (err error) {
		if u == useEncrypt {
			full, err = chain(newBlock(c, l, key, true), s, msg)
			return err
		}
		full, err = c.device.sign(l.session, mechanism{code: code}, key, msg)
		return whole(full, max(s.Length, len(full)), err)
	})
	if err != nil {
		secret.Wipe(full)
		return nil, err
	}
	return full, nil
}

// retail returns a retail MAC, where the token has shown that it makes one.
func (o *inside) retail(s dukpt.MACSpec, step step, msg []byte) (full []byte, err error) {
	if step.code != mechAESDerive {
		return o.retailOneCall(s, step, msg)
	}
	if !o.token.report.OK(CheckRetail) {
		return nil, fmt.Errorf("%w: %v under a working key %v: the token does no single DES under the left part of a derived key (%s)",
			dukpt.ErrUnsupported, s.Algorithm, step.Key, CheckRetail)
	}
	shape := o.token.shape
	err = o.underAll(func(c *connection, l *lease, made []object) (err error) {
		full, err = retailMAC(newSingle(c.device, l.session, made[0]), newBlock(c, l, made[1], true), s, msg)
		return err
	}, func(c *connection, l *lease, parent object) (object, error) {
		return shape.left(c.device, l.session, parent, step.Derivation)
	}, func(c *connection, l *lease, parent object) (object, error) {
		return step.make(shape, c.device, l.session, parent, useEncrypt)
	})
	if err != nil {
		secret.Wipe(full)
		return nil, err
	}
	return full, nil
}

// whole refuses an answer of another length than it has to have: the token is not to be believed.
func whole(got []byte, want int, err error) error {
	if err == nil && len(got) != want {
		return unavailable(errAnswer)
	}
	return err
}

// chain computes a CBC MAC with the cipher of the token.
func chain(b *block, s dukpt.MACSpec, msg []byte) ([]byte, error) {
	var state mac.State
	defer state.Wipe()
	if err := state.SetCBC(b, mac.Padding(s.Padding)); err != nil { // package dukpt numbers the paddings alike, and has checked this one
		return nil, err
	}
	full, err := state.Append(nil, msg, b.size)
	if b.err != nil {
		return nil, b.err
	}
	return full, err
}

// macOf returns the mechanism of a MAC and what its key must be permitted to do. A retail MAC takes two keys, and is not for here.
func macOf(a dukpt.MACAlgorithm, tdes bool) (code uint, u use, err error) {
	switch a {
	case dukpt.MACCMAC:
		if tdes {
			return mechDES3CMAC, useSign, nil
		}
		return mechAESCMAC, useSign, nil
	case dukpt.MACHMACSHA256:
		return mechSHA256HMAC, useSign, nil
	case dukpt.MACHMACSHA384:
		return mechSHA384HMAC, useSign, nil
	case dukpt.MACHMACSHA512:
		return mechSHA512HMAC, useSign, nil
	case dukpt.MACCBC:
		return 0, useEncrypt, nil
	}
	return 0, 0, fmt.Errorf("%w: %v in a token", dukpt.ErrUnsupported, a)
}

// cipherOf returns the mechanism of a validated specification.
func cipherOf(s dukpt.DataSpec, size int) mechanism {
	tdes := size == 8
	switch {
	case s.Mode != dukpt.CBC && tdes:
		return mechanism{code: mechDES3ECB}
	case s.Mode != dukpt.CBC:
		return mechanism{code: mechAESECB}
	}
	m := mechanism{code: mechAESCBC, iv: s.IV}
	if tdes {
		m.code = mechDES3CBC
	}
	if m.iv == nil {
		m.iv = make([]byte, size)
	}
	return m
}

func paddingOf(p dukpt.DataPadding) padding.Method {
	switch p {
	case dukpt.NoPadding:
		return padding.None
	case dukpt.ZeroPadding:
		return padding.Zero
	case dukpt.ISO9797M2Padding:
		return padding.ISO9797M2
	case dukpt.PKCS7Padding:
		return padding.PKCS7
	}
	return 0
}

func blockSize(tdes bool) int {
	if tdes {
		return 8
	}
	return 16
}

func (o *inside) End() { o.ended = true }
