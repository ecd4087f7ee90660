package embedded_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/ca/embedded"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// elsewhere is a key that is not in the folder, and that may die, as a token does.
type elsewhere struct {
	crypto.Signer
	dead bool
}

var errDead = errors.New("the token is away")

func (e *elsewhere) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if e.dead {
		return nil, errDead
	}
	return e.Signer.Sign(r, digest, o)
}

func heldKey(t testing.TB, curve elliptic.Curve) *elsewhere {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &elsewhere{Signer: k}
}

// createHeld makes an authority with nothing secret in its folder, and so without a passphrase.
func createHeld(t testing.TB, kind embedded.Kind, o embedded.Options) (*embedded.Issuer, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	i, err := embedded.CreateWith(dir, kind, secret.Bytes{}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	return i, dir
}

func TestHeldConformance(t *testing.T) {
	t.Parallel()
	for _, kind := range identity.Authorities() {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			c := &clock{now: noon}
			issuer, _ := createHeld(t, kind, embedded.Options{Root: heldKey(t, elliptic.P384()), Issuing: heldKey(t, elliptic.P256()), Clock: c.Now})
			catest.Run(t, func(*testing.T) catest.Fixture {
				return catest.Fixture{Issuer: issuer, Authority: kind, Now: c.Now}
			})
		})
	}
}

// TestHeldElsewhere opens an authority whose keys are not in its folder, with the right key, with others and with none.
func TestHeldElsewhere(t *testing.T) {
	t.Parallel()
	root, issuing := heldKey(t, elliptic.P384()), heldKey(t, elliptic.P256())
	made, dir := createHeld(t, identity.TerminalCA, embedded.Options{Root: root, Issuing: issuing})
	if !made.Root().PublicKey.(*ecdsa.PublicKey).Equal(root.Public()) || !made.Chain()[0].PublicKey.(*ecdsa.PublicKey).Equal(issuing.Public()) {
		t.Error("the certificates are of other keys")
	}
	for _, name := range []string{embedded.RootKeyFile, embedded.IssuingKeyFile} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is in the folder: %v", name, err)
		}
	}
	for name, tt := range map[string]struct {
		o    embedded.Options
		want error
	}{
		"no key":        {embedded.Options{}, embedded.ErrNoKey},
		"the root's":    {embedded.Options{Issuing: root}, ca.ErrOtherKey},
		"another one":   {embedded.Options{Issuing: heldKey(t, elliptic.P256())}, ca.ErrOtherKey},
		"one of nobody": {embedded.Options{Issuing: &elsewhere{Signer: issuing.Signer, dead: true}}, errDead},
	} {
		if i, err := embedded.OpenWith(dir, secret.Bytes{}, tt.o); !errors.Is(err, tt.want) || i != nil {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	i, err := embedded.OpenWith(dir, secret.Bytes{}, embedded.Options{Issuing: issuing})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	leaf := ca.Request{PublicKey: heldKey(t, elliptic.P256()).Public(), Identity: identity.Identity{Tenant: "ACME", Role: identity.Terminal, Name: "T-1"}}
	issuing.dead = true
	if _, err := i.Issue(t.Context(), leaf); err == nil {
		t.Error("it issues without its key")
	}
	if err := i.Health(t.Context()); !errors.Is(err, errDead) {
		t.Errorf("without its key it says %v", err)
	}
	issuing.dead = false
	if _, err := i.Issue(t.Context(), leaf); err != nil {
		t.Errorf("with its key again: %v", err)
	}
	if err := i.Health(t.Context()); err != nil {
		t.Errorf("with its key again it says %v", err)
	}
}

// TestHeldKeysThatDoNotSign makes no authority with them.
func TestHeldKeysThatDoNotSign(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]embedded.Options{
		"root": {Root: &elsewhere{Signer: heldKey(t, elliptic.P384()), dead: true}}, "issuing": {Issuing: &elsewhere{Signer: heldKey(t, elliptic.P256()), dead: true}},
	} {
		dir := filepath.Join(t.TempDir(), "ca")
		if i, err := embedded.CreateWith(dir, identity.TerminalCA, phrase(t), o); err == nil || i != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something is left: %v", name, err)
		}
	}
}
