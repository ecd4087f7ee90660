package trustlist

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

const signatureContext = "latchkey-trust-v1\x00"

// document is a signed list: deterministic CBOR [payload, public key, signature].
type document struct {
	_         struct{} `cbor:",toarray"`
	Payload   []byte
	Signer    []byte // SubjectPublicKeyInfo, DER
	Signature []byte // ECDSA P-256 with SHA-256, ASN.1
}

// Accepted is what a terminal has believed so far, and keeps. Before the first list it has a tenant and the pin from the
// slip of paper, and nothing else. It is plain data for any encoder.
type Accepted struct {
	Tenant  string
	Pins    []Pin             // keys that may sign
	Version uint64            // of the last list; zero before the first
	Digest  [sha256.Size]byte // SHA-256 of its payload; zero before the first
}

// Sign validates a list and signs it with an ECDSA key over P-256. Errors about the list wrap ErrTrust.
func Sign(l *List, key crypto.Signer) ([]byte, error) {
	payload, err := l.payload()
	if err != nil {
		return nil, err
	}
	pub, err := signingKey(key.Public())
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("trustlist: %v", err)
	}
	if slices.Contains(l.Next, pinOf(spki)) {
		return nil, refused("the signing key is named as a further one")
	}
	digest := digestOf(payload)
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("trustlist: sign: %v", err)
	}
	doc, err := codec.Marshal(&document{Payload: payload, Signer: spki, Signature: signature})
	if err != nil {
		return nil, fmt.Errorf("trustlist: %v", err)
	}
	if len(doc) > maxDocument {
		return nil, refused("%d bytes, want at most %d", len(doc), maxDocument)
	}
	return doc, nil
}

// Open verifies a signed list against what was accepted so far: an accepted key signed it, it is for the tenant, and its
// version is higher, or the same with the same payload. The signature may be another one: whoever is on the way can write an
// ECDSA signature in a second form, and must not make a terminal refuse the first. There is no clock in it. The caller keeps
// the result of [Accepted.Next] durably before it acts on the list. The error wraps ErrTrust.
func Open(doc []byte, a Accepted) (*List, error) {
	d, err := parse(doc)
	if err != nil {
		return nil, err
	}
	signer, err := d.verify(a.Pins)
	if err != nil {
		return nil, err
	}
	l, err := parsePayload(d.Payload)
	if err != nil {
		return nil, err
	}
	l.signer, l.digest = signer, sha256.Sum256(d.Payload)
	if slices.Contains(l.Next, signer) {
		return nil, refused("the signing key is named as a further one")
	}
	if err := a.admit(l); err != nil {
		return nil, err
	}
	return l, nil
}

// Next returns what to keep after a list that Open returned. A list that nobody has signed is a broken call and panics.
func (a Accepted) Next(l *List) Accepted {
	if l.signer.IsZero() {
		panic("trustlist: Next of a list that Open has not returned")
	}
	return Accepted{Tenant: a.Tenant, Pins: l.Pins(), Version: l.Version, Digest: l.digest}
}

func (a Accepted) admit(l *List) error {
	if l.Tenant != a.Tenant {
		return refused("it is for another tenant")
	}
	if l.Version < a.Version {
		return refused("version %d, after %d was accepted", l.Version, a.Version)
	}
	if l.Version == a.Version && l.digest != a.Digest {
		return refused("another list of version %d was accepted", a.Version)
	}
	return nil
}

// parse reads the document and believes none of it.
func parse(doc []byte) (*document, error) {
	if len(doc) > maxDocument {
		return nil, refused("%d bytes, want at most %d", len(doc), maxDocument)
	}
	d := new(document)
	if err := codec.Unmarshal(doc, d); err != nil {
		return nil, refused("%v", err)
	}
	return d, nil
}

// verify returns the pin of the key that signed, if it is one of the accepted ones.
func (d *document) verify(accepted []Pin) (Pin, error) {
	pin := pinOf(d.Signer)
	if !slices.Contains(accepted, pin) && !planted.On(planted.GuardTrustList) {
		return Pin{}, refused("an unknown key has signed it")
	}
	parsed, err := x509.ParsePKIXPublicKey(d.Signer)
	if err != nil {
		return Pin{}, refused("signing key: %v", err)
	}
	key, err := signingKey(parsed)
	if err != nil {
		return Pin{}, refused("%v", err)
	}
	if again, err := x509.MarshalPKIXPublicKey(key); err != nil || !bytes.Equal(again, d.Signer) {
		return Pin{}, refused("signing key: another spelling than that of DER")
	}
	digest := digestOf(d.Payload)
	if !ecdsa.VerifyASN1(key, digest[:], d.Signature) {
		return Pin{}, refused("the signature does not verify")
	}
	return pin, nil
}

func digestOf(payload []byte) [sha256.Size]byte {
	return sha256.Sum256(append([]byte(signatureContext), payload...))
}

// signingKey returns a public key that may sign lists.
func signingKey(pub crypto.PublicKey) (*ecdsa.PublicKey, error) {
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok || key == nil || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("trustlist: lists are signed with ECDSA over P-256")
	}
	return key, nil
}
