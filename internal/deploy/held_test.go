package deploy

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/embedded"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// TestKeysElsewhere makes a deployment some of whose private keys are not in its folder.
func TestKeysElsewhere(t *testing.T) {
	t.Parallel()
	held := map[string]crypto.Signer{}
	dir := filepath.Join(t.TempDir(), "pos")
	d, err := Create(dir, Options{
		Tenant: "ACME", Environment: keyset.Test, Passphrase: passphrase, Clock: clock,
		Key: func(name string, curve elliptic.Curve) (crypto.Signer, error) {
			if strings.HasPrefix(name, "OPERATOR") || name == RootKey(identity.ServicesCA) || name == IssuingKey(identity.ServicesCA) {
				return nil, nil
			}
			key, err := ecdsa.GenerateKey(curve, rand.Reader)
			held[name] = key
			return key, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, name := range []string{
		RootKey(identity.TerminalCA), IssuingKey(identity.TerminalCA), RootKey(identity.KeyDistCA), IssuingKey(identity.KeyDistCA),
		ServiceDecrypt, ServiceAcquirer, ServiceRA, SignerRegistry, ServiceKeydist, SignerKDH, FirstAuditor,
	} {
		if held[name] == nil {
			t.Errorf("nobody asked for %s", name)
		}
	}
	if _, err := d.Issuer(identity.TerminalCA); !errors.Is(err, embedded.ErrNoKey) {
		t.Errorf("an issuer whose key is elsewhere: %v", err)
	}
	if _, err := d.Issuer(identity.ServicesCA); err != nil {
		t.Errorf("an issuer whose key is here: %v", err)
	}
	path := d.Path("services", SignerKDH, certFile)
	cert, err := CredentialOf(path, held[SignerKDH])
	if err != nil || cert.PrivateKey != held[SignerKDH] || len(cert.Certificate) != 2 || cert.Leaf == nil {
		t.Errorf("credential %v, %v", cert.Leaf, err)
	}
	if _, err := CredentialOf(path, held[ServiceRA]); !errors.Is(err, ca.ErrOtherKey) {
		t.Errorf("the key of another: %v", err)
	}
	if _, err := CredentialOf(path+"x", held[SignerKDH]); err == nil {
		t.Error("a certificate that is not there")
	}
	if _, err := d.ServiceCredential(SignerKDH); err == nil {
		t.Error("a sealed key that is not there opens")
	}
}

// TestKeysThatAreNotMade leaves nothing behind.
func TestKeysThatAreNotMade(t *testing.T) {
	t.Parallel()
	no := errors.New("the token is away")
	for _, fails := range []string{RootKey(identity.TerminalCA), IssuingKey(identity.TerminalCA), ServiceDecrypt} {
		dir := filepath.Join(t.TempDir(), "pos")
		_, err := Create(dir, Options{
			Tenant: "ACME", Environment: keyset.Test, Passphrase: passphrase, Clock: clock,
			Key: func(name string, curve elliptic.Curve) (crypto.Signer, error) {
				if name == fails {
					return nil, no
				}
				return ecdsa.GenerateKey(curve, rand.Reader)
			},
		})
		if !errors.Is(err, no) {
			t.Errorf("%s: %v", fails, err)
		}
		if found, _ := filepath.Glob(dir + "/*"); len(found) != 0 {
			t.Errorf("%s leaves %v", fails, found)
		}
	}
}
