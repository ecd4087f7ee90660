package keys

import (
	"crypto/aes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"

	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/mac"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// ErrWeak says that a TDES key has equal parts and so the strength of single DES.
var ErrWeak = errors.New("keys: TDES key with equal parts")

var errEncode = errors.New("keys: a key is not encoded")

// Key is a symmetric key with its attributes. The zero value is no key. Copies share the bytes: wiping one wipes
// all. Reading it from several goroutines is safe, wiping it while another one reads is not.
type Key struct {
	attributes Attributes
	material   secret.Bytes
}

// NewKey returns a key with a copy of material, which the caller still owns and wipes. The length must be exactly that of
// the algorithm: nothing is padded, cut or given parity. A TDES key with equal neighbouring parts is ErrWeak.
func NewKey(a Attributes, material []byte) (Key, error) {
	if err := a.Validate(); err != nil {
		return Key{}, err
	}
	if len(material) != a.Algorithm.KeyBytes() {
		return Key{}, fmt.Errorf("keys: %s key of %d bytes: want %d", a.Algorithm, len(material), a.Algorithm.KeyBytes())
	}
	if a.Algorithm.IsTDES() && degenerate(material) {
		return Key{}, ErrWeak
	}
	return Key{attributes: a, material: secret.From(material)}, nil
}

// degenerate reports whether two neighbouring DES keys are equal but for parity, so that TDES collapses to single DES. Equal
// outer parts are the way in which some systems write a 2TDEA key in 24 bytes; it is not refused.
func degenerate(material []byte) bool {
	equal := 0
	for i := 8; i < len(material); i += 8 {
		equal |= equalParts(material[i-8:i], material[i:i+8])
	}
	return secret.Public(equal) == 1
}

func equalParts(a, b []byte) int {
	var diff byte
	for i := range a {
		diff |= (a[i] ^ b[i]) & 0xfe
	}
	return subtle.ConstantTimeByteEq(diff, 0)
}

// GenerateKey draws a key at random; a TDES key gets odd parity.
func GenerateKey(a Attributes) (Key, error) {
	if err := a.Validate(); err != nil {
		return Key{}, err
	}
	material := secret.New(a.Algorithm.KeyBytes())
	defer material.Wipe()
	for {
		_, _ = rand.Read(material.Expose()) // never fails
		if a.Algorithm.IsTDES() {
			setOddParity(material.Expose())
		}
		k, err := NewKey(a, material.Expose())
		if !errors.Is(err, ErrWeak) {
			return k, err
		}
	}
}

// setOddParity folds each byte onto one bit: math/bits counts in a table, which a secret must not index.
func setOddParity(b []byte) {
	for i, v := range b {
		v &= 0xfe
		v ^= v >> 4
		v ^= v >> 2
		v ^= v >> 1
		b[i] = b[i]&0xfe | ^v&1
	}
}

// Attributes returns what the key is and may do.
func (k Key) Attributes() Attributes { return k.attributes }

// Material returns the bytes of the key, shared with k: for the rooms that compute with it.
func (k Key) Material() secret.Bytes { return k.material }

// IsZero reports whether k is no key: the zero value, or wiped.
func (k Key) IsZero() bool { return k.material.IsZero() }

// Clone returns a key with bytes of its own.
func (k Key) Clone() Key { return Key{attributes: k.attributes, material: k.material.Clone()} }

// Wipe zeroes the bytes of k and of all its copies.
func (k Key) Wipe() { k.material.Wipe() }

// KCV returns the key check value: for TDES the first 3 bytes of an encrypted zero block, for AES the first 5 bytes of the
// CMAC of a zero block (ANSI X9.24-1 and X9.143), for HMAC the first 3 bytes of the HMAC-SHA-256 of nothing. A zero key
// has the zero KCV, and so has a TDES key where Go's FIPS mode forbids TDES: compare check values only after [KCV.IsZero].
func (k Key) KCV() KCV {
	switch raw := k.material.Expose(); {
	case len(raw) == 0:
		return KCV{}
	case k.attributes.Algorithm.IsTDES():
		return tdesKCV(raw)
	case k.attributes.Algorithm.IsAES():
		return aesKCV(raw)
	default:
		h := hmac.New(sha256.New, raw)
		return newKCV(h.Sum(nil)[:3])
	}
}

func tdesKCV(raw []byte) KCV {
	c, err := des.New(raw)
	if err != nil {
		return KCV{} // Go's FIPS mode forbids TDES; a key without a check value matches none
	}
	defer c.Wipe()
	var block [des.BlockSize]byte
	c.Encrypt(block[:], block[:])
	return newKCV(block[:3])
}

func aesKCV(raw []byte) KCV {
	c, err := aes.NewCipher(raw)
	if err != nil {
		return KCV{}
	}
	defer secret.WipeCipher(c)
	return newKCV(mac.CMAC(nil, c, make([]byte, aes.BlockSize))[:5])
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
	material := k.material.Clone()
	defer material.Wipe()
	spelling := material.Expose()
	if k.attributes.Algorithm.IsTDES() {
		setOddParity(spelling)
		if len(spelling) == 24 && secret.Public(equalParts(spelling[:8], spelling[16:])) == 1 {
			spelling = spelling[:16]
		}
	}
	h := hmac.New(sha256.New, fpKey.Expose())
	h.Write([]byte("latchkey-fingerprint-v1\x00"))
	h.Write([]byte{k.attributes.Algorithm.Letter()})
	h.Write(spelling)
	var f Fingerprint
	copy(f.b[:], h.Sum(nil))
	return f
}

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
