package hsm

import (
	"context"
	"crypto"
	"fmt"
	"io"
)

// signer is a private key in the token. It finds its key again when the token comes back.
type signer struct {
	token  *Token
	object URI
	public crypto.PublicKey
}

// NamesKey reports whether a URI names an object and nothing else, as that of a signer in a token that is known: by object, id
// or both, and as type private if a type is there.
func (u URI) NamesKey() bool {
	object := u
	object.path[atObject], object.path[atID], object.path[atType] = value{}, value{}, value{}
	kind := u.path[atType]
	return object.IsZero() && (u.path[atObject].set || u.path[atID].set) && (!kind.set || kind.text == "private")
}

// Signer returns the private key that a URI names by object, id or both, as a signer for certificates, TLS and signatures: RSA,
// ECDSA or Ed25519. It is safe for concurrent use, and finds its key again when the token was lost. A key that could be read or
// extracted is refused. Errors wrap engine.ErrKeyNotFound, ErrAmbiguous, ErrAttributes, ErrURI or engine.ErrUnavailable.
func (t *Token) Signer(ctx context.Context, object URI) (crypto.Signer, error) {
	if !object.path[atObject].set && !object.path[atID].set || object.path[atType].set && object.path[atType].text != "private" {
		return nil, fmt.Errorf("%w: a signer is named by object or id, and is of type private", ErrURI)
	}
	s := &signer{token: t, object: object}
	err := t.use(ctx, func(c *connection, l *lease) error {
		found, err := s.find(c, l)
		if err == nil {
			s.public = found.Public()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Public returns the public key.
func (s *signer) Public() crypto.PublicKey { return s.public }

// Sign signs a digest in the token. The random source is the token's.
func (s *signer) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	var signature []byte
	err := s.token.use(context.Background(), func(c *connection, l *lease) error {
		found, err := s.find(c, l)
		if err != nil {
			return err
		}
		if same, ok := s.public.(interface{ Equal(crypto.PublicKey) bool }); !ok || !same.Equal(found.Public()) {
			return errOtherKey
		}
		if ed, ok := found.(*edwards); ok {
			signature, err = ed.sign(c.device, l.session, digest, opts)
			return err
		}
		signature, err = found.(crypto.Signer).Sign(rand, digest, opts)
		return err
	})
	return signature, err
}

var errOtherKey = fmt.Errorf("%w: the key pair of this name is another one now", ErrAttributes)

// half is the public half of a key pair, as a connection has it: a crypto.Signer, or *edwards.
type half interface{ Public() crypto.PublicKey }

// find returns the key pair as a connection has it.
func (s *signer) find(c *connection, l *lease) (half, error) {
	if known, ok := c.signers.Load(s.object); ok {
		return known.(half), nil // nothing else is stored
	}
	template := []attribute{number(attrClass, classPrivate)}
	var label, id []byte
	if v := s.object.path[atObject]; v.set {
		label = []byte(v.text)
		template = append(template, attribute{attrLabel, label})
	}
	if v := s.object.path[atID]; v.set {
		id = []byte(v.text)
		template = append(template, attribute{attrID, id})
	}
	s.token.counts.finds.Add(1)
	keys, err := c.device.findObjects(l.session, template, 2)
	if err != nil {
		return nil, err
	}
	if len(keys) == 1 {
		ed, err := findEdwards(c.device, l.session, keys[0])
		if err != nil {
			return nil, err
		}
		if ed != nil {
			if err := staysInside(c.device, l.session, keys[0]); err != nil {
				return nil, err
			}
			c.signers.Store(s.object, ed)
			return ed, nil
		}
	}
	found, err := c.device.signer(label, id)
	if err != nil {
		return nil, err
	}
	if len(keys) != 1 {
		return nil, fmt.Errorf("%w: %d private keys are called so", ErrAmbiguous, len(keys))
	}
	if err := staysInside(c.device, l.session, keys[0]); err != nil {
		return nil, err
	}
	c.signers.Store(s.object, found)
	return found, nil
}

// staysInside refuses a private key that could be read or extracted.
func staysInside(d cryptoki, s session, o object) error {
	got, err := d.attributes(s, o, []uint{attrSensitive, attrExtractable})
	if err != nil {
		return err
	}
	if !got[0].asFlag() || got[1].asFlag() {
		return fmt.Errorf("%w: the private key could be read or extracted", ErrAttributes)
	}
	return nil
}
