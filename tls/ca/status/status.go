// Package status reads and answers questions about single certificates: OCSP, RFC 6960.
//
// [ParseRequest] reads a question, and [Sign] makes the answer of the authority itself: there is no certificate of a delegate to
// look after. A nonce in a question is left out of the answer, as RFC 5019 has it; answers are good for a while and may be kept.
package status

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// Media types of RFC 6960, appendix A.
const (
	TypeRequest  = "application/ocsp-request"
	TypeResponse = "application/ocsp-response"
)

// MaxRequest is how many bytes a question may have: one certificate, and what extensions clients send.
const MaxRequest = 4 << 10

const maxSerial = 20 // bytes

var (
	// ErrRequest is wrapped when a question is none.
	ErrRequest = errors.New("status: malformed request")
	// ErrOther says that a question is about the certificate of another authority.
	ErrOther = errors.New("status: a certificate of another authority")
)

// Request is a question about one certificate.
type Request struct {
	hash     crypto.Hash
	nameHash []byte // of the authority
	keyHash  []byte // of its public key
	serial   *big.Int
}

// ParseRequest reads a question (DER) about one certificate. The error wraps ErrRequest.
func ParseRequest(der []byte) (Request, error) {
	if len(der) > MaxRequest {
		return Request{}, fmt.Errorf("%w: %d bytes, want at most %d", ErrRequest, len(der), MaxRequest)
	}
	r, err := ocsp.ParseRequest(der)
	if err != nil {
		return Request{}, fmt.Errorf("%w: %v", ErrRequest, err)
	}
	out := Request{hash: r.HashAlgorithm, nameHash: r.IssuerNameHash, keyHash: r.IssuerKeyHash, serial: r.SerialNumber}
	switch {
	case r.HashAlgorithm != crypto.SHA1 && r.HashAlgorithm != crypto.SHA256 && r.HashAlgorithm != crypto.SHA384 && r.HashAlgorithm != crypto.SHA512:
		return Request{}, fmt.Errorf("%w: an unknown hash", ErrRequest)
	case len(out.nameHash) != out.hash.Size() || len(out.keyHash) != out.hash.Size():
		return Request{}, fmt.Errorf("%w: hashes of %d and %d bytes, want %d", ErrRequest, len(out.nameHash), len(out.keyHash), out.hash.Size())
	case out.serial == nil || (out.serial.Sign() <= 0 || len(out.serial.Bytes()) > maxSerial) && !planted.On(planted.ParseStatus):
		return Request{}, fmt.Errorf("%w: a serial number that no certificate has", ErrRequest)
	}
	return out, nil
}

// ParsePath reads a question from what follows the address of a responder and a slash in the path of a GET request, still escaped:
// the base64 of the DER (RFC 6960, appendix A.1). Clients that leave '/', '+' and '=' as they are, are understood. The error wraps
// ErrRequest.
func ParsePath(escaped string) (Request, error) {
	if len(escaped) > 3*base64.StdEncoding.EncodedLen(MaxRequest) { // were each character escaped
		return Request{}, fmt.Errorf("%w: a path of %d bytes", ErrRequest, len(escaped))
	}
	text, err := url.PathUnescape(escaped)
	if err != nil {
		return Request{}, fmt.Errorf("%w: %v", ErrRequest, err)
	}
	for _, c := range text {
		if c == '\r' || c == '\n' { // which the decoder skips
			return Request{}, fmt.Errorf("%w: a line break in base64", ErrRequest)
		}
	}
	der, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return Request{}, fmt.Errorf("%w: %v", ErrRequest, err)
	}
	return ParseRequest(der)
}

// Path returns the question as ParsePath reads it, without a slash before it.
func (r Request) Path() (string, error) {
	der, err := r.Marshal()
	if err != nil {
		return "", err
	}
	return url.QueryEscape(base64.StdEncoding.EncodeToString(der)), nil // of base64 this escapes all that a path must not have
}

// Serial returns the serial number that is asked about.
func (r Request) Serial() *big.Int { return new(big.Int).Set(r.serial) }

// Marshal returns the question in DER, without extensions.
func (r Request) Marshal() ([]byte, error) {
	return (&ocsp.Request{HashAlgorithm: r.hash, IssuerNameHash: r.nameHash, IssuerKeyHash: r.keyHash, SerialNumber: r.serial}).Marshal()
}

// Equal reports whether two questions are about the same certificate, said in the same way.
func (r Request) Equal(o Request) bool {
	return r.hash == o.hash && string(r.nameHash) == string(o.nameHash) && string(r.keyHash) == string(o.keyHash) && r.serial.Cmp(o.serial) == 0
}

// About reports with ErrOther that the question is not about a certificate of an authority.
func (r Request) About(issuer *x509.Certificate) error {
	var spki struct {
		Algorithm pkix.AlgorithmIdentifier
		PublicKey asn1.BitString
	}
	if _, err := asn1.Unmarshal(issuer.RawSubjectPublicKeyInfo, &spki); err != nil {
		return fmt.Errorf("status: the authority's own key: %w", err)
	}
	h := r.hash.New()
	h.Write(issuer.RawSubject)
	name := h.Sum(nil)
	h.Reset()
	h.Write(spki.PublicKey.RightAlign())
	if string(name) != string(r.nameHash) || string(h.Sum(nil)) != string(r.keyHash) {
		return ErrOther
	}
	return nil
}

// State is what an authority says of a certificate.
type State uint8

// The states of RFC 6960, 2.2.
const (
	Good    State = iota + 1 // it was issued and is not revoked
	Revoked                  // it is
	Unknown                  // the authority does not know of it
)

// Answer is what an authority says of a certificate.
type Answer struct {
	Request Request
	State   State
	Revoked time.Time // when; of Revoked only
	Reason  int       // CRLReason of RFC 5280, 5.3.1; of Revoked only
	From    time.Time // whole seconds: when this was so
	Until   time.Time // when to ask again
}

// Sign makes an answer in DER, signed by the key of the issuing certificate.
func Sign(a Answer, issuer *x509.Certificate, key crypto.Signer) ([]byte, error) {
	if a.Request.serial == nil {
		return nil, errors.New("status: an answer to nothing")
	}
	if err := a.Request.About(issuer); err != nil {
		return nil, err
	}
	t := ocsp.Response{SerialNumber: a.Request.serial, ThisUpdate: a.From, NextUpdate: a.Until, IssuerHash: a.Request.hash}
	switch a.State {
	case Good:
		t.Status = ocsp.Good
	case Revoked:
		t.Status, t.RevokedAt, t.RevocationReason = ocsp.Revoked, a.Revoked, a.Reason
	case Unknown:
		t.Status = ocsp.Unknown
	default:
		return nil, fmt.Errorf("status: State(%d) says nothing", uint8(a.State))
	}
	der, err := ocsp.CreateResponse(issuer, issuer, t, key)
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	return der, nil
}

// The answers of RFC 6960, 2.3, that need no signature. They are not to be changed.
var (
	Malformed    = ocsp.MalformedRequestErrorResponse
	Internal     = ocsp.InternalErrorErrorResponse
	TryLater     = ocsp.TryLaterErrorResponse
	Unauthorized = ocsp.UnauthorizedErrorResponse // this responder does not answer for that authority
)
