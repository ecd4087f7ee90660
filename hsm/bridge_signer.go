//go:build cgo && !nohsm

package hsm

import (
	"crypto"
	"fmt"
	"io"

	"github.com/ThalesGroup/crypto11"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
)

func (b *bridge) signer(label, id []byte) (crypto.Signer, error) {
	b.mu.Lock()
	context := b.context
	b.mu.Unlock()
	if context == nil {
		return nil, rvNotInitialized
	}
	found, err := context.FindKeyPairs(id, label)
	switch {
	case err != nil:
		return nil, ofSigner(err)
	case len(found) == 0:
		return nil, fmt.Errorf("%w: no key pair is called so", engine.ErrKeyNotFound)
	case len(found) > 1:
		return nil, fmt.Errorf("%w: %d key pairs are called so", ErrAmbiguous, len(found))
	}
	return bridgeSigner{found[0]}, nil
}

// bridgeSigner is a signer of crypto11 whose errors are those of this package.
type bridgeSigner struct{ crypto11.Signer }

// Sign signs a digest.
func (s bridgeSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	signature, err := s.Signer.Sign(rand, digest, opts)
	return signature, ofSigner(err)
}

// ofSigner converts an error of crypto11, which keeps sessions that are spoilt: only with another context do they go away.
func ofSigner(err error) error {
	err = convert(err)
	if c := classify(err); err != nil && (c == classSession || c == classLogin) {
		return fmt.Errorf("%w: %w", rvNotInitialized, err)
	}
	return err
}
