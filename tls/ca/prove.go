package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
)

// ErrOtherKey says that a private key is not that of its certificate.
var ErrOtherKey = errors.New("ca: the private key is not that of the certificate")

// provedText is what Prove signs. It is no certificate, revocation list or message of anybody.
const provedText = "latchkey check of a private key"

// Prove has a private key sign, and verifies that with its certificate: what it says of itself is no proof, least of all when it
// is in a token and found by a name. Errors wrap ErrOtherKey, or are those of the key.
func Prove(key crypto.Signer, cert *x509.Certificate) error {
	public, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(key.Public()) {
		return ErrOtherKey
	}
	algorithm, digest, hash := x509.ECDSAWithSHA256, sha256.Sum256([]byte(provedText)), crypto.Hash(crypto.SHA256)
	message := digest[:]
	switch cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
	case *rsa.PublicKey:
		algorithm = x509.SHA256WithRSA
	case ed25519.PublicKey:
		algorithm, message, hash = x509.PureEd25519, []byte(provedText), 0
	default:
		return fmt.Errorf("ca: keys of type %T are not known", cert.PublicKey)
	}
	signature, err := key.Sign(rand.Reader, message, hash)
	if err != nil {
		return fmt.Errorf("ca: the private key does not sign: %w", err)
	}
	if cert.CheckSignature(algorithm, []byte(provedText), signature) != nil {
		return ErrOtherKey
	}
	return nil
}
