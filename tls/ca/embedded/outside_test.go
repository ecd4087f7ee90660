package embedded_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/ca/embedded"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// signingRequest is that of a key elsewhere, and asks for things that it does not get.
func signingRequest(t *testing.T) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "anything"}, DNSNames: []string{"evil.example"},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, csr
}

func TestCertifyIssuing(t *testing.T) {
	t.Parallel()
	for _, kind := range identity.Authorities() {
		_, dir, c := create(t, kind)
		key, csr := signingRequest(t)
		chain, err := embedded.CertifyIssuing(dir, phrase(t), csr, embedded.Options{Clock: c.Now})
		if err != nil {
			t.Fatal(err)
		}
		issuing, root := chain[0], chain[1]
		if !key.PublicKey.Equal(issuing.PublicKey) || issuing.CheckSignatureFrom(root) != nil {
			t.Error("the key is another, or the root has not signed")
		}
		if !issuing.IsCA || issuing.MaxPathLen != 0 || !issuing.MaxPathLenZero || len(issuing.DNSNames) != 0 || issuing.Subject.CommonName == "anything" {
			t.Errorf("CA %t, path length %d, names %v, subject %v", issuing.IsCA, issuing.MaxPathLen, issuing.DNSNames, issuing.Subject)
		}
		if issuing.NotAfter.After(root.NotAfter) || issuing.NotBefore.Before(root.NotBefore) || issuing.NotBefore.After(noon.Add(-time.Hour)) {
			t.Errorf("valid from %v until %v, the root from %v until %v", issuing.NotBefore, issuing.NotAfter, root.NotBefore, root.NotAfter)
		}
		for _, role := range identity.Roles() {
			if got, want := identity.Carries(issuing, role), role.Authority() == kind; got != want {
				t.Errorf("may certify %s: %t, want %t", role, got, want)
			}
		}
		for i, role := range kind.Roles() {
			if len(issuing.Policies) != len(kind.Roles()) || !issuing.Policies[i].Equal(role.ShortPolicy()) {
				t.Errorf("policies %v, want the short ones of %v", issuing.Policies, kind.Roles())
			}
		}
	}
}

func TestCertifyIssuingRefuses(t *testing.T) {
	t.Parallel()
	_, dir, c := create(t, embedded.Terminals)
	o := embedded.Options{Clock: c.Now}
	_, csr := signingRequest(t)
	changed := append([]byte(nil), csr...)
	changed[len(changed)-1] ^= 1
	for what, bad := range map[string][]byte{"nothing": nil, "no request": []byte("x"), "a signature of nobody": changed} {
		if chain, err := embedded.CertifyIssuing(dir, phrase(t), bad, o); !errors.Is(err, ca.ErrRequest) || chain != nil {
			t.Errorf("%s: %v, want ca.ErrRequest", what, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, embedded.RootKeyFile)); err != nil {
		t.Fatal(err)
	}
	if chain, err := embedded.CertifyIssuing(dir, phrase(t), csr, o); !errors.Is(err, embedded.ErrNoKey) || chain != nil {
		t.Errorf("without the key of the root: %v, want ErrNoKey", err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	o.Root = other
	if chain, err := embedded.CertifyIssuing(dir, phrase(t), csr, o); !errors.Is(err, ca.ErrOtherKey) || chain != nil {
		t.Errorf("with another key: %v, want ErrOtherKey", err)
	}
}

// TestPublished writes into certificates where third parties find what was revoked.
func TestPublished(t *testing.T) {
	t.Parallel()
	i, dir, c := create(t, identity.TerminalCA)
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	i, err := embedded.OpenWith(dir, phrase(t), embedded.Options{Clock: c.Now, CRL: "http://pki.example/crl", Status: "http://pki.example/ocsp"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = i.Close() }()
	chain, err := i.Issue(t.Context(), catest.NewRequest(identity.Terminal, "ONE"))
	if err != nil {
		t.Fatal(err)
	}
	if leaf := chain[0]; !slices.Equal(leaf.CRLDistributionPoints, []string{"http://pki.example/crl"}) || !slices.Equal(leaf.OCSPServer, []string{"http://pki.example/ocsp"}) {
		t.Errorf("published at %v and %v", leaf.CRLDistributionPoints, leaf.OCSPServer)
	}
}
