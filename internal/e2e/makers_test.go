package e2e

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/terminal"
)

// maker is a maker of devices with a root and a facility that certifies the keys it puts into them.
type maker struct {
	root, facility *x509.Certificate
	key            *ecdsa.PrivateKey // of the facility
	serial         int64
}

func newMaker(t *testing.T, name string) *maker {
	t.Helper()
	m := &maker{serial: 2}
	authority := func(serial int64, suffix string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name + suffix}, NotBefore: time.Now().Add(-time.Hour),
			NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
		}
	}
	rootKey := newKey(t)
	m.key = newKey(t)
	m.root = issueCertificate(t, authority(1, " root"), authority(1, " root"), rootKey.Public(), rootKey)
	m.facility = issueCertificate(t, authority(2, " facility"), m.root, m.key.Public(), rootKey)
	return m
}

func issueCertificate(t *testing.T, template, parent *x509.Certificate, key crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, signer)
	check(t, err)
	cert, err := x509.ParseCertificate(der)
	check(t, err)
	return cert
}

// certify returns the chain that the maker gives a device with an agreement key.
func (m *maker) certify(t *testing.T, device string, key crypto.PublicKey, until time.Time) [][]byte {
	t.Helper()
	m.serial++
	leaf := issueCertificate(t, &x509.Certificate{
		SerialNumber: big.NewInt(m.serial), Subject: pkix.Name{CommonName: "device", SerialNumber: device},
		NotBefore: until.Add(-time.Hour), NotAfter: until, KeyUsage: x509.KeyUsageKeyAgreement,
	}, m.facility, key, m.key)
	return [][]byte{leaf.Raw, m.facility.Raw}
}

// device is what leaves the maker: a serial number, an agreement key, and the maker's word for the two. Its sealer is one
// that is not refused for production.
type device struct {
	serial      string
	key         *ecdsa.PrivateKey
	pkcs8       secret.Bytes
	attestation [][]byte
	medium      terminal.FS
	sealer      terminal.Sealer
}

func (m *maker) device(t *testing.T, serial string, curve elliptic.Curve) *device {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	check(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	return &device{
		serial: serial, key: key, pkcs8: secret.From(der), medium: terminal.OSFS(t.TempDir()), sealer: newSoldered(t),
		attestation: m.certify(t, serial, key.Public(), time.Now().Add(time.Hour)),
	}
}

// open opens the terminal of a device that has enrolled.
func (d *device) open(t *testing.T) *terminal.Terminal {
	t.Helper()
	box, err := terminal.Open(terminal.Options{FS: d.medium, Sealer: d.sealer})
	check(t, err)
	t.Cleanup(func() { _ = box.Close() }) // everything is written
	return box
}

// soldered stands for a sealer whose key never leaves a chip of the device.
type soldered struct{ aead cipher.AEAD }

func newSoldered(t *testing.T) soldered {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key) // cannot fail
	block, err := aes.NewCipher(key)
	check(t, err)
	aead, err := cipher.NewGCMWithRandomNonce(block)
	check(t, err)
	return soldered{aead}
}

// Seal implements terminal.Sealer.
func (s soldered) Seal(label string, plain []byte) ([]byte, error) {
	return s.aead.Seal(nil, nil, plain, []byte(label)), nil
}

// Open implements terminal.Sealer.
func (s soldered) Open(label string, sealed []byte) (secret.Bytes, error) {
	plain, err := s.aead.Open(nil, nil, sealed, []byte(label))
	defer secret.Wipe(plain)
	return secret.From(plain), err
}

// Name implements terminal.Sealer.
func (soldered) Name() string { return "soldered" }
