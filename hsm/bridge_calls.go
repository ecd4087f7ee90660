//go:build cgo && !nohsm

package hsm

/*
#include <stdlib.h>
*/
import "C"

import "github.com/miekg/pkcs11"

func (b *bridge) openSession() (session, error) {
	s, err := b.library.ctx.OpenSession(b.currentSlot(), pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	return session(s), convert(err)
}

func (b *bridge) closeSession(s session) error {
	return convert(b.library.ctx.CloseSession(pkcs11.SessionHandle(s)))
}

// findObjects returns at most as many objects as are asked for.
func (b *bridge) findObjects(s session, template []attribute, most int) ([]object, error) {
	ctx, h := b.library.ctx, pkcs11.SessionHandle(s)
	if err := ctx.FindObjectsInit(h, spell(template)); err != nil {
		return nil, convert(err)
	}
	var found []object
	for len(found) < most {
		more, _, err := ctx.FindObjects(h, most-len(found))
		if err != nil {
			_ = ctx.FindObjectsFinal(h) // the first error counts
			return nil, convert(err)
		}
		if len(more) == 0 {
			break
		}
		for _, o := range more {
			found = append(found, object(o))
		}
	}
	return found, convert(ctx.FindObjectsFinal(h))
}

func (b *bridge) attributes(s session, o object, codes []uint) ([]attribute, error) {
	asked := make([]*pkcs11.Attribute, len(codes))
	for i, code := range codes {
		asked[i] = pkcs11.NewAttribute(code, nil)
	}
	got, err := b.library.ctx.GetAttributeValue(pkcs11.SessionHandle(s), pkcs11.ObjectHandle(o), asked)
	if err != nil {
		return nil, convert(err)
	}
	out := make([]attribute, len(got))
	for i, a := range got {
		out[i] = attribute{a.Type, a.Value}
	}
	return out, nil
}

func (b *bridge) createObject(s session, template []attribute) (object, error) {
	o, err := b.library.ctx.CreateObject(pkcs11.SessionHandle(s), spell(template))
	return object(o), convert(err)
}

func (b *bridge) copyObject(s session, o object, template []attribute) (object, error) {
	c, err := b.library.ctx.CopyObject(pkcs11.SessionHandle(s), pkcs11.ObjectHandle(o), spell(template))
	return object(c), convert(err)
}

func (b *bridge) destroyObject(s session, o object) error {
	return convert(b.library.ctx.DestroyObject(pkcs11.SessionHandle(s), pkcs11.ObjectHandle(o)))
}

func (b *bridge) generateKey(s session, m mechanism, template []attribute) (object, error) {
	o, err := b.library.ctx.GenerateKey(pkcs11.SessionHandle(s), m.spell(nil), spell(template))
	return object(o), convert(err)
}

func (b *bridge) generateKeyPair(s session, m mechanism, public, private []attribute) (object, object, error) {
	pub, priv, err := b.library.ctx.GenerateKeyPair(pkcs11.SessionHandle(s), m.spell(nil), spell(public), spell(private))
	return object(pub), object(priv), convert(err)
}

func (b *bridge) deriveKey(s session, m mechanism, base object, template []attribute) (object, error) {
	parameter, free := stringData(m.data)
	defer free()
	o, err := b.library.ctx.DeriveKey(pkcs11.SessionHandle(s), m.spell(parameter), pkcs11.ObjectHandle(base), spell(template))
	return object(o), convert(err)
}

func (b *bridge) encrypt(s session, m mechanism, key object, in []byte) ([]byte, error) {
	ctx, h := b.library.ctx, pkcs11.SessionHandle(s)
	how, free := m.cipher()
	defer free()
	if err := ctx.EncryptInit(h, how, pkcs11.ObjectHandle(key)); err != nil {
		return nil, convert(err)
	}
	out, err := ctx.Encrypt(h, in)
	return out, convert(err)
}

func (b *bridge) decrypt(s session, m mechanism, key object, in []byte) ([]byte, error) {
	ctx, h := b.library.ctx, pkcs11.SessionHandle(s)
	how, free := m.cipher()
	defer free()
	if err := ctx.DecryptInit(h, how, pkcs11.ObjectHandle(key)); err != nil {
		return nil, convert(err)
	}
	out, err := ctx.Decrypt(h, in)
	return out, convert(err)
}

func (b *bridge) sign(s session, m mechanism, key object, in []byte) ([]byte, error) {
	ctx, h := b.library.ctx, pkcs11.SessionHandle(s)
	if err := ctx.SignInit(h, m.spell(nil), pkcs11.ObjectHandle(key)); err != nil {
		return nil, convert(err)
	}
	out, err := ctx.Sign(h, in)
	return out, convert(err)
}

func (b *bridge) wrapKey(s session, m mechanism, wrapping, key object) ([]byte, error) {
	out, err := b.library.ctx.WrapKey(pkcs11.SessionHandle(s), m.spell(nil), pkcs11.ObjectHandle(wrapping), pkcs11.ObjectHandle(key))
	return out, convert(err)
}

func (b *bridge) unwrapKey(s session, m mechanism, wrapping object, wrapped []byte, template []attribute) (object, error) {
	o, err := b.library.ctx.UnwrapKey(pkcs11.SessionHandle(s), m.spell(nil), pkcs11.ObjectHandle(wrapping), wrapped, spell(template))
	return object(o), convert(err)
}

// spell gives a template to the library.
func spell(template []attribute) []*pkcs11.Attribute {
	out := make([]*pkcs11.Attribute, len(template))
	for i, a := range template {
		out[i] = &pkcs11.Attribute{Type: a.code, Value: a.bytes}
	}
	return out
}

// spell gives a mechanism to the library, with a parameter that holds pointers, if it has one.
func (m mechanism) spell(parameter []byte) []*pkcs11.Mechanism {
	switch {
	case m.public != nil:
		return []*pkcs11.Mechanism{pkcs11.NewMechanism(m.code, pkcs11.NewECDH1DeriveParams(pkcs11.CKD_NULL, nil, m.public))}
	case parameter != nil:
		return []*pkcs11.Mechanism{pkcs11.NewMechanism(m.code, parameter)}
	case m.iv != nil:
		return []*pkcs11.Mechanism{pkcs11.NewMechanism(m.code, m.iv)}
	}
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(m.code, nil)}
}

// cipher gives a mechanism that encrypts to the library, until free is called. A tag of AES-GCM has 16 bytes.
func (m mechanism) cipher() (spelled []*pkcs11.Mechanism, free func()) {
	if m.code != mechAESGCM {
		return m.spell(nil), func() {}
	}
	p := pkcs11.NewGCMParams(m.iv, m.data, 8*gcmTag)
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(m.code, p)}, p.Free
}

// stringData lays out CK_KEY_DERIVATION_STRING_DATA, a pointer and a length, which the library does not know. The data, which is
// public, is copied to memory of C until free is called.
func stringData(data []byte) (parameter []byte, free func()) {
	if data == nil {
		return nil, func() {}
	}
	p := C.CBytes(data)
	return append(ulong(uint(uintptr(p))), ulong(uint(len(data)))...), func() { C.free(p) }
}
