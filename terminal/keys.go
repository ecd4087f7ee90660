package terminal

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// Keys makes and keeps the private keys of a terminal, for TLS and for key agreement, where nobody can read them. What lies
// sealed on the medium instead of a key is its handle. It is used by one goroutine at a time, but for the keys of Open, which TLS
// uses as it likes.
type Keys interface {
	// Make makes a key pair, durably, and returns its handle: 1 to MaxHandle bytes by which Open finds it. With agrees the key
	// is for key agreement, and signs the request for its certificate.
	Make(curve elliptic.Curve, agrees bool) (handle []byte, err error)
	// Open returns the private key of a handle, which signs by ECDSA. One that agrees is an ecdh.KeyExchanger, too.
	Open(handle []byte) (crypto.Signer, error)
	// Destroy destroys the key of a handle. One that is not there is no error.
	Destroy(handle []byte) error
}

// MaxHandle bounds a handle of Keys in bytes.
const MaxHandle = 256

// handlePrefix is what a file has before a handle, where another terminal has a private key. PKCS #8 begins with 30.
var handlePrefix = []byte("latchkey key handle\x00")

// handle returns the handle that a file has instead of a key.
func handle(key secret.Bytes) ([]byte, bool) {
	return bytes.CutPrefix(key.Expose(), handlePrefix)
}

// makeKey makes a private key: in the device, or in memory as PKCS #8.
func (s store) makeKey(curve elliptic.Curve, agrees bool) (secret.Bytes, error) {
	if s.keys == nil {
		return generateKey(curve)
	}
	h, err := s.keys.Make(curve, agrees)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("terminal: make a key: %w", err)
	}
	if len(h) < 1 || len(h) > MaxHandle {
		return secret.Bytes{}, fmt.Errorf("terminal: make a key: a handle of %d bytes, want 1 to %d", len(h), MaxHandle)
	}
	return secret.From(append(bytes.Clone(handlePrefix), h...)), nil
}

// openKey opens what makeKey made, or the maker of the device.
func (s store) openKey(key secret.Bytes) (crypto.Signer, error) {
	h, ok := handle(key)
	if !ok {
		return openKey(key)
	}
	if s.keys == nil {
		return nil, errors.New("the private key is in a device: give its Keys")
	}
	return s.keys.Open(h)
}

// dropKey destroys a key that is not used any more. A power cut before leaves it in the device, where it harms nobody.
func (s store) dropKey(key secret.Bytes) error {
	defer key.Wipe()
	h, ok := handle(key)
	if !ok || s.keys == nil {
		return nil
	}
	if err := s.keys.Destroy(h); err != nil {
		return fmt.Errorf("terminal: destroy a key: %w", err)
	}
	return nil
}

// keyOf opens a private key and checks that it is that of the certificate.
func (s store) keyOf(key secret.Bytes, leaf *x509.Certificate) (crypto.Signer, error) {
	if _, ok := handle(key); !ok {
		return parsePrivateKey(key, leaf)
	}
	signer, err := s.openKey(key)
	if err != nil {
		return nil, err
	}
	pub, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(leaf.PublicKey) {
		return nil, errors.New("the private key is not that of the certificate")
	}
	return signer, nil
}

// exchanger returns a private key as one that agrees.
func exchanger(signer crypto.Signer) (ecdh.KeyExchanger, error) {
	switch k := signer.(type) {
	case *ecdsa.PrivateKey:
		private, err := k.ECDH()
		if err != nil {
			return nil, err
		}
		return private, nil
	case ecdh.KeyExchanger:
		return k, nil
	}
	return nil, fmt.Errorf("agreement key of type %T", signer)
}
