package deploy

import (
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/internal/keyring"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/ca/embedded"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

// Deployment is an open deployment folder. It is safe for concurrent use, also beside other processes. It prints its
// folder and nothing else.
type Deployment struct {
	dir        string
	config     Config
	passphrase secret.Bytes // a copy
	clock      func() time.Time

	mu      sync.Mutex // guards what is opened on demand
	ring    *keyring.Ring
	issuers map[identity.Authority]*embedded.Issuer
}

// Open opens a deployment folder. Keys are opened when they are asked for; so a wrong passphrase shows then. The caller
// keeps the passphrase. A folder that is none wraps ErrNotDeployment.
func Open(dir string, passphrase secret.Bytes) (*Deployment, error) {
	return OpenAt(dir, passphrase, time.Now)
}

// OpenAt is Open with a clock.
func OpenAt(dir string, passphrase secret.Bytes, clock func() time.Time) (*Deployment, error) {
	c, err := LoadConfig(dir)
	if err != nil {
		return nil, err
	}
	return &Deployment{
		dir: dir, config: c, passphrase: passphrase.Clone(), clock: clock,
		issuers: map[identity.Authority]*embedded.Issuer{},
	}, nil
}

// Close wipes what was opened. The deployment cannot be used afterwards.
func (d *Deployment) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ring != nil {
		d.ring.Close()
	}
	var errs []error
	for _, i := range d.issuers {
		errs = append(errs, i.Close())
	}
	d.ring = nil
	clear(d.issuers)
	d.passphrase.Wipe()
	return errors.Join(errs...)
}

// Dir returns the folder.
func (d *Deployment) Dir() string { return d.dir }

// Config returns whose deployment it is.
func (d *Deployment) Config() Config { return d.config }

// Path returns the path of a name inside the folder.
func (d *Deployment) Path(elem ...string) string {
	return filepath.Join(append([]string{d.dir}, elem...)...)
}

// Trust returns the roots of the three authorities.
func (d *Deployment) Trust() (tlsconf.Trust, error) { return LoadTrust(d.dir) }

// ServiceCredential opens certificate and key of a service or signer by its name: ServiceDecrypt, ServiceAcquirer, …
func (d *Deployment) ServiceCredential(name string) (tls.Certificate, error) {
	if _, err := serviceOf(name); err != nil {
		return tls.Certificate{}, err
	}
	return Credential(d.Path("services", name, certFile), d.Path("services", name, keyFile), d.passphrase)
}

// CheckpointKey opens the signer of the decryption service's audit checkpoints; see OpenCheckpointKey.
func (d *Deployment) CheckpointKey() (secret.Bytes, error) {
	return OpenCheckpointKey(d.Path("audit", checkpointDecryptd+".key.sealed"), d.passphrase)
}

// CheckpointVerifier returns the verifier of the decryption service's audit checkpoints: the text that
// audit.NewVerifier takes.
func (d *Deployment) CheckpointVerifier() (string, error) {
	b, err := os.ReadFile(d.Path("audit", checkpointDecryptd+".pub"))
	if err != nil {
		return "", fmt.Errorf("deploy: %w", err)
	}
	return strings.TrimSuffix(string(b), "\n"), nil
}

// TrustList returns the signed trust list of terminals, and the pin of its signer.
func (d *Deployment) TrustList() ([]byte, trustlist.Pin, error) {
	return LoadTrustList(TrustListPath(d.dir), d.config.Tenant)
}

// Issuer returns the issuer of an authority. It belongs to the deployment, whose Close closes it. Errors wrap embedded.ErrNoKey
// where its key is held elsewhere, and HoldIssuer has not been told of it.
func (d *Deployment) Issuer(kind identity.Authority) (*embedded.Issuer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := d.issuers[kind]; i != nil {
		return i, nil
	}
	return d.openIssuer(kind, nil)
}

// HoldIssuer opens the issuer of an authority with its issuing key, which is held elsewhere: in a token. Issuer returns it from then
// on. It comes before Issuer. Errors wrap ca.ErrOtherKey, or are those of the key or of the file system.
func (d *Deployment) HoldIssuer(kind identity.Authority, key crypto.Signer) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.issuers[kind] != nil {
		return fmt.Errorf("deploy: the authority %v is open already", kind)
	}
	_, err := d.openIssuer(kind, key)
	return err
}

// openIssuer opens an issuer with a key that is held elsewhere, or with the sealed one for nil. The deployment is locked.
func (d *Deployment) openIssuer(kind identity.Authority, key crypto.Signer) (*embedded.Issuer, error) {
	i, err := embedded.OpenWith(d.Path("ca", kind.String()), d.passphrase, embedded.Options{Issuing: key, Clock: d.clock})
	if err != nil {
		return nil, err
	}
	if i.Kind() != kind {
		_ = i.Close() // the other error is the one to report
		return nil, fmt.Errorf("deploy: the authority in %s is %v", d.Path("ca", kind.String()), i.Kind())
	}
	d.issuers[kind] = i
	return i, nil
}

// Keyring returns the keyring. It belongs to the deployment, whose Close closes it.
func (d *Deployment) Keyring() (*keyring.Ring, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ring != nil {
		return d.ring, nil
	}
	r, err := keyring.OpenWith(d.Path("keyring"), d.passphrase, keyring.Options{Clock: d.clock})
	if err != nil {
		return nil, err
	}
	d.ring = r
	return r, nil
}

// Rewrap replaces the local master key of the keyring; see keyring.Rewrap. Rings that Keyring has returned are closed.
func (d *Deployment) Rewrap(progress func(done, of int)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ring != nil {
		d.ring.Close()
		d.ring = nil
	}
	return keyring.Rewrap(d.Path("keyring"), d.passphrase, keyring.Options{Clock: d.clock}, progress)
}

// Catalog reads the key sets and terminals, checked against the keyring, as far as their base keys are in it: others are in tokens,
// and the services that have those hold the sets to them.
func (d *Deployment) Catalog() (*Catalog, error) {
	ring, err := d.Keyring()
	if err != nil {
		return nil, err
	}
	return NewCatalog(d.catalogOptions(ring))
}

func (d *Deployment) catalogOptions(ring *keyring.Ring) CatalogOptions {
	return CatalogOptions{
		Dir: d.dir, Tenant: d.config.Tenant, Environment: d.config.Environment,
		Keys: func() []engine.KeyInfo { return ring.List() }, Elsewhere: true,
	}
}

// KeySets returns the latest revision of every key set, by name.
func (d *Deployment) KeySets() ([]*keyset.KeySet, error) {
	c, err := d.Catalog()
	if err != nil {
		return nil, err
	}
	return c.KeySets(), nil
}

// Terminals returns the latest record of every terminal, by name.
func (d *Deployment) Terminals() ([]*keyset.Terminal, error) {
	c, err := d.Catalog()
	if err != nil {
		return nil, err
	}
	return c.Terminals(), nil
}

// Format prints the folder, whatever the verb.
func (d *Deployment) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, d.text()) }

// LogValue logs the folder.
func (d *Deployment) LogValue() slog.Value { return slog.StringValue(d.text()) }

// MarshalText gives encoders the folder.
func (d *Deployment) MarshalText() ([]byte, error) { return []byte(d.text()), nil }

func (d *Deployment) text() string {
	if d == nil {
		return "deploy.Deployment(none)"
	}
	return "deploy.Deployment(" + d.dir + ")"
}
