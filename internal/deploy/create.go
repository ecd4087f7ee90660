package deploy

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/latchkey-pos/latchkey/internal/keyring"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/embedded"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// Options say what Create makes.
type Options struct {
	Tenant      keyset.TenantID    // required
	Environment keyset.Environment // required
	Passphrase  secret.Bytes       // required, seal.MinPassphrase bytes or more; the caller keeps and wipes it
	Clock       func() time.Time   // nil: time.Now
	Hosts       []string           // names and addresses of both services; nil: localhost, 127.0.0.1 and ::1

	// Key returns the private key of a name that is held elsewhere, in a token, made for this: on that curve. Nil without an error
	// says that one is drawn and sealed in the folder. The names are those of RootKey, IssuingKey, and of services and signers as
	// ServiceCredential has them. A nil function: all are sealed.
	Key func(name string, curve elliptic.Curve) (crypto.Signer, error)
}

// RootKey names the key of the root of an authority for Options.Key.
func RootKey(kind identity.Authority) string { return "ca-" + kind.String() + "-root" }

// IssuingKey names the issuing key of an authority for Options.Key.
func IssuingKey(kind identity.Authority) string { return "ca-" + kind.String() + "-issuing" }

// Create makes a deployment in dir, which must not exist or be empty, and opens it: three authorities, the certificates
// of the services, of the signers and of a first operator and auditor, an empty keyring, the first trust list, the keys of
// audit checkpoints and the configuration of the three daemons. The folder appears whole or not at all. It takes some seconds, because every key is sealed.
func Create(dir string, o Options) (*Deployment, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Key == nil {
		o.Key = func(string, elliptic.Curve) (crypto.Signer, error) { return nil, nil }
	}
	if o.Hosts == nil {
		o.Hosts = []string{"localhost", "127.0.0.1", "::1"}
	}
	if err := vacant(dir); err != nil {
		return nil, err
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	tmp, err := os.MkdirTemp(parent, ".latchkey-*")
	if err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	defer os.RemoveAll(tmp) // gone already when all went well
	if err := o.build(tmp); err != nil {
		return nil, err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) { // os.Rename replaces no folder, not even an empty one
		return nil, fmt.Errorf("deploy: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	if err := seal.SyncDir(parent); err != nil {
		return nil, err
	}
	return OpenAt(dir, o.Passphrase, o.Clock)
}

func (o Options) check() error {
	if _, err := keyset.ParseTenant(string(o.Tenant)); err != nil {
		return err
	}
	if _, err := o.Environment.MarshalText(); err != nil {
		return err
	}
	if n := o.Passphrase.Len(); n < seal.MinPassphrase || n > seal.MaxPassphrase {
		return fmt.Errorf("deploy: passphrase has a length outside %d to %d bytes", seal.MinPassphrase, seal.MaxPassphrase)
	}
	return nil
}

func (o Options) build(dir string) error {
	for _, name := range []string{"ca", "trust", "services", "operators", "keysets", "terminals", attestedFolder, "audit"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return fmt.Errorf("deploy: %w", err)
		}
	}
	if err := o.authorities(dir); err != nil {
		return err
	}
	ring, err := keyring.CreateWith(filepath.Join(dir, "keyring"), o.Passphrase, keyring.Options{Clock: o.Clock})
	if err != nil {
		return err
	}
	ring.Close()
	if err := createCheckpointKeys(filepath.Join(dir, "audit"), o.Tenant, o.Passphrase); err != nil {
		return err
	}
	c := Config{Tenant: o.Tenant, Environment: o.Environment, Created: o.Clock()}
	if err := createTrustList(dir, c, o.Passphrase); err != nil {
		return err
	}
	if err := createPepper(filepath.Join(dir, "services", ServiceRA), o.Passphrase); err != nil {
		return err
	}
	for name, text := range map[string][]byte{
		DecryptdFile: decryptdYAML(c), ProvisiondFile: provisiondYAML(c), KeydFile: keydYAML(c),
	} {
		if err := seal.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return err
		}
	}
	return seal.WriteFile(filepath.Join(dir, ConfigFile), c.marshal(), 0o600)
}

