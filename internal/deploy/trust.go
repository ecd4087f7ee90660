package deploy

import (
	"crypto"
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

// TrustListPath returns the file with the signed trust list of terminals.
func TrustListPath(dir string) string { return filepath.Join(dir, "trust", trustListFile) }

// createTrustList makes the key that signs trust lists, and the first list: the roots of the three authorities.
func createTrustList(dir string, c Config, passphrase secret.Bytes) error {
	list, err := nextTrustList(dir, c.Tenant, 1, c.Created)
	if err != nil {
		return err
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
	return seal.WriteFile(TrustListPath(dir), doc, 0o644)
}

// nextTrustList is a list, not yet signed, of the roots as they are in DIR/trust.
func nextTrustList(dir string, tenant keyset.TenantID, version uint64, at time.Time) (*trustlist.List, error) {
	list := &trustlist.List{Tenant: string(tenant), Version: version, NotBefore: at.UTC().Truncate(time.Second)}
	for authority, roots := range map[identity.Authority]*[]*x509.Certificate{
		identity.TerminalCA: &list.Terminals, identity.ServicesCA: &list.Services, identity.KeyDistCA: &list.KeyDist,
	} {
		var err error
		if *roots, err = readCertificates(TrustPath(dir, authority)); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// UpdateTrustList signs the next version of the trust list, from now on, and puts it into the place of the one before: the
// roots as they are in DIR/trust, and the keys that may sign later versions beside the one that signs now. The registration
// authority hands it out within a second, and terminals take it when they next renew or rekey. Errors wrap
// trustlist.ErrTrust, seal.ErrPassphrase, seal.ErrFormat or the error of the file system; the list is as it was then.
func (d *Deployment) UpdateTrustList(next []trustlist.Pin) (*trustlist.List, error) {
	var list *trustlist.List
	err := underLock(d.dir, func() error {
		current, pin, err := OpenTrustList(TrustListPath(d.dir), d.config.Tenant)
		if err != nil {
			return err
		}
		doc, err := d.signTrustList(current, next, pin)
		if err != nil {
			return err
		}
		if list, err = trustlist.Open(doc, accepted(d.config.Tenant, pin).Next(current)); err != nil { // as terminals will
			return err
		}
		return seal.WriteFile(TrustListPath(d.dir), doc, 0o644)
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// signTrustList signs what follows the current list with the key of this pin.
func (d *Deployment) signTrustList(current *trustlist.List, next []trustlist.Pin, pin trustlist.Pin) ([]byte, error) {
	list, err := nextTrustList(d.dir, d.config.Tenant, current.Version+1, d.clock())
	if err != nil {
		return nil, err
	}
	if list.NotBefore.Before(current.NotBefore) {
		return nil, fmt.Errorf("deploy: the clock is behind the current trust list, which is of %s", current.NotBefore.Format(time.RFC3339))
	}
	list.Next = next
	key, err := d.trustKey()
	if err != nil {
		return nil, err
	}
	if own, err := trustlist.PinOf(key.Public()); err != nil || own != pin {
		return nil, fmt.Errorf("deploy: the key in %s is not that of %s", trustKeyFile, trustPinFile)
	}
	return trustlist.Sign(list, key)
}

// trustKey opens the key that signs trust lists.
func (d *Deployment) trustKey() (crypto.Signer, error) {
	path := d.Path("trust", trustKeyFile)
	der, err := openSealed(path, trustKeyLabel, d.passphrase)
	if err != nil {
		return nil, err
	}
	defer der.Wipe()
	key, err := x509.ParsePKCS8PrivateKey(der.Expose())
	if err != nil {
		return nil, fmt.Errorf("deploy: %s does not hold a private key", path)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("deploy: %s does not hold a key that signs", path)
	}
	return signer, nil
}

// LoadTrustList reads a signed trust list and, beside it, the pin of the key that signs it, in a file of the same name
// that ends in .pin. It verifies one by the other.
func LoadTrustList(path string, tenant keyset.TenantID) ([]byte, trustlist.Pin, error) {
	doc, _, pin, err := loadTrustList(path, tenant)
	return doc, pin, err
}

// OpenTrustList is LoadTrustList for who wants to know what the list says.
func OpenTrustList(path string, tenant keyset.TenantID) (*trustlist.List, trustlist.Pin, error) {
	_, list, pin, err := loadTrustList(path, tenant)
	return list, pin, err
}

func loadTrustList(path string, tenant keyset.TenantID) ([]byte, *trustlist.List, trustlist.Pin, error) {
	doc, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, trustlist.Pin{}, fmt.Errorf("deploy: %w", err)
	}
	text, err := os.ReadFile(strings.TrimSuffix(path, filepath.Ext(path)) + ".pin")
	if err != nil {
		return nil, nil, trustlist.Pin{}, fmt.Errorf("deploy: %w", err)
	}
	pin, err := trustlist.ParsePin(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, nil, trustlist.Pin{}, fmt.Errorf("deploy: pin of %s: %w", path, err)
	}
	list, err := trustlist.Open(doc, accepted(tenant, pin))
	if err != nil {
		return nil, nil, trustlist.Pin{}, fmt.Errorf("deploy: %s: %w", path, err)
	}
	return doc, list, pin, nil
}

// accepted is what a pin vouches for.
func accepted(tenant keyset.TenantID, pin trustlist.Pin) trustlist.Accepted {
	return trustlist.Accepted{Tenant: string(tenant), Pins: []trustlist.Pin{pin}}
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
	return openSealed(path, pepperLabel, passphrase)
}
