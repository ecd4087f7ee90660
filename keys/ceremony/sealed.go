package ceremony

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

const (
	sealedVersion = 1
	// sealedInfo is the info of HPKE: what the key schedule is for.
	sealedInfo = "latchkey-component-v1"
	// MaxSealed bounds a sealed component in bytes.
	MaxSealed = 2048

	encBytes = 65 // an uncompressed point of P-256
	tagBytes = 16
	maxSheet = 256
)

// Sealed is what is public about a sealed component. Nothing of it is to be believed before [Loading.Open] has opened the
// component, or a record has the digest of its file.
type Sealed struct {
	Ceremony    string
	Name        keyset.KeyRef
	Number, Of  int
	Algorithm   keys.Algorithm
	KCV         keys.CheckValue // of the component
	KeyKCV      keys.CheckValue // of the key; zero when it is not known
	Certificate [sha256.Size]byte
	Expires     time.Time

	header, enc, ciphertext []byte
}

// file is the stored form: one deterministic CBOR array. The header is the associated data of the ciphertext, byte by byte.
type file struct {
	_          struct{} `cbor:",toarray"`
	Header     []byte
	Enc        []byte // the encapsulated key of HPKE
	Ciphertext []byte
}

// header is the public part: one deterministic CBOR map.
type header struct {
	Version     uint   `cbor:"v"`
	Ceremony    string `cbor:"ceremony"`
	Key         string `cbor:"key"`
	Number      uint   `cbor:"n"`
	Of          uint   `cbor:"of"`
	Algorithm   string `cbor:"alg"`
	KCV         string `cbor:"kcv"`
	KeyKCV      string `cbor:"key-kcv"` // empty when it is not known
	Certificate []byte `cbor:"cert"`
	Expires     int64  `cbor:"exp"` // seconds since 1970
}

var codec = canon.New(16, 4)

// Draw makes a component of a plan at random. Of a key all of whose components are drawn nobody knows anything. For TDES it
// has odd parity. The caller wipes it.
func Draw(p Plan, number int) (keys.Sheet, error) {
	if err := p.Validate(); err != nil {
		return keys.Sheet{}, err
	}
	if number < 1 || number > len(p.Shares) {
		return keys.Sheet{}, fmt.Errorf("%w: component %d of %d", ErrPlan, number, len(p.Shares))
	}
	k, err := keys.GenerateKey(p.Attributes) // any string that is a key is a component
	if err != nil {
		return keys.Sheet{}, err
	}
	defer k.Wipe()
	c, err := keys.NewComponent(p.Attributes.Algorithm, k.Material().Expose())
	if err != nil {
		return keys.Sheet{}, err
	}
	v, err := c.CheckValue(p.Attributes.Algorithm.CheckValueKind())
	if err != nil {
		c.Wipe()
		return keys.Sheet{}, err
	}
	return keys.Sheet{Number: number, Of: len(p.Shares), Component: c, CheckValue: v, KeyCheckValue: p.KeyKCV}, nil
}

