package keyset

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// Kinds of signed documents. A signature for one kind is none for another.
const (
	KindKeySet   = "key-set"
	KindTerminal = "terminal"
)

const (
	signatureContext = "latchkey-doc-v1\x00"
	maxKindLength    = 32
	maxSignatures    = 8
)

var (
	// ErrSignature is wrapped by errors about a document without one valid signature, or with a forged one.
	ErrSignature = errors.New("keyset: document is not signed")
	// ErrApprovals is wrapped by errors about a document that too few people have signed.
	ErrApprovals = errors.New("keyset: too few approvers")
)

// Verifier says whose certificate this is and whether it may approve now. It returns the approver's name, which is the
// same for every certificate of one person, and the public key. An error means that the signature does not count.
type Verifier func(certDER []byte) (approver string, pub crypto.PublicKey, err error)

// Signed is the envelope of a signed document: deterministic CBOR [kind, payload, [[certificate, signature] …]].
type Signed struct {
	_          struct{} `cbor:",toarray"`
	Kind       string
	Payload    []byte
	Signatures []Signature
}

// Signature is one approver's: an ECDSA P-256 signature with SHA-256, ASN.1 form, over the context
// "latchkey-doc-v1", NUL, the kind, NUL and the payload.
type Signature struct {
	_           struct{} `cbor:",toarray"`
	Certificate []byte   // DER
	Signature   []byte   // ASN.1
}

// Sign makes a document of a payload with its first signature. cert is the DER certificate of key, which must be ECDSA
// over P-256.
func Sign(kind string, payload []byte, cert []byte, key crypto.Signer) ([]byte, error) {
	return sign(&Signed{Kind: kind, Payload: payload}, cert, key)
}

// AddSignature adds a second person's signature to a document. It does not check those it finds. A certificate that
// has signed already is refused.
func AddSignature(doc []byte, cert []byte, key crypto.Signer) ([]byte, error) {
	s, err := ParseSigned(doc)
	if err != nil {
		return nil, err
	}
	return sign(s, cert, key)
}

func sign(s *Signed, cert []byte, key crypto.Signer) ([]byte, error) {
	if err := checkKind(s.Kind); err != nil {
		return nil, err
	}
	if err := checkSigner(cert, key); err != nil {
		return nil, err
	}
	for _, sig := range s.Signatures {
		if string(sig.Certificate) == string(cert) {
			return nil, errors.New("keyset: this certificate has signed already")
		}
	}
	digest := s.digest()
	sig, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("keyset: sign: %v", err)
	}
	s.Signatures = append(s.Signatures, Signature{Certificate: slices.Clone(cert), Signature: sig})
	return s.marshal()
}

func checkSigner(cert []byte, key crypto.Signer) error {
	pub, ok := key.Public().(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return errors.New("keyset: documents are signed with ECDSA over P-256")
	}
	parsed, err := x509.ParseCertificate(cert)
	if err != nil {
		return fmt.Errorf("keyset: signer's certificate: %v", err)
	}
	if !pub.Equal(parsed.PublicKey) {
		return errors.New("keyset: the certificate is not that of the signing key")
	}
	return nil
}

// ParseSigned reads an envelope and believes none of it: use Open to learn who signed. The error wraps ErrFormat.
func ParseSigned(doc []byte) (*Signed, error) {
	var s Signed
	err := decode(doc, &s, MaxSigned)
	if err != nil {
		return nil, err
	}
	if err := checkKind(s.Kind); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	if len(s.Signatures) < 1 || len(s.Signatures) > maxSignatures {
		return nil, fmt.Errorf("%w: %d signatures, want 1 to %d", ErrFormat, len(s.Signatures), maxSignatures)
	}
	for i, sig := range s.Signatures {
		if len(sig.Certificate) == 0 || len(sig.Signature) == 0 {
			return nil, fmt.Errorf("%w: signature %d is empty", ErrFormat, i+1)
		}
	}
	return &s, nil
}

