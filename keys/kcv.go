package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/mac"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// ErrCheckValue says that a key or a component has not the check value that it should have.
var ErrCheckValue = errors.New("keys: wrong check value")

// KCVKind says how a check value is computed. The zero value is none.
type KCVKind uint8

// The kinds of check values (ANSI X9.24-1:2017, annex A). The block of zeros is as long as one of the cipher.
const (
	KCVLegacy    KCVKind = iota + 1 // first 3 bytes of an encrypted block of zeros: TDES, and AES in older systems
	KCVCMAC                         // first 5 bytes of the CMAC of a block of zeros: AES, TDES
	KCVCMACShort                    // first 3 bytes of the same, as AWS Payment Cryptography shows them
	KCVHMAC                         // first 3 bytes of the HMAC-SHA-256 of nothing: HMAC keys
)

var kcvKinds = map[KCVKind]struct {
	name     string
	bytes    int
	ofCipher bool // of block ciphers, not of HMAC
}{
	KCVLegacy:    {"legacy", 3, true},
	KCVCMAC:      {"cmac", 5, true},
	KCVCMACShort: {"cmac-short", 3, true},
	KCVHMAC:      {"hmac", 3, false},
}

// ParseKCVKind returns the kind called name, as String writes it, else ErrSyntax.
func ParseKCVKind(name string) (KCVKind, error) {
	for kind, row := range kcvKinds {
		if row.name == name {
			return kind, nil
		}
	}
	return 0, fmt.Errorf("%w: unknown kind of check value: want legacy, cmac, cmac-short or hmac", ErrSyntax)
}

// String returns the name: legacy, cmac, cmac-short or hmac.
func (k KCVKind) String() string {
	if row, ok := kcvKinds[k]; ok {
		return row.name
	}
	return fmt.Sprintf("KCVKind(%d)", uint8(k))
}

// Bytes returns the length of a check value in bytes; 0 for no kind.
func (k KCVKind) Bytes() int { return kcvKinds[k].bytes }

// Fits reports whether a key of the algorithm has check values of this kind.
func (k KCVKind) Fits(a Algorithm) bool {
	row, ok := kcvKinds[k]
	return ok && a.IsValid() && row.ofCipher != a.IsHMAC()
}

// CheckValueKind returns the kind that custodians of such keys compare first: legacy for TDES, cmac for AES, hmac for HMAC; 0
// for no algorithm.
func (a Algorithm) CheckValueKind() KCVKind {
	switch {
	case a.IsTDES():
		return KCVLegacy
	case a.IsAES():
		return KCVCMAC
	case a.IsHMAC():
		return KCVHMAC
	}
	return 0
}

// KCV is a key check value of 3 or 5 bytes. It is public and comparable; the zero value is none. Its bytes do not say how it
// was computed; a [CheckValue] does.
type KCV struct {
	n uint8
	b [5]byte
}

func newKCV(b []byte) KCV {
	var k KCV
	k.n = uint8(copy(k.b[:], b))
	return k
}

// ParseKCV reads 6 or 10 hexadecimal digits, else ErrSyntax. No parser here repeats what it was given: it may be something
// else that a person typed in the wrong place.
func ParseKCV(s string) (KCV, error) {
	b, err := hex.DecodeString(s)
	if err != nil || (len(b) != 3 && len(b) != 5) {
		return KCV{}, fmt.Errorf("%w: check value: want 6 or 10 hexadecimal digits", ErrSyntax)
	}
	return newKCV(b), nil
}

// Equal reports whether two check values have the same bytes, in constant time. None equals nothing, not even none.
func (k KCV) Equal(other KCV) bool {
	same := subtle.ConstantTimeCompare(k.b[:], other.b[:]) & subtle.ConstantTimeByteEq(k.n, other.n)
	return secret.Public(same) == 1 && !k.IsZero()
}

// IsZero reports whether there is no check value.
func (k KCV) IsZero() bool { return k.n == 0 }

// String returns upper-case hexadecimal digits.
func (k KCV) String() string { return strings.ToUpper(hex.EncodeToString(k.b[:k.n])) }

// MarshalText writes the digits.
func (k KCV) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the digits.
func (k *KCV) UnmarshalText(b []byte) (err error) {
	*k, err = ParseKCV(string(b))
	return err
}

// CheckValue is a key check value together with its kind. It is public and comparable; the zero value is none.
type CheckValue struct {
	Kind KCVKind
	KCV  KCV
}