// Seal seals the component of a sheet to the certificate that the plan has for its number. The sheet is held to the plan, to
// its own check value and to the parity that the plan requires, as by keys.Combine; the caller still wipes it. Whoever seals
// must know by other means that the certificate is that of the custodian.
func Seal(p Plan, s keys.Sheet, now time.Time) ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if err := p.fresh(now); err != nil {
		return nil, err
	}
	if s.Of != len(p.Shares) || s.Number < 1 || s.Number > s.Of {
		return nil, fmt.Errorf("%w: component %d of %d, want one of %d", ErrOther, s.Number, s.Of, len(p.Shares))
	}
	if s.Component.Algorithm() != p.Attributes.Algorithm {
		return nil, fmt.Errorf("%w: it is of %v, the key of %v", keys.ErrComponents, s.Component.Algorithm(), p.Attributes.Algorithm)
	}
	if !p.KeyKCV.IsZero() {
		if !s.KeyCheckValue.IsZero() && s.KeyCheckValue != p.KeyKCV {
			return nil, fmt.Errorf("%w: the sheet is of a key with the check value %v, the plan of %v", keys.ErrComponents, s.KeyCheckValue, p.KeyKCV)
		}
		s.KeyCheckValue = p.KeyKCV
	}
	if err := s.Verify(p.Parity); err != nil {
		return nil, err
	}
	share := p.Shares[s.Number-1]
	fp := share.Fingerprint()
	head, err := codec.Marshal(header{
		Version: sealedVersion, Ceremony: p.Ceremony, Key: p.Name.String(), Number: uint(s.Number), Of: uint(s.Of),
		Algorithm: p.Attributes.Algorithm.String(), KCV: s.CheckValue.String(), KeyKCV: s.KeyCheckValue.String(), Certificate: fp[:],
		Expires: p.Expires.Unix(),
	})
	if err != nil {
		return nil, err
	}
	_, public, err := readCertificate(share.Certificate)
	if err != nil {
		return nil, err
	}
	to, err := hpke.NewDHKEMPublicKey(public)
	if err != nil {
		return nil, err
	}
	text, err := s.Text()
	if err != nil {
		return nil, err
	}
	defer text.Wipe()
	enc, sender, err := hpke.NewSender(to, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(sealedInfo))
	if err != nil {
		return nil, err
	}
	ciphertext, err := sender.Seal(head, text.Expose())
	if err != nil {
		return nil, err
	}
	return codec.Marshal(file{Header: head, Enc: enc, Ciphertext: ciphertext})
}

// ParseSealed reads what is public about a sealed component, in the one form that Seal writes. The error wraps ErrFormat.
func ParseSealed(b []byte) (*Sealed, error) {
	if len(b) > MaxSealed {
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", ErrFormat, len(b), MaxSealed)
	}
	var f file
	if err := codec.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("%w: not a sealed component: %v", ErrFormat, err)
	}
	var h header
	if err := codec.Unmarshal(f.Header, &h); err != nil {
		return nil, fmt.Errorf("%w: header of a sealed component: %v", ErrFormat, err)
	}
	if h.Version != sealedVersion {
		return nil, fmt.Errorf("%w: sealed component of version %d, want %d", ErrFormat, h.Version, sealedVersion)
	}
	if len(f.Enc) != encBytes || len(f.Ciphertext) <= tagBytes || len(f.Ciphertext) > maxSheet+tagBytes {
		return nil, fmt.Errorf("%w: sealed component with a key of %d bytes and a text of %d", ErrFormat, len(f.Enc), len(f.Ciphertext))
	}
	s, err := h.sealed()
	if err != nil {
		return nil, err
	}
	s.header, s.enc, s.ciphertext = f.Header, f.Enc, f.Ciphertext
	return s, nil
}

func (h header) sealed() (*Sealed, error) {
	s := &Sealed{Ceremony: h.Ceremony, Expires: time.Unix(h.Expires, 0).UTC()}
	if !isID(h.Ceremony) || h.Of < keys.MinComponents || h.Of > keys.MaxComponents || h.Number < 1 || h.Number > h.Of ||
		len(h.Certificate) != len(s.Certificate) || !isMoment(s.Expires) {
		return nil, fmt.Errorf("%w: header of a sealed component", ErrFormat)
	}
	s.Number, s.Of, s.Certificate = int(h.Number), int(h.Of), [sha256.Size]byte(h.Certificate)
	var errs [4]error
	s.Name, errs[0] = keyset.ParseKeyRef(h.Key)
	s.Algorithm, errs[1] = keys.ParseAlgorithm(h.Algorithm)
	s.KCV, errs[2] = keys.ParseCheckValue(h.KCV)
	if h.KeyKCV != "" {
		s.KeyKCV, errs[3] = keys.ParseCheckValue(h.KeyKCV)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("%w: header of a sealed component: %v", ErrFormat, err)
	}
	if s.Name.String() != h.Key || s.Algorithm.String() != h.Algorithm || s.KCV.String() != h.KCV || s.KeyKCV.String() != h.KeyKCV {
		return nil, fmt.Errorf("%w: header of a sealed component is not in its one spelling", ErrFormat)
	}
	return s, nil
}

