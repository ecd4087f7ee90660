package est

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/latchkey-pos/latchkey/tls/identity"
)

// MaxRequest is the most that a certificate signing request may hold, in bytes of DER.
const MaxRequest = 8 << 10

// EncodeRequest returns the body for DER: for a certificate signing request, or for what Attributes returns.
func EncodeRequest(der []byte) []byte { return encode(der) }

// DecodeRequest returns the DER in such a body, whatever it is. A header Content-Transfer-Encoding does not matter: the
// body is base64 with or without it. Errors wrap ErrFormat.
func DecodeRequest(body []byte) ([]byte, error) {
	der, err := decode(body)
	if err != nil {
		return nil, err
	}
	if len(der) > MaxRequest {
		return nil, malformed("the request is too long")
	}
	return der, nil
}

// NewRequest returns a PKCS #10 request (DER) for the identity, signed by its key. The key is ECDSA on P-256, P-384 or
// P-521. What it returns, CheckRequest accepts.
func NewRequest(key crypto.Signer, id identity.Identity) ([]byte, error) {
	if err := id.Validate(); err != nil {
		return nil, err
	}
	if key == nil {
		return nil, errors.New("est: a request needs a key")
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: id.Subject(),
		URIs:    []*url.URL{id.URI()},
	}, key)
	if err != nil {
		return nil, fmt.Errorf("est: %w", err)
	}
	if _, err := CheckRequest(der, Policy{Identity: id}); err != nil {
		return nil, err
	}
	return der, nil
}

// request is a certification request (RFC 2986, 4) taken apart.
type request struct {
	info       []byte // what is signed
	subject    cryptobyte.String
	publicKey  cryptobyte.String // SubjectPublicKeyInfo, inside
	attributes cryptobyte.String
	algorithm  cryptobyte.String // of the signature
	signature  []byte
}

func parseRequest(der []byte) (*request, error) {
	if len(der) > MaxRequest {
		return nil, malformed("the request is too long")
	}
	wrong := malformed("not a PKCS #10 request in DER")
	var r request
	var outer, element, info cryptobyte.String
	input := cryptobyte.String(der)
	if !input.ReadASN1(&outer, asn1.SEQUENCE) {
		return nil, wrong
	}
	if !input.Empty() {
		return nil, malformed("something follows the request")
	}
	if !outer.ReadASN1Element(&element, asn1.SEQUENCE) ||
		!outer.ReadASN1(&r.algorithm, asn1.SEQUENCE) ||
		!outer.ReadASN1BitStringAsBytes(&r.signature) || !outer.Empty() {
		return nil, wrong
	}
	r.info = element
	var version int
	if !element.ReadASN1(&info, asn1.SEQUENCE) || !info.ReadASN1Integer(&version) {
		return nil, wrong
	}
	if version != 0 {
		return nil, malformed("the version of the request is not v1, whose number is 0")
	}
	if !info.ReadASN1(&r.subject, asn1.SEQUENCE) ||
		!info.ReadASN1(&r.publicKey, asn1.SEQUENCE) ||
		!info.ReadASN1(&r.attributes, contextZero) || !info.Empty() {
		return nil, wrong
	}
	return &r, nil
}

// signers are the signature algorithms of RFC 5758, 3.2, without parameters.
var signers = map[string]crypto.Hash{
	"\x2a\x86\x48\xce\x3d\x04\x03\x02": crypto.SHA256,
	"\x2a\x86\x48\xce\x3d\x04\x03\x03": crypto.SHA384,
	"\x2a\x86\x48\xce\x3d\x04\x03\x04": crypto.SHA512,
}

// verify checks that whoever made the request has the private key.
func (r *request) verify(key *ecdsa.PublicKey) error {
	var oid cryptobyte.String
	if !r.algorithm.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) {
		return malformed("the signature algorithm cannot be read")
	}
	hash, ok := signers[string(oid)]
	if !ok || !r.algorithm.Empty() {
		return refused("sign it by ECDSA with SHA-256, SHA-384 or SHA-512")
	}
	h := hash.New()
	h.Write(r.info)
	if !ecdsa.VerifyASN1(key, h.Sum(nil), r.signature) {
		return refused("it is not signed by the key in it")
	}
	return nil
}