// ParseCheckValue reads what String writes: the kind, a colon and the digits, as in cmac:08793E25AB. The number of digits is
// that of the kind. Anything else is ErrSyntax.
func ParseCheckValue(s string) (CheckValue, error) {
	name, digits, ok := strings.Cut(s, ":")
	if !ok {
		return CheckValue{}, fmt.Errorf("%w: check value: want a kind, a colon and digits, as in legacy:08D7B4", ErrSyntax)
	}
	kind, err := ParseKCVKind(name)
	if err != nil {
		return CheckValue{}, err
	}
	kcv, err := ParseKCV(digits)
	if err != nil {
		return CheckValue{}, err
	}
	if int(kcv.n) != kind.Bytes() {
		return CheckValue{}, fmt.Errorf("%w: check value of %d digits: want %d for %v", ErrSyntax, len(digits), 2*kind.Bytes(), kind)
	}
	return CheckValue{Kind: kind, KCV: kcv}, nil
}

// newCheckValue computes the check value of a string of key length.
func newCheckValue(a Algorithm, kind KCVKind, material []byte) (CheckValue, error) {
	if len(material) == 0 {
		return CheckValue{}, fmt.Errorf("%w: there is nothing to compute it of", ErrCheckValue)
	}
	if !kind.Fits(a) {
		return CheckValue{}, fmt.Errorf("%w: kind %v does not go with %v", ErrCheckValue, kind, a)
	}
	if kind == KCVHMAC {
		sum := hmacSHA256(material, nil)
		defer secret.Wipe(sum)
		return CheckValue{kind, tell(sum[:kind.Bytes()])}, nil
	}
	var v KCV
	var err error
	secret.Do(func() { v, err = cipherCheckValue(a, kind, material) })
	if err != nil {
		return CheckValue{}, err
	}
	return CheckValue{kind, v}, nil
}

// cipherCheckValue computes the check value of a key of a block cipher.
func cipherCheckValue(a Algorithm, kind KCVKind, material []byte) (KCV, error) {
	block, wipe, err := newBlock(a, material)
	if err != nil {
		return KCV{}, err
	}
	defer wipe()
	sum := make([]byte, block.BlockSize())
	defer secret.Wipe(sum) // more of it than the check value is not public
	if kind == KCVLegacy {
		block.Encrypt(sum, sum)
	} else {
		sum = mac.CMAC(sum[:0], block, make([]byte, block.BlockSize()))
	}
	return tell(sum[:kind.Bytes()]), nil
}

// hmacSHA256 returns the HMAC of message under key. Neither is left anywhere, which crypto/hmac cannot promise.
func hmacSHA256(key, message []byte) []byte {
	sum := make([]byte, 0, mac.SHA256.Size())
	secret.Do(func() { // the hash function copies itself, and what is in it, to the stack
		var s mac.State
		defer s.Wipe()
		_ = s.SetHMAC(mac.SHA256, key) // fails for an empty key only
		sum, _ = s.Append(sum, message, cap(sum))
	})
	return sum
}

// tell makes a check value of what was computed under a key: these bytes are public from here on.
func tell(b []byte) KCV {
	secret.PublicBytes(b)
	return newKCV(b)
}

func newBlock(a Algorithm, material []byte) (block cipher.Block, wipe func(), err error) {
	if a.IsTDES() {
		c, err := des.New(material) // Go's FIPS mode forbids it
		if err != nil {
			return nil, nil, err
		}
		return c, c.Wipe, nil
	}
	block, err = aes.NewCipher(material)
	return block, func() { secret.WipeCipher(block) }, err
}

// verify compares in constant time.
func (v CheckValue) verify(want CheckValue) error {
	if v.Kind != want.Kind || !v.KCV.Equal(want.KCV) {
		return ErrCheckValue
	}
	return nil
}

// IsZero reports whether there is no check value.
func (v CheckValue) IsZero() bool { return v == CheckValue{} }

// String returns the kind, a colon and upper-case hexadecimal digits, or "" for none.
func (v CheckValue) String() string {
	if v.IsZero() {
		return ""
	}
	return v.Kind.String() + ":" + v.KCV.String()
}

// MarshalText writes what String returns; no check value is an error.
func (v CheckValue) MarshalText() ([]byte, error) {
	if v.IsZero() {
		return nil, errors.New("keys: no check value")
	}
	return []byte(v.String()), nil
}

// UnmarshalText reads what ParseCheckValue reads.
func (v *CheckValue) UnmarshalText(b []byte) (err error) {
	*v, err = ParseCheckValue(string(b))
	return err
}
