package deploy

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
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
	if err := d.HoldIssuer(identity.TerminalCA, held[IssuingKey(identity.KeyDistCA)]); !errors.Is(err, ca.ErrOtherKey) {
		t.Errorf("the key of another authority: %v", err)
	}
	if err := d.HoldIssuer(identity.TerminalCA, held[IssuingKey(identity.TerminalCA)]); err != nil {
		t.Error(err)
	}
	if i, err := d.Issuer(identity.TerminalCA); err != nil || i.Kind() != identity.TerminalCA {
		t.Errorf("an issuer that was told of its key: %v", err)
	}
	if err := d.HoldIssuer(identity.TerminalCA, held[IssuingKey(identity.TerminalCA)]); err == nil {
		t.Error("an open issuer is opened again")
	}
}

// TestCertifyService gives services and signers further keys, and leaves those that they have.
func TestCertifyService(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "pos")
	d, err := Create(dir, Options{Tenant: "ACME", Environment: keyset.Test, Passphrase: passphrase, Clock: clock, Hosts: []string{"pos.example", "10.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, name := range Services() {
		before, err := d.ServiceCredential(name)
		if err != nil {
			t.Fatal(err)
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		path := d.Path("services", name, "token.pem")
		cert, err := d.CertifyService(t.Context(), name, key, path)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		read, err := CredentialOf(path, key)
		if err != nil || len(read.Certificate) != 2 || !read.Leaf.Equal(cert) {
			t.Errorf("%s: what was written: %v", name, err)
		}
		was, is := before.Leaf, cert
		if fmt.Sprint(was.URIs, was.DNSNames, was.IPAddresses, was.Policies, was.ExtKeyUsage) != fmt.Sprint(is.URIs, is.DNSNames, is.IPAddresses, is.Policies, is.ExtKeyUsage) {
			t.Errorf("%s: %v %v, before %v %v", name, is.URIs, is.DNSNames, was.URIs, was.DNSNames)
		}
		kind, err := ServiceAuthority(name)
		roots, rerr := readCertificates(TrustPath(dir, kind))
		issuing, ierr := x509.ParseCertificate(read.Certificate[1])
		if err := errors.Join(err, rerr, ierr); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(is.CheckSignatureFrom(issuing), issuing.CheckSignatureFrom(roots[0])); err != nil {
			t.Errorf("%s, by %v: %v", name, kind, err)
		}
		if _, err := d.CertifyService(t.Context(), name, key, path); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s, over a file: %v", name, err)
		}
		if _, err := d.ServiceCredential(name); err != nil {
			t.Errorf("%s has lost its own: %v", name, err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x")
	for _, name := range []string{"", "decrypt/../ra", "DECRYPT-1", FirstOperator} {
		if _, err := d.CertifyService(t.Context(), name, key, path); !errors.Is(err, ErrNoService) {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := ServiceAuthority(name); !errors.Is(err, ErrNoService) {
			t.Errorf("authority of %q: %v", name, err)
		}
	}
	if _, err := d.CertifyService(t.Context(), ServiceRA, liar{key}, path); !errors.Is(err, ca.ErrOtherKey) {
		t.Errorf("a key that does not sign for its public half: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refusal leaves a file: %v", err)
	}
}

// liar says that it has another public key than it signs with.
type liar struct{ crypto.Signer }

func (liar) Public() crypto.PublicKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key.Public()
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