// authorities makes the issuers, the files that others trust them by, and the first certificates.
func (o Options) authorities(dir string) error {
	for _, kind := range identity.Authorities() {
		keys := embedded.Options{Clock: o.Clock}
		var err error
		if keys.Root, err = o.Key(RootKey(kind), elliptic.P384()); err != nil {
			return err
		}
		if keys.Issuing, err = o.Key(IssuingKey(kind), elliptic.P256()); err != nil {
			return err
		}
		issuer, err := embedded.CreateWith(filepath.Join(dir, "ca", kind.String()), kind, o.Passphrase, keys)
		if err != nil {
			return err
		}
		err = o.certify(dir, kind, issuer)
		if cerr := issuer.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (o Options) certify(dir string, kind identity.Authority, issuer *embedded.Issuer) error {
	if err := seal.WriteFile(TrustPath(dir, kind), encodeCertificates(issuer.Root()), 0o644); err != nil {
		return err
	}
	if kind == identity.ServicesCA {
		issuing := encodeCertificates(issuer.Chain()[0])
		if err := seal.WriteFile(filepath.Join(dir, "trust", issuingFile), issuing, 0o644); err != nil {
			return err
		}
	}
	for _, p := range firstCredentials {
		if p.role.Authority() != kind {
			continue
		}
		req := ca.Request{Identity: identity.Identity{Tenant: string(o.Tenant), Role: p.role, Name: p.name}}
		if p.serves {
			req.DNSNames, req.IPs = splitHosts(o.Hosts)
		}
		key, err := o.Key(filepath.Base(p.folder), elliptic.P256())
		if err != nil {
			return err
		}
		if key != nil {
			err = writeCertificate(context.Background(), filepath.Join(dir, p.folder), issuer, req, key)
		} else {
			err = writeCredential(context.Background(), filepath.Join(dir, p.folder), issuer, req, o.Passphrase)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// firstCredential is a certificate with its key that Create makes.
type firstCredential struct {
	folder, name string
	role         identity.Role
	serves       bool
}

var firstCredentials = []firstCredential{
	{"services/" + ServiceDecrypt, decryptName, identity.Decrypt, true},
	{"services/" + ServiceAcquirer, acquirerName, identity.AcquirerHost, true},
	{"services/" + ServiceRA, raName, identity.RA, true},
	{"services/" + SignerRegistry, "REGISTRY-1", identity.RA, false},
	{"services/" + ServiceKeydist, keydistName, identity.KDH, true},
	{"services/" + SignerKDH, "KDH-SIGNER-1", identity.KDH, false},
	{"operators/" + FirstOperator, FirstOperator, identity.Operator, false},
	{"operators/" + FirstAuditor, FirstAuditor, identity.Auditor, false},
}

func splitHosts(hosts []string) (names []string, ips []net.IP) {
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			ips = append(ips, ip)
		} else {
			names = append(names, h)
		}
	}
	return names, ips
}

// writeCredential makes a key pair, has it certified, and writes both to a new folder.
func writeCredential(ctx context.Context, dir string, issuer ca.Issuer, req ca.Request, passphrase secret.Bytes) error {
	key, der, err := generateKey()
	if err != nil {
		return err
	}
	defer der.Wipe()
	req.PublicKey = key.Public()
	chain, err := issuer.Issue(ctx, req)
	if err != nil {
		return err
	}
	sealed, err := seal.Seal(passphrase, serviceKeyLabel, der.Expose())
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("deploy: %w", err)
	}
	if err := seal.WriteFile(filepath.Join(dir, keyFile), sealed, 0o600); err != nil {
		return err
	}
	if err := seal.WriteFile(filepath.Join(dir, certFile), encodeCertificates(chain...), 0o644); err != nil {
		return err
	}
	return seal.SyncDir(filepath.Dir(dir))
}

// writeCertificate has a key that is held elsewhere certified, and writes the certificate to a new folder.
func writeCertificate(ctx context.Context, dir string, issuer ca.Issuer, req ca.Request, key crypto.Signer) error {
	chain, err := certifyHeld(ctx, issuer, req, key)
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("deploy: %w", err)
	}
	if err := seal.WriteFile(filepath.Join(dir, certFile), encodeCertificates(chain...), 0o644); err != nil {
		return err
	}
	return seal.SyncDir(filepath.Dir(dir))
}

// certifyHeld has a key that is held elsewhere certified, and sees that the certificate is for it.
func certifyHeld(ctx context.Context, issuer ca.Issuer, req ca.Request, key crypto.Signer) ([]*x509.Certificate, error) {
	req.PublicKey = key.Public()
	chain, err := issuer.Issue(ctx, req)
	if err != nil {
		return nil, err
	}
	return chain, ca.Prove(key, chain[0])
}

// generateKey makes an ECDSA key over P-256 and its PKCS #8 form, which the caller wipes.
func generateKey() (*ecdsa.PrivateKey, secret.Bytes, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, secret.Bytes{}, fmt.Errorf("deploy: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, secret.Bytes{}, fmt.Errorf("deploy: %w", err)
	}
	defer secret.Wipe(der)
	return key, secret.From(der), nil
}
