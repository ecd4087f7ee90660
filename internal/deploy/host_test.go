package deploy

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

func hostRequest(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "anything"}, DNSNames: []string{"elsewhere.example"},
	}, key)
	must(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// TestCertifyHost: a host gets a certificate of its role for its key, with nothing else that it asked for, once at a path.
func TestCertifyHost(t *testing.T) {
	t.Parallel()
	d := deployment(t, keyset.Test)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	good := hostRequest(t, key)
	path := filepath.Join(t.TempDir(), "host.pem")
	cert, err := d.CertifyHost(t.Context(), "ACQ-2", good, path)
	must(t, err)
	id, err := identity.FromCertificate(cert)
	must(t, err)
	if id.Role != identity.AcquirerHost || id.Name != "ACQ-2" || !key.PublicKey.Equal(cert.PublicKey) || len(cert.DNSNames) != 0 {
		t.Errorf("%v with names %v", id, cert.DNSNames)
	}
	written, err := os.ReadFile(path)
	must(t, err)
	if block, _ := pem.Decode(written); block == nil || !bytes.Equal(block.Bytes, cert.Raw) {
		t.Error("the file holds another certificate")
	}
	if _, err := d.CertifyHost(t.Context(), "ACQ-2", good, path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("to the same file: %v", err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	block, _ := pem.Decode(good)
	forged := bytes.Clone(block.Bytes)
	forged[len(forged)-1] ^= 1
	for name, request := range map[string][]byte{
		"nothing": nil, "no PEM": []byte("request"), "two": append(bytes.Clone(good), good...), "RSA": hostRequest(t, weak),
		"a key":                 bytes.ReplaceAll(good, []byte("CERTIFICATE REQUEST"), []byte("PRIVATE KEY")),
		"not signed by its key": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: forged}),
		"too long":              append(bytes.Repeat([]byte{' '}, maxRequest), good...),
	} {
		other := filepath.Join(t.TempDir(), "other.pem")
		if _, err := d.CertifyHost(t.Context(), "ACQ-2", request, other); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(other); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s left a file", name)
		}
	}
}

// FuzzHostRequest: what is accepted is signed by the key in it, and reads again as the same.
func FuzzHostRequest(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		csr, err := parseRequest(text)
		if err != nil {
			return
		}
		again, err := parseRequest(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr.Raw}))
		if err != nil || !bytes.Equal(again.Raw, csr.Raw) || again.CheckSignature() != nil {
			t.Fatalf("%q is accepted, and again gives %v", text, err)
		}
	})
}
