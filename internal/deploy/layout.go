package deploy

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// Names inside the folder that others read.
const (
	ConfigFile     = "latchkey.yaml"
	DecryptdFile   = "decryptd.yaml"
	ProvisiondFile = "provisiond.yaml"
	KeydFile       = "keyd.yaml"

	ServiceDecrypt  = "decrypt"    // its certificate is of role decrypt, name DECRYPT-1
	ServiceAcquirer = "acquirer"   // of role acquirer-host, name ACQ-1
	ServiceRA       = "ra"         // of role ra, name RA-1
	ServiceKeydist  = "keydist"    // of role kdh, name KDH-1
	SignerRegistry  = "registry"   // of role ra, name REGISTRY-1: signs the registry feed, serves nothing
	SignerKDH       = "kdh-signer" // of role kdh, name KDH-SIGNER-1: signs deliveries, serves nothing

	FirstOperator = "OPERATOR-1"
	FirstAuditor  = "AUDITOR-1"

	decryptName  = "DECRYPT-1"
	acquirerName = "ACQ-1"
	raName       = "RA-1"
	keydistName  = "KDH-1"

	issuingFile = "services.issuing.pem"
	pepperFile  = "pepper.sealed"
)

// The daemons that keep an audit log, by the file names of the keys that sign its checkpoints.
const (
	checkpointDecryptd   = "checkpoint"
	checkpointProvisiond = "provisiond"
	checkpointKeyd       = "keyd"
)

// The labels that sealed files of this folder carry.
const (
	serviceKeyLabel    = "latchkey service key"
	checkpointKeyLabel = "latchkey audit checkpoint key"
	trustKeyLabel      = "latchkey trust list key"
	pepperLabel        = "latchkey code pepper"
)

const (
	certFile = "cert.pem"
	keyFile  = "key.sealed"

	maxPEM = 256 << 10
)

// ErrNotDeployment says that a folder is not one that Create made.
var ErrNotDeployment = errors.New("deploy: not a deployment folder")

// Credential reads a certificate with its chain from a PEM file and its private key from a file sealed under the
// passphrase. Errors wrap seal.ErrPassphrase, seal.ErrFormat or the error of the file system, and name the file.
func Credential(certPath, sealedKeyPath string, passphrase secret.Bytes) (tls.Certificate, error) {
	chain, err := readCertificates(certPath)
	if err != nil {
		return tls.Certificate{}, err
	}
	der, err := openSealed(sealedKeyPath, serviceKeyLabel, passphrase)
	if err != nil {
		return tls.Certificate{}, err
	}
	defer der.Wipe()
	key, err := x509.ParsePKCS8PrivateKey(der.Expose())
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("deploy: %s does not hold a private key", sealedKeyPath)
	}
	signer, ok := key.(crypto.Signer)
	if !ok || !sameKey(signer.Public(), chain[0].PublicKey) {
		return tls.Certificate{}, fmt.Errorf("deploy: %s is not the key of %s", sealedKeyPath, certPath)
	}
	out := tls.Certificate{PrivateKey: signer, Leaf: chain[0]}
	for _, c := range chain {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out, nil
}

// CredentialOf is Credential with a private key that is held elsewhere: in a token. It is made to sign, and held to its
// certificate. Errors wrap ca.ErrOtherKey, or are those of the key or of the file system.
func CredentialOf(certPath string, key crypto.Signer) (tls.Certificate, error) {
	chain, err := readCertificates(certPath)
	if err != nil {
		return tls.Certificate{}, err
	}
	if err := ca.Prove(key, chain[0]); err != nil {
		return tls.Certificate{}, fmt.Errorf("deploy: %s: %w", certPath, err)
	}
	out := tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out, nil
}

func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// openSealed opens a sealed file. The caller wipes what is in it. Errors name the file.
func openSealed(path, label string, passphrase secret.Bytes) (secret.Bytes, error) {
	sealed, err := readSealed(path)
	if err != nil {
		return secret.Bytes{}, err
	}
	content, err := seal.Open(passphrase, label, sealed)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("deploy: %s: %w", path, err)
	}
	return content, nil
}

// readSealed reads a sealed file that only its owner can.
func readSealed(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	if mode := info.Mode().Perm(); !info.Mode().IsRegular() || mode&0o077 != 0 {
		return nil, fmt.Errorf("deploy: %s has mode %v, want a regular file of mode 0600", path, info.Mode())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	return b, nil
}

// LoadTrust reads the roots of the three authorities from DIR/trust. A missing file is an error.
func LoadTrust(dir string) (tlsconf.Trust, error) {
	var out tlsconf.Trust
	for authority, pool := range map[identity.Authority]**x509.CertPool{
		identity.TerminalCA: &out.Terminals, identity.ServicesCA: &out.Services, identity.KeyDistCA: &out.KeyDist,
	} {
		certs, err := readCertificates(TrustPath(dir, authority))
		if err != nil {
			return tlsconf.Trust{}, err
		}
		*pool = x509.NewCertPool()
		for _, c := range certs {
			(*pool).AddCert(c)
		}
	}
	return out, nil
}

// LoadChain reads certificates from a PEM file, in their order.
func LoadChain(path string) ([]*x509.Certificate, error) { return readCertificates(path) }

// LoadIssuing reads the issuing certificates of the services authority from DIR/trust: what signers of documents and of
// the registry feed chain through.
func LoadIssuing(dir string) ([]*x509.Certificate, error) {
	return readCertificates(filepath.Join(dir, "trust", issuingFile))
}

// TrustPath returns the file with the roots of an authority.
func TrustPath(dir string, a identity.Authority) string {
	return filepath.Join(dir, "trust", a.String()+".pem")
}

// readCertificates reads a PEM file of one certificate or more and nothing else.
func readCertificates(path string) ([]*x509.Certificate, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	if len(b) > maxPEM {
		return nil, fmt.Errorf("deploy: %s has %d bytes, want at most %d", path, len(b), maxPEM)
	}
	var out []*x509.Certificate
	for len(bytes.TrimSpace(b)) > 0 {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("deploy: %s holds something else than certificates", path)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("deploy: %s: %w", path, err)
		}
		out = append(out, cert)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("deploy: %s holds no certificate", path)
	}
	return out, nil
}

func encodeCertificates(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// vacant refuses a folder that holds anything.
func vacant(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("deploy: %w", err)
	}
	if len(entries) != 0 {
		return fmt.Errorf("deploy: %s is not empty; a deployment is never made over another: %w", dir, fs.ErrExist)
	}
	return nil
}

// underLock runs f while this process alone may change documents and counters of the folder.
func underLock(dir string, f func() error) error {
	file, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("deploy: %w", err)
	}
	defer file.Close() // also unlocks
	if err := lock(file); err != nil {
		return fmt.Errorf("deploy: lock %s: %w", dir, err)
	}
	return f()
}
