// Package audittest has keys of checkpoints that behave as keys in broken tokens do.
package audittest

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/audit"
)

// SilentKey is a signing key in a token that answers once, when it is asked what key it is, and then not before the test ends.
type SilentKey struct {
	Signer *audit.Signer
	Waited <-chan struct{} // closed when a signature is waited for
}

// NewSilentKey makes a key that does not answer.
func NewSilentKey(tb testing.TB) *SilentKey {
	tb.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	waited, gone := make(chan struct{}), make(chan struct{})
	tb.Cleanup(func() { close(gone) })
	signer, _, err := audit.NewSignerOf("latchkey/SHOP/held", &silent{PrivateKey: private, waited: waited, gone: gone})
	if err != nil {
		tb.Fatal(err)
	}
	return &SilentKey{signer, waited}
}

type silent struct {
	ed25519.PrivateKey
	mu           sync.Mutex
	asked        bool
	waited, gone chan struct{}
}

// Sign implements crypto.Signer.
func (k *silent) Sign(r io.Reader, msg []byte, o crypto.SignerOpts) ([]byte, error) {
	k.mu.Lock()
	first := !k.asked
	k.asked = true
	k.mu.Unlock()
	if first {
		return k.PrivateKey.Sign(r, msg, o)
	}
	close(k.waited)
	<-k.gone
	return nil, errors.New("gone")
}
