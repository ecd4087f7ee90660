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

// Signer returns the private key that a URI names by object, id or both, as a signer for certificates, TLS and signatures: RSA
// or ECDSA. It is safe for concurrent use, and finds its key again when the token was lost. Errors wrap engine.ErrKeyNotFound,
// ErrAmbiguous, ErrURI or engine.ErrUnavailable.
func (t *Token) Signer(ctx context.Context, object URI) (crypto.Signer, error) {
	if !object.path[atObject].set && !object.path[atID].set || object.path[atType].set && object.path[atType].text != "private" {
		return nil, fmt.Errorf("%w: a signer is named by object or id, and is of type private", ErrURI)
	}
	s := &signer{token: t, object: object}
	err := t.use(ctx, func(c *connection, _ *lease) error {
		found, err := s.find(c)
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
	err := s.token.use(context.Background(), func(c *connection, _ *lease) error {
		found, err := s.find(c)
		if err != nil {
			return err
		}
		if same, ok := s.public.(interface{ Equal(crypto.PublicKey) bool }); !ok || !same.Equal(found.Public()) {
			return errOtherKey
		}
		signature, err = found.Sign(rand, digest, opts)
		return err
	})
	return signature, err
}

var errOtherKey = fmt.Errorf("%w: the key pair of this name is another one now", ErrAttributes)

// find returns the key pair as a connection has it.
func (s *signer) find(c *connection) (crypto.Signer, error) {
	if known, ok := c.signers.Load(s.object); ok {
		return known.(crypto.Signer), nil // nothing else is stored
	}
	var label, id []byte
	if v := s.object.path[atObject]; v.set {
		label = []byte(v.text)
	}
	if v := s.object.path[atID]; v.set {
		id = []byte(v.text)
	}
	found, err := c.device.signer(label, id)
	if err != nil {
		return nil, err
	}
	c.signers.Store(s.object, found)
	return found, nil
}