// of holds a sealed component to a plan. The error wraps ErrOther.
func (s *Sealed) of(p Plan) error {
	switch {
	case s.Ceremony != p.Ceremony:
		return fmt.Errorf("%w: it is of ceremony %s, not %s", ErrOther, s.Ceremony, p.Ceremony)
	case s.Name != p.Name || s.Algorithm != p.Attributes.Algorithm || s.Of != len(p.Shares) || !s.Expires.Equal(p.Expires):
		return fmt.Errorf("%w: component %d of %d for %v, %v", ErrOther, s.Number, s.Of, s.Name, s.Algorithm)
	case s.Certificate != p.Shares[s.Number-1].Fingerprint():
		return fmt.Errorf("%w: component %d is sealed to another certificate than that of %s", ErrOther, s.Number, p.Shares[s.Number-1].Custodian)
	case !p.KeyKCV.IsZero() && s.KeyKCV != p.KeyKCV:
		return fmt.Errorf("%w: component %d is of a key with the check value %v, the plan of %v", ErrOther, s.Number, s.KeyKCV, p.KeyKCV)
	}
	return nil
}

// open decrypts the component and holds the sheet inside to the header. The caller wipes it.
func (s *Sealed) open(agreement ecdh.KeyExchanger) (keys.Sheet, error) {
	key, err := hpke.NewDHKEMPrivateKey(agreement)
	if err != nil {
		return keys.Sheet{}, fmt.Errorf("%w: %v", ErrCustodian, err)
	}
	recipient, err := hpke.NewRecipient(s.enc, key, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(sealedInfo))
	if err != nil {
		return keys.Sheet{}, ErrSealed
	}
	text, err := recipient.Open(s.header, s.ciphertext)
	if err != nil {
		return keys.Sheet{}, ErrSealed
	}
	defer secret.Wipe(text)
	sheet, err := keys.ParseSheet(text)
	if err != nil {
		return keys.Sheet{}, fmt.Errorf("%w: component %d: %w", ErrFormat, s.Number, err)
	}
	if err := s.holds(sheet); err != nil {
		sheet.Wipe()
		return keys.Sheet{}, err
	}
	return sheet, nil
}

// holds reports whether a sheet is what the header says. What people approved is the header.
func (s *Sealed) holds(sheet keys.Sheet) error {
	if sheet.Number != s.Number || sheet.Of != s.Of || sheet.Component.Algorithm() != s.Algorithm {
		return fmt.Errorf("%w: the sheet inside is component %d of %d, %v", ErrOther, sheet.Number, sheet.Of, sheet.Component.Algorithm())
	}
	if (sheet.CheckValue != s.KCV || sheet.KeyCheckValue != s.KeyKCV) && !planted.On(planted.CeremonyCheckValue) {
		return &keys.ComponentError{Number: s.Number, CheckValue: s.KCV, Err: fmt.Errorf("%w: the sheet inside has another one", keys.ErrCheckValue)}
	}
	return nil
}

// digest names a sealed file in a record.
func digest(sealed []byte) string {
	sum := sha256.Sum256(sealed)
	return hex.EncodeToString(sum[:])
}

// exchanger returns a private key as what HPKE agrees with: a key in memory, or one in a device that implements it.
func exchanger(key crypto.Signer) (ecdh.KeyExchanger, error) {
	switch k := key.(type) {
	case ecdh.KeyExchanger:
		return k, nil
	case interface {
		ECDH() (*ecdh.PrivateKey, error)
	}:
		private, err := k.ECDH()
		if err != nil {
			return nil, fmt.Errorf("%w: %v", ErrCustodian, err)
		}
		return private, nil
	}
	return nil, fmt.Errorf("%w: a key of type %T agrees on nothing", ErrCustodian, key)
}

func samePublic(key crypto.Signer, der []byte) bool {
	_, want, err := readCertificate(der)
	if err != nil {
		return false
	}
	pub, ok := key.Public().(interface {
		ECDH() (*ecdh.PublicKey, error)
	})
	if !ok {
		return false
	}
	got, err := pub.ECDH()
	return err == nil && bytes.Equal(got.Bytes(), want.Bytes())
}
