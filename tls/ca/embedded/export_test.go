package embedded

import (
	"crypto/ecdsa"
	"crypto/x509"
	"testing"

	_ "github.com/latchkey-pos/latchkey/internal/seal/sealtest" // many authorities
)

// PrivateScalar returns the private scalar in a PKCS #8 key.
func PrivateScalar(t *testing.T, der []byte) []byte {
	t.Helper()
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		t.Fatal(err)
	}
	b, err := key.(*ecdsa.PrivateKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}
