package hsm

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"fmt"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// DeviceKeys are the private keys of a terminal in a token: made inside, and never outside. It fits terminal.Keys, and is safe for
// concurrent use. All have one name in CKA_LABEL, and a random CKA_ID each, which is the handle.
type DeviceKeys struct {
	token *Token
	label string
}

const handleBytes = 16

// DeviceKeys returns the private keys that have the name of the object attribute of a URI, with "-keys" behind it.
func (t *Token) DeviceKeys(named URI) (*DeviceKeys, error) {
	s, err := t.sealer(named)
	if err != nil {
		return nil, err
	}
	return &DeviceKeys{t, s.label + "-keys"}, nil
}

// deviceCurves are those of device keys, by the object identifiers of CKA_EC_PARAMS.
var deviceCurves = map[elliptic.Curve]struct {
	oid  asn1.ObjectIdentifier
	ecdh ecdh.Curve
}{
	elliptic.P256(): {asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}, ecdh.P256()},
	elliptic.P384(): {asn1.ObjectIdentifier{1, 3, 132, 0, 34}, ecdh.P384()},
	elliptic.P521(): {asn1.ObjectIdentifier{1, 3, 132, 0, 35}, ecdh.P521()},
}

// Make makes a key pair in the token, on P-256, P-384 or P-521, and returns its handle. The private key signs, and agrees if
// that is wanted; it is sensitive, cannot be extracted and cannot be modified, or it is destroyed and the error wraps
// ErrAttributes. It is not repeated when the token is lost on the way: then a pair that nobody knows may stay.
func (d *DeviceKeys) Make(curve elliptic.Curve, agrees bool) ([]byte, error) {
	c, ok := deviceCurves[curve]
	if !ok {
		return nil, fmt.Errorf("%w: keys on that curve", dukpt.ErrUnsupported)
	}
	params, err := asn1.Marshal(c.oid)
	if err != nil {
		return nil, err
	}
	id := make([]byte, handleBytes)
	_, _ = rand.Read(id) // cannot fail
	public := []attribute{
		number(attrClass, classPublic), number(attrKeyType, typeEC), flag(attrToken, true), {attrECParams, params}, flag(attrVerify, true),
		text(attrLabel, d.label), {attrID, id}, flag(attrModifiable, false),
	}
	private := []attribute{
		number(attrClass, classPrivate), number(attrKeyType, typeEC), flag(attrToken, true), flag(attrPrivate, true), flag(attrSensitive, true),
		flag(attrExtractable, false), flag(attrSign, true), flag(attrDerive, agrees), flag(attrDecrypt, false), flag(attrUnwrap, false),
		text(attrLabel, d.label), {attrID, id}, flag(attrModifiable, false),
	}
	ctx := context.Background() // the token's Wait bounds it
	conn, err := d.token.current(ctx)
	if err != nil {
		return nil, err
	}
	err = d.token.once(ctx, conn, func(c *connection, l *lease) error {
		pub, priv, err := c.device.generateKeyPair(l.session, mechanism{code: mechECKeyPair}, public, private)
		if err != nil {
			return err
		}
		if err := deviceKeyStays(c.device, l.session, priv, agrees); err != nil {
			l.destroy(c, priv)
			l.destroy(c, pub)
			return err
		}
		return nil
	})
	if err != nil {
		return nil, d.token.unrepeated(ctx, conn, err)
	}
	return id, nil
}

// deviceKeyStays refuses a private key that could leave, or was not made inside, or may do something else.
func deviceKeyStays(d cryptoki, in session, private object, agrees bool) error {
	want := []struct {
		code uint
		on   bool
	}{
		{attrToken, true}, {attrPrivate, true}, {attrSensitive, true}, {attrExtractable, false}, {attrModifiable, false}, {attrLocal, true},
		{attrAlwaysSensitive, true}, {attrNeverExtractable, true}, {attrSign, true}, {attrDerive, agrees}, {attrDecrypt, false}, {attrUnwrap, false},
	}
	codes := make([]uint, len(want))
	for i, w := range want {
		codes[i] = w.code
	}
	got, err := d.attributes(in, private, codes)
	if err != nil {
		return err
	}
	for i, w := range want {
		if got[i].asFlag() != w.on {
			return fmt.Errorf("%w: attribute 0x%X of a private key is %v", ErrAttributes, w.code, !w.on)
		}
	}
	return nil
}

