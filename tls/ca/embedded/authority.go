package embedded

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/smallstep/certificates/cas/apiv1"
	"github.com/smallstep/certificates/cas/softcas"
	kms "go.step.sm/crypto/kms/apiv1"

	"github.com/latchkey-pos/latchkey/tls/identity"
)

// Kind is the authority that an issuer is.
type Kind = identity.Authority

// The three kinds.
const (
	Terminals = identity.TerminalCA
	Services  = identity.ServicesCA
	KeyDist   = identity.KeyDistCA
)

// How long the certificates of an authority live, and how much older than the moment of creation they are made, so that
// they are older than every leaf.
const (
	RootLifetime    = 10 * 365 * 24 * time.Hour
	IssuingLifetime = 5 * 365 * 24 * time.Hour
	backdate        = time.Hour
)

// explicitPolicy is the extension that makes every path validator refuse a leaf without a policy of its issuer: policy
// constraints with requireExplicitPolicy 0 (RFC 5280, 4.2.1.11). crypto/x509 reads it but has no field to write it.
var explicitPolicy = pkix.Extension{
	Id: asn1.ObjectIdentifier{2, 5, 29, 36}, Critical: true, Value: []byte{0x30, 0x03, 0x80, 0x01, 0x00},
}

// created is a new authority, still in memory.
type created struct {
	root, issuing       *x509.Certificate
	rootKey, issuingKey crypto.PrivateKey // nil for one that is held elsewhere
}

// held is a key manager with one key, which is there already: what softcas makes a new authority with.
type held struct {
	kms.KeyManager // nil: nothing else is asked for
	key            crypto.Signer
}

// CreateKey implements kms.KeyManager.
func (h held) CreateKey(*kms.CreateKeyRequest) (*kms.CreateKeyResponse, error) {
	return &kms.CreateKeyResponse{PublicKey: h.key.Public()}, nil
}

// CreateSigner implements kms.KeyManager.
func (h held) CreateSigner(*kms.CreateSignerRequest) (crypto.Signer, error) { return h.key, nil }

// creator makes an authority with a key that is held elsewhere, or with a new one for nil.
func creator(key crypto.Signer) (*softcas.SoftCAS, error) {
	o := apiv1.Options{IsCreator: true}
	if key != nil {
		o.KeyManager = held{key: key}
	}
	cas, err := softcas.New(context.Background(), o)
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	return cas, nil
}

// generate makes the keys and certificates of an authority; keys that are given are used instead of new ones.
func generate(kind Kind, now time.Time, o Options) (*created, error) {
	cas, err := creator(o.Root)
	if err != nil {
		return nil, err
	}
	tag := make([]byte, 4) // tells the authorities of two deployments apart
	_, _ = rand.Read(tag)
	name := func(what string) pkix.Name {
		return pkix.Name{Organization: []string{"latchkey"}, CommonName: fmt.Sprintf("latchkey %v %s %s", kind, what, hex.EncodeToString(tag))}
	}
	start := now.Add(-backdate).UTC().Truncate(time.Second)
	root, err := cas.CreateCertificateAuthority(&apiv1.CreateCertificateAuthorityRequest{
		Type:      apiv1.RootCA,
		Lifetime:  RootLifetime, // not read, because the template says until when; zero would be refused
		CreateKey: &kms.CreateKeyRequest{SignatureAlgorithm: kms.ECDSAWithSHA384},
		Template: &x509.Certificate{
			SerialNumber: newSerial(), Subject: name("root"), NotBefore: start, NotAfter: start.Add(RootLifetime),
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true, MaxPathLen: 1,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("embedded: root: %w", err)
	}
	if cas, err = creator(o.Issuing); err != nil {
		return nil, err
	}
	issuing, err := cas.CreateCertificateAuthority(&apiv1.CreateCertificateAuthorityRequest{
		Type:      apiv1.IntermediateCA,
		Lifetime:  IssuingLifetime,
		CreateKey: &kms.CreateKeyRequest{SignatureAlgorithm: kms.ECDSAWithSHA256},
		Parent:    root,
		Template: &x509.Certificate{
			SerialNumber: newSerial(), Subject: name("issuing"), NotBefore: start, NotAfter: start.Add(IssuingLifetime),
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
			ExtKeyUsage: usages(kind), Policies: kind.Policies(), ExtraExtensions: []pkix.Extension{explicitPolicy},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("embedded: issuing certificate: %w", err)
	}
	return &created{root: root.Certificate, rootKey: root.PrivateKey, issuing: issuing.Certificate, issuingKey: issuing.PrivateKey}, nil
}

// usages returns what the leaves of an authority need between them; crypto/x509 and openssl refuse any other below it.
func usages(kind Kind) (out []x509.ExtKeyUsage) {
	var client, server bool
	for _, role := range kind.Roles() {
		client, server = client || role.Client(), server || role.Server()
	}
	if server {
		out = append(out, x509.ExtKeyUsageServerAuth)
	}
	if client {
		out = append(out, x509.ExtKeyUsageClientAuth)
	}
	return out
}

// kindOf returns the authority whose policies an issuing certificate carries.
func kindOf(issuing *x509.Certificate) (Kind, error) {
	for _, kind := range identity.Authorities() {
		match := len(issuing.Policies) == len(kind.Roles())
		for _, role := range kind.Roles() {
			match = match && identity.Carries(issuing, role)
		}
		if match {
			return kind, nil
		}
	}
	return 0, errors.New("embedded: the issuing certificate carries the policies of no authority")
}

// newSerial returns a random serial number of 127 bits, the highest one set, so that all have the same length.
func newSerial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b)
}
