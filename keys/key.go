package keys

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// ErrLength says that a key or a component has not exactly the length of its algorithm.
var ErrLength = errors.New("keys: wrong length")

var errEncode = errors.New("keys: a key is not encoded")

// Key is a symmetric key with its attributes. The zero value is no key. Copies share the bytes: wiping one wipes
// all. Reading it from several goroutines is safe, wiping it while another one reads is not.
type Key struct {
	attributes Attributes
	material   secret.Bytes
}

// NewKey returns a key with a copy of material, which the caller still owns and wipes. The length must be exactly that of
// the algorithm, else ErrLength: nothing is padded, cut or given parity. A TDES key with equal neighbouring parts is ErrWeak.
// [ImportKey] is stricter, for keys that come into use here.
func NewKey(a Attributes, material []byte) (Key, error) {
	if err := a.Validate(); err != nil {
		return Key{}, err
	}
	if len(material) != a.Algorithm.KeyBytes() {
		return Key{}, fmt.Errorf("%w: %s key of %d bytes: want %d", ErrLength, a.Algorithm, len(material), a.Algorithm.KeyBytes())
	}
	if a.Algorithm.IsTDES() && degenerate(material) {
		return Key{}, fmt.Errorf("%w: TDES with equal parts", ErrWeak)
	}
	return Key{attributes: a, material: secret.From(material)}, nil
}

// GenerateKey draws a key at random, until it is one that [ImportKey] takes; a TDES key gets odd parity, and is
// ErrForbidden where Go's FIPS mode is enforced.
func GenerateKey(a Attributes) (Key, error) {
	if err := a.Validate(); err != nil {
		return Key{}, err
	}
	if err := a.permitted(); err != nil {
		return Key{}, err
	}
	material := secret.New(a.Algorithm.KeyBytes())
	defer material.Wipe()
	for {
		_, _ = rand.Read(material.Expose()) // never fails
		k, err := ImportKey(a, ParityAdjusted, material.Expose())
		if !errors.Is(err, ErrWeak) {
			return k, err
		}
	}
}

// Attributes returns what the key is and may do.
func (k Key) Attributes() Attributes { return k.attributes }

// Material returns the bytes of the key, shared with k: for the rooms that compute with it.
func (k Key) Material() secret.Bytes { return k.material }

// StrengthBits returns the effective strength of the key in bits: that of its algorithm, but that of 2TDEA for a 3TDEA key with
// equal outer parts, which is no stronger. It is 0 for a zero key.
func (k Key) StrengthBits() int {
	switch {
	case k.IsZero():
		return 0
	case k.attributes.Algorithm.IsTDES() && isTwoKey(k.material.Expose()):
		return TDES2.StrengthBits()
	}
	return k.attributes.Algorithm.StrengthBits()
}

// IsZero reports whether k is no key: the zero value, or wiped.
func (k Key) IsZero() bool { return k.material.IsZero() }

// Clone returns a key with bytes of its own.
func (k Key) Clone() Key { return Key{attributes: k.attributes, material: k.material.Clone()} }

// Wipe zeroes the bytes of k and of all its copies.
func (k Key) Wipe() { k.material.Wipe() }

// KCV returns the key check value of the default kind, see [Algorithm.CheckValueKind]: for TDES the first 3 bytes of an
// encrypted zero block, for AES the first 5 bytes of the CMAC of a zero block (ANSI X9.24-1 and X9.143), for HMAC the first 3
// bytes of the HMAC-SHA-256 of nothing. A zero key has the zero KCV, and so has a TDES key where Go's FIPS mode forbids TDES:
// compare check values only after [KCV.IsZero], or with [Key.Verify].
func (k Key) KCV() KCV {
	v, err := k.CheckValue(k.attributes.Algorithm.CheckValueKind())
	if err != nil {
		return KCV{}
	}
	return v.KCV
}

// CheckValue returns the check value of a kind. One that does not go with the algorithm is an error, and so is a zero key; TDES
// where Go's FIPS mode forbids it is ErrForbidden.
func (k Key) CheckValue(kind KCVKind) (CheckValue, error) {
	return newCheckValue(k.attributes.Algorithm, kind, k.material.Expose())
}

// Verify refuses a key that has not the check value: with ErrCheckValue, or with the error of CheckValue.
func (k Key) Verify(want CheckValue) error {
	got, err := k.CheckValue(want.Kind)
	if err != nil {
		return err
	}
	return got.verify(want)
}

// Fingerprint recognises the key: HMAC-SHA-256 of its algorithm and bytes under fpKey, cut to 16 bytes. It tells nothing
// about the key to whoever lacks fpKey, and is the same under every name, usage, mode and spelling: parity bits of TDES do not
// count, and 3TDEA with equal outer parts is the 2TDEA key of its first two. A zero key has the zero fingerprint. Calling it
// without an fpKey is a broken call and panics.
func (k Key) Fingerprint(fpKey secret.Bytes) Fingerprint {
	if fpKey.IsZero() {
		panic("keys: a fingerprint without a key")
	}
	if k.IsZero() {
		return Fingerprint{}
	}
	var f Fingerprint
	secret.Do(func() { copy(f.b[:], k.fingerprint(fpKey)) })
	return f
}

// fingerprint returns the whole HMAC.
func (k Key) fingerprint(fpKey secret.Bytes) []byte {
	message := secret.New(len(fingerprintLabel) + 1 + k.material.Len())
	defer message.Wipe()
	raw := message.Expose()
	n := copy(raw, fingerprintLabel)
	raw[n] = k.attributes.Algorithm.Letter()
	spelling := raw[n+1:]
	copy(spelling, k.material.Expose())
	if k.attributes.Algorithm.IsTDES() {
		setOddParity(spelling)
		if isTwoKey(spelling) {
			raw = raw[:n+1+16]
		}
	}
	return hmacSHA256(fpKey.Expose(), raw)
}

// fingerprintLabel stands before what is fingerprinted, so that it is no HMAC of anything else.
const fingerprintLabel = "latchkey-fingerprint-v1\x00"

// Format prints the attributes under every verb, never the bytes.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// String returns the attributes, never the bytes.
func (k Key) String() string {
	if k.IsZero() {
		return "[no key]"
	}
	a := k.attributes
	return fmt.Sprintf("[%v key %s %v %v]", a.Algorithm, string(a.Usage), a.Mode, a.Exportability)
}

// GoString returns the attributes, never the bytes.
func (k Key) GoString() string { return k.String() }

// MarshalText refuses: keys leave in key blocks.
func (k Key) MarshalText() ([]byte, error) { return nil, errEncode }

// MarshalBinary refuses: keys leave in key blocks.
func (k Key) MarshalBinary() ([]byte, error) { return nil, errEncode }
