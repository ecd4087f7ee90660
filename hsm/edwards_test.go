package hsm

import (
	"crypto"
	"crypto/ed25519"
	"errors"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
)

// TestEd25519 makes a key pair inside, signs with it, loses the token, and signs again.
func TestEd25519(t *testing.T) {
	t.Parallel()
	o, faults := withFaults(Options{Clock: lasting()}, nil) // what is lost at once would not be connected again at once
	u := hsmURI(t)
	token := openAgain(t, u, o)
	f := *faults
	made, err := token.GenerateEd25519(t.Context(), "audit")
	if err != nil {
		t.Fatal(err)
	}
	public := made.Public().(ed25519.PublicKey)
	sign := func(s crypto.Signer) error {
		signature, err := s.Sign(nil, message, crypto.Hash(0))
		if err == nil && !ed25519.Verify(public, message, signature) {
			return errAnswer
		}
		return err
	}
	if err := sign(made); err != nil {
		t.Error(err)
	}
	if _, err := made.Sign(nil, make([]byte, 32), crypto.SHA256); !errors.Is(err, ErrAttributes) {
		t.Errorf("a digest: %v", err)
	}
	f.fail("sign", rvDeviceError)
	if err := sign(made); err != nil || token.Stats().Retries != 1 {
		t.Errorf("after a loss: %v, %+v", err, token.Stats())
	}
	f.lie("sign", func(b []byte) []byte { b[0] ^= 1; return b })
	if err := sign(made); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("a signature that is none: %v", err)
	}
	f.lie("", nil)
	again, err := openAgain(t, u, Options{}).Signer(t.Context(), KeyURI("audit"))
	if err != nil || !public.Equal(again.Public()) {
		t.Fatalf("opened again: %v", err)
	}
	if err := sign(again); err != nil {
		t.Error(err)
	}
	if _, err := token.GenerateEd25519(t.Context(), "audit"); !errors.Is(err, ErrExists) {
		t.Errorf("a name that is taken: %v", err)
	}
	if _, err := token.GenerateEd25519(t.Context(), ""); !errors.Is(err, ErrURI) {
		t.Errorf("no name: %v", err)
	}
	f.mu.Lock()
	f.lacks[mechEdKeyPair] = true
	f.mu.Unlock()
	if _, err := token.GenerateEd25519(t.Context(), "other"); !errors.Is(err, dukpt.ErrUnsupported) {
		t.Errorf("without the mechanism: %v", err)
	}
	for name, change := range map[string]func(uint, []byte) []byte{
		"a point that is none": func(code uint, b []byte) []byte {
			if code == attrECPoint {
				return b[:len(b)-1]
			}
			return b
		},
		"a key that can be extracted": func(code uint, b []byte) []byte {
			if code == attrExtractable {
				return []byte{1}
			}
			return b
		},
	} {
		fresh := openAgain(t, u, o)
		(*faults).rewrite(change)
		if s, err := fresh.Signer(t.Context(), KeyURI("audit")); !errors.Is(err, ErrAttributes) || s != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