// Open returns the private key of a handle. It finds its key again when the token was lost. One that was made to agree is an
// ecdh.KeyExchanger. Errors are those of Token.Signer, or wrap ErrAttributes.
func (d *DeviceKeys) Open(handle []byte) (crypto.Signer, error) {
	ctx := context.Background() // the token's Wait bounds it
	var named URI
	named.path[atObject], named.path[atID] = value{true, d.label}, value{true, string(handle)}
	s, err := d.token.Signer(ctx, named)
	if err != nil {
		return nil, err
	}
	pub, ok := s.Public().(*ecdsa.PublicKey)
	if !ok || deviceCurves[pub.Curve].ecdh == nil {
		return nil, fmt.Errorf("%w: the private key is none of ours", ErrAttributes)
	}
	agrees := false
	err = d.token.use(ctx, func(c *connection, l *lease) error {
		o, err := d.find(c, l, classPrivate, handle)
		if err != nil {
			return err
		}
		got, err := c.device.attributes(l.session, o, []uint{attrDerive})
		if err != nil {
			return err
		}
		agrees = got[0].asFlag()
		return deviceKeyStays(c.device, l.session, o, agrees)
	})
	if err != nil {
		return nil, err
	}
	if !agrees {
		return s, nil
	}
	point, err := pub.ECDH()
	if err != nil {
		return nil, err
	}
	return &deviceKey{Signer: s, keys: d, handle: append([]byte(nil), handle...), public: point}, nil
}

// find returns the one object of a class with a handle.
func (d *DeviceKeys) find(c *connection, l *lease, class uint, handle []byte) (object, error) {
	d.token.counts.finds.Add(1)
	found, err := c.device.findObjects(l.session, d.of(class, handle), 2)
	if err != nil {
		return 0, err
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%w: %d private keys have one handle", ErrAmbiguous, len(found))
	}
	return found[0], nil
}

func (d *DeviceKeys) of(class uint, handle []byte) []attribute {
	return []attribute{number(attrClass, class), flag(attrToken, true), text(attrLabel, d.label), {attrID, handle}}
}

// Destroy destroys a key pair. One that is not there is no error.
func (d *DeviceKeys) Destroy(handle []byte) error {
	if len(handle) != handleBytes { // an empty one would mean all
		return fmt.Errorf("%w: a handle of %d bytes", ErrURI, len(handle))
	}
	return d.token.use(context.Background(), func(c *connection, l *lease) error {
		for _, class := range []uint{classPrivate, classPublic} {
			d.token.counts.finds.Add(1)
			found, err := c.device.findObjects(l.session, d.of(class, handle), 2)
			if err != nil {
				return err
			}
			for _, o := range found {
				if err := c.device.destroyObject(l.session, o); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// deviceKey is a private key that signs and agrees.
type deviceKey struct {
	crypto.Signer
	keys   *DeviceKeys
	handle []byte
	public *ecdh.PublicKey
}

// PublicKey returns the public key.
func (k *deviceKey) PublicKey() *ecdh.PublicKey { return k.public }

// Curve returns the curve.
func (k *deviceKey) Curve() ecdh.Curve { return k.public.Curve() }

// ECDH agrees on a secret, which is what comes out of the token: the caller wipes it. The private key stays.
func (k *deviceKey) ECDH(remote *ecdh.PublicKey) ([]byte, error) {
	if remote.Curve() != k.Curve() {
		return nil, fmt.Errorf("%w: the other key is on another curve", dukpt.ErrUnsupported)
	}
	size := (len(remote.Bytes()) - 1) / 2
	var z secret.Bytes
	err := k.keys.token.use(context.Background(), func(c *connection, l *lease) error {
		private, err := k.keys.find(c, l, classPrivate, k.handle)
		if err != nil {
			return err
		}
		template := []attribute{
			number(attrClass, classSecret), number(attrKeyType, typeGeneric), flag(attrToken, false), flag(attrPrivate, true),
			flag(attrSensitive, false), flag(attrExtractable, true), number(attrValueLen, uint(size)),
		}
		o, err := c.device.deriveKey(l.session, mechanism{code: mechECDH, public: remote.Bytes()}, private, template)
		if err != nil {
			return err
		}
		got, err := c.device.attributes(l.session, o, []uint{attrValue})
		if gone := c.device.destroyObject(l.session, o); err == nil {
			err = gone
		}
		if err != nil {
			return err
		}
		defer secret.Wipe(got[0].bytes)
		if err := whole(got[0].bytes, size, nil); err != nil {
			return err
		}
		z = secret.From(got[0].bytes)
		return nil
	})
	if err != nil {
		return nil, err
	}
	defer z.Wipe()
	return append([]byte(nil), z.Expose()...), nil
}
