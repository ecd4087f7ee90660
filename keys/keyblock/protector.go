package keyblock

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/latchkey-pos/latchkey/internal/mac"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
)

// ErrBlock says that a key block is malformed, altered, or made under another key. It does not say which.
var ErrBlock = errors.New("keyblock: the block does not verify")

// errMode says that the mode of use of the protection key does not cover the operation.
var errMode = errors.New("keyblock: the mode of use of the protection key forbids this")

// Protector wraps and unwraps under one key block protection key. It is safe for concurrent use until it is wiped.
type Protector struct {
	kbpk secret.Bytes
	mode keys.Mode
}

// NewProtector returns a protector under a copy of kbpk, an AES key of usage K1. The caller still wipes kbpk. Its mode of use
// holds: under mode E the protector only wraps, under mode D it only unwraps.
func NewProtector(kbpk keys.Key) (*Protector, error) {
	if a := kbpk.Attributes(); a.Usage != keys.UsageKBPK || !a.Algorithm.IsAES() || kbpk.IsZero() {
		return nil, fmt.Errorf("keyblock: %s key of usage %q cannot protect version D blocks: want an AES key of usage K1",
			a.Algorithm, string(a.Usage))
	}
	return &Protector{kbpk: kbpk.Material().Clone(), mode: kbpk.Attributes().Mode}, nil
}

// Wipe zeroes the key block protection key.
func (p *Protector) Wipe() { p.kbpk.Wipe() }

// Wrap returns a version D key block of k with the given optional blocks in order. The attributes of k become the header.
// The length of the key is hidden by padding to the longest key of its algorithm (ANSI X9.143, 6.4). HM is added to the
// optional blocks of an HMAC key. It is an error when k is stronger than the protection key, when an optional block does not
// go with k or comes twice, and when the block would be longer than 9999 characters.
func (p *Protector) Wrap(k keys.Key, optional ...OptionalBlock) (string, error) {
	a := k.Attributes()
	if err := a.Validate(); err != nil {
		return "", err
	}
	if k.IsZero() {
		return "", errors.New("keyblock: no key to wrap")
	}
	if p.mode == keys.ModeDecrypt {
		return "", errMode
	}
	if a.Algorithm.StrengthBits() > 8*p.kbpk.Len() {
		return "", fmt.Errorf("keyblock: %s key under a protection key of %d bits: too strong", a.Algorithm, 8*p.kbpk.Len())
	}
	optional, err := checkOptional(a, optional)
	if err != nil {
		return "", err
	}
	content := secret.New(contentSize(a.Algorithm))
	defer content.Wipe()
	raw := k.Material().Expose()
	binary.BigEndian.PutUint16(content.Expose(), uint16(8*len(raw)))
	copy(content.Expose()[2:], raw)
	_, _ = rand.Read(content.Expose()[2+len(raw):]) // never fails
	h := Header{
		Version: 'D', Usage: string(a.Usage), Algorithm: a.Algorithm.Letter(), Mode: a.Mode, KeyVersion: "00",
		Exportability: a.Exportability, Reserved: "00", Optional: optional,
	}
	text, err := h.format(hex.EncodedLen(content.Len()))
	if err != nil {
		return "", err
	}
	return p.protect(text, content.Expose())
}

// contentSize is the length of the encrypted part: length field, key and padding up to the longest key of the algorithm.
func contentSize(a keys.Algorithm) int {
	if a.IsTDES() {
		return 32 // 2 + 24, rounded up
	}
	return 48 // 2 + 32, rounded up
}

func (p *Protector) protect(header string, content []byte) (string, error) {
	enc, auth, err := p.derive()
	if err != nil {
		return "", err
	}
	sum := sum(auth, header, content)
	out := make([]byte, len(content))
	cipher.NewCBCEncrypter(enc, sum).CryptBlocks(out, content)
	return header + strings.ToUpper(hex.EncodeToString(out)+hex.EncodeToString(sum)), nil
}

// sum is the MAC over the header as it stands and the clear content.
func sum(auth cipher.Block, header string, content []byte) []byte {
	message := make([]byte, 0, len(header)+len(content))
	message = append(append(message, header...), content...)
	defer secret.Wipe(message)
	return mac.CMAC(nil, auth, message)
}

// Content is an unwrapped key block: its authenticated header, and the key. It owns the key.
type Content struct {
	Header
	material secret.Bytes
}