// Open checks a document of a kind and returns its payload with the distinct approvers, sorted. Signatures that the
// verifier does not accept are not counted; one that it accepts and that does not verify spoils the document, and at
// least one must count. How many are enough is RequireApprovals' question. The error wraps ErrFormat or ErrSignature.
func Open(doc []byte, kind string, v Verifier) (payload []byte, approvers []string, err error) {
	s, err := ParseSigned(doc)
	if err != nil {
		return nil, nil, err
	}
	if s.Kind != kind {
		return nil, nil, fmt.Errorf("%w: document of kind %q, want %q", ErrFormat, s.Kind, kind)
	}
	approvers, err = s.approvers(v)
	if err != nil {
		return nil, nil, err
	}
	return s.Payload, approvers, nil
}

func (s *Signed) approvers(v Verifier) ([]string, error) {
	var names []string
	var refused error
	digest := s.digest()
	for i, sig := range s.Signatures {
		name, pub, err := v(sig.Certificate)
		if err != nil {
			refused = err
			continue
		}
		key, ok := pub.(*ecdsa.PublicKey)
		if !ok || key.Curve != elliptic.P256() || name == "" {
			return nil, fmt.Errorf("%w: signature %d: not a named approver with an ECDSA P-256 key", ErrSignature, i+1)
		}
		if !ecdsa.VerifyASN1(key, digest[:], sig.Signature) {
			return nil, fmt.Errorf("%w: signature %d, of %s, does not verify", ErrSignature, i+1, name)
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%w: no signature counts: %w", ErrSignature, refused)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func (s *Signed) digest() [sha256.Size]byte {
	m := make([]byte, 0, len(signatureContext)+len(s.Kind)+1+len(s.Payload))
	m = append(m, signatureContext...)
	m = append(m, s.Kind...)
	m = append(m, 0)
	m = append(m, s.Payload...)
	return sha256.Sum256(m)
}

func (s *Signed) marshal() ([]byte, error) {
	if len(s.Signatures) > maxSignatures {
		return nil, fmt.Errorf("keyset: %d signatures, want at most %d", len(s.Signatures), maxSignatures)
	}
	b, err := encode(s)
	if err != nil {
		return nil, err
	}
	if len(b) > MaxSigned {
		return nil, fmt.Errorf("keyset: document of %d bytes, want at most %d", len(b), MaxSigned)
	}
	return b, nil
}

// checkKind keeps NUL out of kinds, so that no two (kind, payload) pairs are signed as the same bytes.
func checkKind(kind string) error {
	if len(kind) < 1 || len(kind) > maxKindLength {
		return fmt.Errorf("keyset: document kind has %d characters, want 1 to %d", len(kind), maxKindLength)
	}
	for i := range len(kind) {
		c := kind[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return errors.New("keyset: document kind has a character outside a-z, 0-9 and -")
		}
	}
	return nil
}

// RequireApprovals reports whether these distinct approvers are enough: two in production, one in test, where people may
// approve what they made themselves. The error wraps ErrApprovals.
func RequireApprovals(env Environment, approvers []string) error {
	need := 2
	if env == Test {
		need = 1
	}
	distinct := slices.Clone(approvers)
	slices.Sort(distinct)
	distinct = slices.Compact(distinct)
	if len(distinct) < need {
		return fmt.Errorf("%w: %d, want %d in %v", ErrApprovals, len(distinct), need, env)
	}
	return nil
}

// OpenKeySet opens a signed key set that enough people approved, and returns it with its approvers. The error wraps
// ErrFormat, ErrSignature, ErrKeySet or ErrApprovals.
func OpenKeySet(doc []byte, v Verifier) (*KeySet, []string, error) {
	payload, approvers, err := Open(doc, KindKeySet, v)
	if err != nil {
		return nil, nil, err
	}
	s, err := Unmarshal(payload)
	if err != nil {
		return nil, nil, err
	}
	err = RequireApprovals(s.Environment, approvers)
	if err != nil {
		return nil, nil, err
	}
	return s, approvers, nil
}

// OpenTerminal opens a signed terminal record and returns it with its approvers. A record names no environment, its key
// sets do: the caller asks RequireApprovals with theirs. The error wraps ErrFormat, ErrSignature or ErrTerminal.
func OpenTerminal(doc []byte, v Verifier) (*Terminal, []string, error) {
	payload, approvers, err := Open(doc, KindTerminal, v)
	if err != nil {
		return nil, nil, err
	}
	t, err := UnmarshalTerminal(payload)
	if err != nil {
		return nil, nil, err
	}
	return t, approvers, nil
}
