package deploy

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

const (
	trustListFile = "list.signed"
	trustKeyFile  = "list.key.sealed"
	trustPinFile  = "list.pin"
)

// createTrustList makes the key that signs trust lists, and the first list: the roots of the three authorities.
func createTrustList(dir string, c Config, passphrase secret.Bytes) error {
	list := &trustlist.List{Tenant: string(c.Tenant), Version: 1, NotBefore: c.Created.UTC().Truncate(time.Second)}
	for authority, roots := range map[identity.Authority]*[]*x509.Certificate{
		identity.TerminalCA: &list.Terminals, identity.ServicesCA: &list.Services, identity.KeyDistCA: &list.KeyDist,
	} {
		var err error
		if *roots, err = readCertificates(TrustPath(dir, authority)); err != nil {
			return err
		}
	}
	key, der, err := generateKey()
	if err != nil {
		return err
	}
	defer der.Wipe()
	doc, err := trustlist.Sign(list, key)
	if err != nil {
		return err
	}
	sealed, err := seal.Seal(passphrase, trustKeyLabel, der.Expose())
	if err != nil {
		return err
	}
	if err := seal.WriteFile(filepath.Join(dir, "trust", trustKeyFile), sealed, 0o600); err != nil {
		return err
	}
	pin, err := trustlist.PinOf(key.Public())
	if err != nil {
		return err
	}
	if err := seal.WriteFile(filepath.Join(dir, "trust", trustPinFile), []byte(pin.String()+"\n"), 0o644); err != nil {
		return err
	}
	return seal.WriteFile(filepath.Join(dir, "trust", trustListFile), doc, 0o644)
}

// LoadTrustList reads a signed trust list and, beside it, the pin of the key that signs it, in a file of the same name
// that ends in .pin. It verifies one by the other.
func LoadTrustList(path string, tenant keyset.TenantID) (doc []byte, pin trustlist.Pin, err error) {
	if doc, err = os.ReadFile(path); err != nil {
		return nil, trustlist.Pin{}, fmt.Errorf("deploy: %w", err)
	}
	text, err := os.ReadFile(strings.TrimSuffix(path, filepath.Ext(path)) + ".pin")
	if err != nil {
		return nil, trustlist.Pin{}, fmt.Errorf("deploy: %w", err)
	}
	if pin, err = trustlist.ParsePin(strings.TrimSpace(string(text))); err != nil {
		return nil, trustlist.Pin{}, fmt.Errorf("deploy: pin of %s: %w", path, err)
	}
	if _, err := trustlist.Open(doc, trustlist.Accepted{Tenant: string(tenant), Pins: []trustlist.Pin{pin}}); err != nil {
		return nil, trustlist.Pin{}, fmt.Errorf("deploy: %s: %w", path, err)
	}
	return doc, pin, nil
}

// createPepper makes the key under which one-time codes are stored.
func createPepper(dir string, passphrase secret.Bytes) error {
	pepper := secret.New(32)
	defer pepper.Wipe()
	_, _ = rand.Read(pepper.Expose()) // cannot fail
	sealed, err := seal.Seal(passphrase, pepperLabel, pepper.Expose())
	if err != nil {
		return err
	}
	return seal.WriteFile(filepath.Join(dir, pepperFile), sealed, 0o600)
}

// OpenPepper opens the key under which one-time codes are stored. The caller wipes it. Errors name the file and wrap
// seal.ErrPassphrase or seal.ErrFormat.
func OpenPepper(path string, passphrase secret.Bytes) (secret.Bytes, error) {
	sealed, err := readSealed(path)
	if err != nil {
		return secret.Bytes{}, err
	}
	pepper, err := seal.Open(passphrase, pepperLabel, sealed)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("deploy: %s: %w", path, err)
	}
	return pepper, nil
}