// Unwrap verifies block and returns its content, which the caller wipes. Everything that is wrong gives ErrBlock, but for
// another version, which gives ErrVersion. Hexadecimal digits are upper case; anything else is refused.
func (p *Protector) Unwrap(block string) (Content, error) {
	if p.mode == keys.ModeEncrypt {
		return Content{}, errMode
	}
	h, end, err := parseHeader(block)
	if err != nil {
		return Content{}, ErrBlock
	}
	if h.Version != 'D' {
		return Content{}, ErrVersion
	}
	body := block[end:]
	if end%blockSize != 0 || len(body) < minDigits+macDigits || len(body)%macDigits != 0 {
		return Content{}, ErrBlock
	}
	if strings.Trim(body, hexDigits) != "" {
		return Content{}, ErrBlock
	}
	raw, err := hex.DecodeString(body)
	if err != nil {
		return Content{}, ErrBlock
	}
	defer secret.Wipe(raw)
	content, received := raw[:len(raw)-blockSize], raw[len(raw)-blockSize:]
	enc, auth, err := p.derive()
	if err != nil {
		return Content{}, err
	}
	cipher.NewCBCDecrypter(enc, received).CryptBlocks(content, content)
	if secret.Public(subtle.ConstantTimeCompare(sum(auth, block[:end], content), received)) != 1 {
		return Content{}, ErrBlock
	}
	return open(h, content)
}

// open reads the length field and the key of an authenticated block.
func open(h Header, content []byte) (Content, error) {
	bits := secret.Public(int(binary.BigEndian.Uint16(content)))
	if bits == 0 || bits%8 != 0 {
		return Content{}, ErrBlock
	}
	if bits/8 > len(content)-2 && !planted.On(planted.ParseKeyBlock) {
		return Content{}, ErrBlock
	}
	if _, ok := algorithm(h.Algorithm, bits); !ok && strings.IndexByte("ATH", h.Algorithm) >= 0 {
		return Content{}, ErrBlock
	}
	return Content{Header: h, material: secret.From(content[2 : 2+bits/8])}, nil
}

// derive returns the ciphers under the encryption and the authentication key that belong to the protection key
// (ANSI X9.143, 7.2.1): CMAC of a counter, the purpose 0000 or 0001, the algorithm 0002, 0003 or 0004 and the length in bits.
func (p *Protector) derive() (enc, auth cipher.Block, err error) {
	root, err := aes.NewCipher(p.kbpk.Expose())
	if err != nil {
		return nil, nil, err
	}
	size := p.kbpk.Len()
	for purpose, out := range []*cipher.Block{&enc, &auth} {
		key := make([]byte, 0, 2*blockSize)
		for counter := byte(1); len(key) < size; counter++ {
			key = mac.CMAC(key, root, []byte{counter, 0, byte(purpose), 0, 0, byte(size / 8), byte(8 * size >> 8), byte(8 * size)})
		}
		*out, err = aes.NewCipher(key[:size])
		secret.Wipe(key[:cap(key)])
		if err != nil {
			return nil, nil, err
		}
	}
	return enc, auth, nil
}

// Material returns the bytes of the key, whatever its algorithm; a private key is the DER of its structure. They are shared
// with the content.
func (c Content) Material() secret.Bytes { return c.material }

// Wipe zeroes the key.
func (c Content) Wipe() { c.material.Wipe() }

// Key returns the symmetric key with the attributes of the header, with bytes of its own. It is an error for asymmetric keys,
// single DES, HMAC with another hash than SHA-256, components of keys, and usages that this project gives no meaning.
func (c Content) Key() (keys.Key, error) {
	if strings.HasPrefix(c.KeyVersion, "c") {
		return keys.Key{}, fmt.Errorf("keyblock: key version %s: a component is not a key", c.KeyVersion)
	}
	for _, ob := range c.Optional {
		if ob.ID == OptionalHM && ob.Data != hashSHA256 {
			return keys.Key{}, fmt.Errorf("keyblock: hash algorithm %q is not SHA-256 (%s)", ob.Data, hashSHA256)
		}
	}
	a, ok := algorithm(c.Algorithm, 8*c.material.Len())
	if !ok {
		return keys.Key{}, fmt.Errorf("keyblock: algorithm %q with %d bits is no key of ours", c.Algorithm, 8*c.material.Len())
	}
	return keys.NewKey(keys.Attributes{
		Algorithm: a, Usage: keys.Usage(c.Usage), Mode: c.Mode, Exportability: c.Exportability,
	}, c.material.Expose())
}

func algorithm(letter byte, bits int) (keys.Algorithm, bool) {
	switch {
	case letter == 'T' && bits == 64: // single DES: readable, never a key of ours
		return 0, true
	case letter == 'T' && bits == 128:
		return keys.TDES2, true
	case letter == 'T' && bits == 192:
		return keys.TDES3, true
	case letter == 'A' && bits == 128:
		return keys.AES128, true
	case letter == 'A' && bits == 192:
		return keys.AES192, true
	case letter == 'A' && bits == 256:
		return keys.AES256, true
	case letter == 'H' && bits == 128:
		return keys.HMAC128, true
	case letter == 'H' && bits == 192:
		return keys.HMAC192, true
	case letter == 'H' && bits == 256:
		return keys.HMAC256, true
	}
	return 0, false
}
