package embedded

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/ca"
)

// The files of the folder.
const (
	RootFile       = "root.crt"
	IssuingFile    = "issuing.crt"
	RootKeyFile    = "root.key.sealed"
	IssuingKeyFile = "issuing.key.sealed"
	LedgerFile     = "issued.jsonl"
)

// ErrNoKey says that a key is not in the folder: it is held elsewhere, and was not given.
var ErrNoKey = errors.New("embedded: the key is not in the folder")

// Options adjust an authority. The zero value of each field means what stands beside it.
type Options struct {
	Root    crypto.Signer    // key of the root, held elsewhere: in a token; nil: sealed in the folder. Opening an issuer never needs it
	Issuing crypto.Signer    // issuing key, held elsewhere; nil: sealed in the folder
	Clock   func() time.Time // nil: time.Now
	// CRL and Status are http URLs, for third parties, of the revocation list and of what answers about single certificates (OCSP).
	// They are written into certificates; empty: nothing is.
	CRL, Status string
}

// Create makes a new authority in dir, which must not exist or be empty, and opens it. The folder appears whole or not
// at all. Keys are sealed under the passphrase, which the caller keeps and wipes. A nil clock is time.Now; it also serves
// the issuer that is returned.
func Create(dir string, kind Kind, passphrase secret.Bytes, clock func() time.Time) (*Issuer, error) {
	return CreateWith(dir, kind, passphrase, Options{Clock: clock})
}

// CreateWith is Create with keys that are held elsewhere: of those there is nothing in the folder.
func CreateWith(dir string, kind Kind, passphrase secret.Bytes, o Options) (*Issuer, error) {
	if len(kind.Roles()) == 0 {
		return nil, fmt.Errorf("embedded: no such authority: %v", kind)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if err := vacant(dir); err != nil {
		return nil, err
	}
	made, err := generate(kind, o.Clock(), o)
	if err != nil {
		return nil, err
	}
	if o.Issuing != nil { // it has signed nothing yet, unlike that of the root
		if err := ca.Prove(o.Issuing, made.issuing); err != nil {
			return nil, fmt.Errorf("embedded: %w", err)
		}
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	tmp, err := os.MkdirTemp(parent, ".ca-*")
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	defer os.RemoveAll(tmp) // gone already when all went well
	if err := made.write(tmp, kind, passphrase); err != nil {
		return nil, err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) { // os.Rename replaces no folder, not even an empty one
		return nil, fmt.Errorf("embedded: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	if err := seal.SyncDir(parent); err != nil {
		return nil, err
	}
	return OpenWith(dir, passphrase, o)
}

func vacant(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("embedded: %w", err)
	}
	if len(entries) != 0 {
		return fmt.Errorf("embedded: %s is not empty; an authority is never made over another: %w", dir, os.ErrExist)
	}
	return nil
}

func (c *created) write(dir string, kind Kind, passphrase secret.Bytes) error {
	for _, f := range []struct {
		name string
		key  crypto.PrivateKey
	}{{RootKeyFile, c.rootKey}, {IssuingKeyFile, c.issuingKey}} {
		if f.key == nil {
			continue
		}
		sealed, err := sealKey(passphrase, label(kind, f.name), f.key)
		if err != nil {
			return err
		}
		if err := seal.WriteFile(filepath.Join(dir, f.name), sealed, 0o600); err != nil {
			return err
		}
	}
	for _, f := range []struct {
		name string
		cert *x509.Certificate
	}{{RootFile, c.root}, {IssuingFile, c.issuing}} {
		block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.cert.Raw})
		if err := seal.WriteFile(filepath.Join(dir, f.name), block, 0o644); err != nil {
			return err
		}
	}
	return seal.WriteFile(filepath.Join(dir, LedgerFile), nil, 0o600)
}

// label binds a sealed key to the kind of authority and to the file it is in.
func label(kind Kind, name string) string { return fmt.Sprintf("latchkey ca %v %s", kind, name) }

func sealKey(passphrase secret.Bytes, label string, key crypto.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	defer secret.Wipe(der)
	return seal.Seal(passphrase, label, der)
}

func openKey(passphrase secret.Bytes, label string, sealed []byte) (crypto.Signer, error) {
	der, err := seal.Open(passphrase, label, sealed)
	if err != nil {
		return nil, err
	}
	defer der.Wipe()
	key, err := x509.ParsePKCS8PrivateKey(der.Expose())
	if err != nil {
		return nil, errors.New("embedded: the sealed file holds no private key")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("embedded: the sealed key cannot sign")
	}
	return signer, nil
}

// readCertificate reads a file that holds exactly one certificate in PEM.
func readCertificate(path string) (*x509.Certificate, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) != 0 {
		return nil, fmt.Errorf("embedded: %s does not hold exactly one certificate", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("embedded: %s: %w", path, err)
	}
	return cert, nil
}
