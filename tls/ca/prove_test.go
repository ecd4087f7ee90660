package ca_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/tls/ca"
)

// liar says that it is one key, and signs with another, or not at all.
type liar struct {
	crypto.Signer
	signs crypto.Signer
}

var errDead = errors.New("dead")

func (l liar) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if l.signs == nil {
		return nil, errDead
	}
	return l.signs.Sign(r, digest, o)
}

func TestProve(t *testing.T) {
	t.Parallel()
	for name, generate := range map[string]func() (crypto.Signer, error){
		"P-256": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
		"P-384": func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
		"RSA":   func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
		"Ed25519": func() (crypto.Signer, error) {
			_, k, err := ed25519.GenerateKey(rand.Reader)
			return k, err
		},
	} {
		key, err := generate()
		if err != nil {
			t.Fatal(err)
		}
		other, err := generate()
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		for what, tt := range map[string]struct {
			key  crypto.Signer
			want error
		}{
			"its key": {key, nil}, "another key": {other, ca.ErrOtherKey},
			"a key that signs as another": {liar{key, other}, ca.ErrOtherKey}, "a key that does not sign": {liar{key, nil}, errDead},
		} {
			if err := ca.Prove(tt.key, cert); !errors.Is(err, tt.want) {
				t.Errorf("%s, %s: %v, want %v", name, what, err, tt.want)
			}
		}
		cert.PublicKey = "none"
		if err := ca.Prove(key, cert); !errors.Is(err, ca.ErrOtherKey) {
			t.Errorf("%s, a certificate of no key: %v", name, err)
		}
	}
}
