package audit

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"strings"
	"testing"
)

const heldName = "latchkey/SHOP/decryptd"

// TestSignerOf signs with a key that is held elsewhere, in the form that a sealed one gives.
func TestSignerOf(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, text, err := NewSignerOf(heldName, private)
	if err != nil || s.Name() != heldName {
		t.Fatal(err)
	}
	v := must(NewVerifier(text))
	c, err := v.Open(must(s.Sign(Tree{})))
	if err != nil || c.Origin != heldName || c.Size != 0 {
		t.Errorf("%+v, %v", c, err)
	}
	other, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := NewSignerOf(heldName, lyingKey{private, other}); err == nil || !strings.Contains(err.Error(), "does not sign for its public half") {
		t.Errorf("another public half: %v", err)
	}
	if _, _, err := NewSignerOf(heldName, awayKey{public}); !strings.Contains(errText(err), "away") {
		t.Errorf("a key that is away: %v", err)
	}
	for _, name := range []string{"", "with space", "with+plus"} {
		if _, _, err := NewSignerOf(name, private); err == nil {
			t.Errorf("name %q is taken", name)
		}
	}
	ec := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	if _, _, err := NewSignerOf(heldName, ec); err == nil {
		t.Error("a key of ECDSA is taken")
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

type lyingKey struct {
	crypto.Signer
	public ed25519.PublicKey
}

func (l lyingKey) Public() crypto.PublicKey { return l.public }

type awayKey struct{ public ed25519.PublicKey }

func (a awayKey) Public() crypto.PublicKey { return a.public }

func (a awayKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("away")
}

// TestKeysInTurn has a log whose checkpoints two keys have signed, one after the other: both count where both are published, and
// neither does for the other.
func TestKeysInTurn(t *testing.T) {
	t.Parallel()
	oldSigner, firstText, err := GenerateKey(heldName)
	if err != nil {
		t.Fatal(err)
	}
	m := &memory{}
	m.append(full())
	m.checkpoints = append(m.checkpoints, must(must(NewSigner(oldSigner)).Sign(m.tree)))
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, text := mustHeld(t, heldName, private)
	m.append(full())
	m.checkpoints = append(m.checkpoints, must(s.Sign(m.tree)))
	if r, err := Verify(context.Background(), m, must(NewVerifier(firstText+"\n"+text+"\n"))); err != nil || r.Checkpoints != len(m.checkpoints) {
		t.Errorf("both keys: %+v, %v", r, err)
	}
	for _, one := range []string{firstText, text} {
		if _, err := Verify(context.Background(), m, must(NewVerifier(one))); !errors.Is(err, ErrCheckpoint) {
			t.Errorf("one of two keys: %v", err)
		}
	}
	_, elsewhere := mustHeld(t, "latchkey/SHOP/keyd", private)
	for name, text := range map[string]string{
		"keys of two logs": firstText + "\n" + elsewhere, "a key twice, and none": firstText + "\n\n" + firstText, "no key": "", "too many": strings.Repeat(firstText+"\n", maxKeys+1),
	} {
		if _, err := NewVerifier(text); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func mustHeld(t *testing.T, name string, key crypto.Signer) (*Signer, string) {
	t.Helper()
	s, text, err := NewSignerOf(name, key)
	if err != nil {
		t.Fatal(err)
	}
	return s, text
}
