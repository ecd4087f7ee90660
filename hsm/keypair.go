package hsm

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"fmt"
	"unicode/utf8"
)

// paramsOf are the curves of key pairs, as CKA_EC_PARAMS names them.
var paramsOf = map[elliptic.Curve][]byte{
	elliptic.P256(): paramsP256,
	elliptic.P384(): {0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22},
	elliptic.P521(): {0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x23},
}

const maxLabel = 64 // bytes of the name of a key pair

// GenerateSigner makes an ECDSA key pair in the token, under a new name, and returns it as Signer does. The private key signs,
// does nothing else and never leaves. It is read back and asked for its value before it counts. Errors wrap ErrExists,
// ErrAttributes, ErrURI or engine.ErrUnavailable.
func (t *Token) GenerateSigner(ctx context.Context, name string, curve elliptic.Curve) (crypto.Signer, error) {
	params, ok := paramsOf[curve]
	if !ok {
		return nil, fmt.Errorf("%w: a key pair is on P-256, P-384 or P-521", ErrAttributes)
	}
	return t.generatePair(ctx, name, pairKind{mechanism: mechECKeyPair, keyType: typeEC, params: params})
}

// pairKind says what key pair is made.
type pairKind struct {
	mechanism, keyType uint
	params             []byte
}

func (t *Token) generatePair(ctx context.Context, name string, kind pairKind) (crypto.Signer, error) {
	if name == "" || len(name) > maxLabel || !utf8.ValidString(name) {
		return nil, fmt.Errorf("%w: a key pair has a name of 1 to %d bytes", ErrURI, maxLabel)
	}
	if err := t.loading.take(ctx); err != nil {
		return nil, err
	}
	defer t.loading.give()
	c, err := t.current(ctx)
	if err != nil {
		return nil, err
	}
	err = t.once(ctx, c, func(c *connection, l *lease) error { return t.pair(c, l, name, kind) })
	if err != nil {
		return nil, t.unrepeated(ctx, c, err)
	}
	t.options.Log.Info("key pair made", "token", t, "key", name)
	return t.Signer(ctx, KeyURI(name))
}

// KeyURI returns the URI that names the private key of a name, in a token that is known.
func KeyURI(name string) URI {
	var u URI
	u.path[atObject], u.path[atType] = value{true, name}, value{true, "private"}
	return u
}

// pair makes a key pair, and destroys one that is not what it should be.
func (t *Token) pair(c *connection, l *lease, name string, kind pairKind) error {
	t.counts.finds.Add(1)
	there, err := c.device.findObjects(l.session, []attribute{text(attrLabel, name)}, 1)
	if err != nil {
		return err
	}
	if len(there) > 0 {
		return fmt.Errorf("%w: %s", ErrExists, name)
	}
	id := newID().String() // joins the two halves
	public, private, err := c.device.generateKeyPair(l.session, mechanism{code: kind.mechanism}, []attribute{
		number(attrClass, classPublic), number(attrKeyType, kind.keyType), flag(attrToken, true), {attrECParams, kind.params}, flag(attrVerify, true),
		text(attrLabel, name), text(attrID, id), flag(attrModifiable, false),
	}, []attribute{
		number(attrClass, classPrivate), number(attrKeyType, kind.keyType), flag(attrToken, true), flag(attrPrivate, true), flag(attrSensitive, true),
		flag(attrExtractable, false), flag(attrSign, true), flag(attrDerive, false), flag(attrDecrypt, false), flag(attrUnwrap, false),
		text(attrLabel, name), text(attrID, id), flag(attrModifiable, false),
	})
	if err != nil {
		return err
	}
	if err := pairStays(c.device, l.session, private); err != nil {
		l.destroy(c, private)
		l.destroy(c, public)
		return err
	}
	return nil
}

// pairStays holds a private key that was made a moment ago to what was asked for, and asks for its value.
func pairStays(d cryptoki, s session, private object) error {
	if err := staysInside(d, s, private); err != nil {
		return err
	}
	got, err := d.attributes(s, private, []uint{attrLocal, attrAlwaysSensitive, attrNeverExtractable, attrSign, attrDerive, attrDecrypt, attrUnwrap})
	if err != nil {
		return err
	}
	for i, a := range got {
		if a.asFlag() != (i < 4) { // the first four are set, the others are not
			return fmt.Errorf("%w: attribute 0x%X of a key pair made inside is %v", ErrAttributes, a.code, a.asFlag())
		}
	}
	if _, err := d.attributes(s, private, []uint{attrValue}); err == nil {
		return fmt.Errorf("%w: the private key can be read", ErrAttributes)
	} else if classify(err) != classRequest {
		return err
	}
	return nil
}
