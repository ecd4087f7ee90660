package residue_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"math/bits"
	"strings"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyblock"
)

// holding is a key that a host keeps: it comes in components, is told by its fingerprint and its check values, and stands in
// key blocks.
type holding struct {
	name string
	keys.Attributes
}

// heldRounds is how often each of them is taken in and given out.
const heldRounds = 50

var holdings = []holding{
	{"TDES", keys.Attributes{Algorithm: keys.TDES2, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.Exportable}},
	{"AES", keys.Attributes{Algorithm: keys.AES128, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.Exportable}},
	{"HMAC", keys.Attributes{Algorithm: keys.HMAC128, Usage: keys.UsageHMAC, Mode: keys.ModeGenVerify, Exportability: keys.Exportable}},
}

// custody is what the keys of a host are kept by.
type custody struct {
	fingerprints secret.Bytes
	aes, tdes    *keyblock.Protector
}

func newCustody(fpKey, aesKey, tdesKey *[16]byte) (c custody, err error) {
	c.fingerprints = secret.From(fpKey[:])
	secret.Wipe(fpKey[:])
	if c.aes, err = protect(keys.AES128, aesKey); err != nil {
		return c, err
	}
	c.tdes, err = protect(keys.TDES2, tdesKey)
	return c, err
}

func protect(a keys.Algorithm, raw *[16]byte) (*keyblock.Protector, error) {
	k, err := keys.NewKey(keys.Attributes{
		Algorithm: a, Usage: keys.UsageKBPK, Mode: keys.ModeBoth, Exportability: keys.NonExportable,
	}, raw[:])
	secret.Wipe(raw[:])
	if err != nil {
		return nil, err
	}
	defer k.Wipe()
	return keyblock.NewProtector(k)
}

func (c custody) wipe() {
	c.fingerprints.Wipe()
	c.aes.Wipe()
	c.tdes.Wipe()
}

// hold takes a key in from two components, which it wipes, and gives it out again, some times over.
func (h holding) hold(c custody, one, other *[16]byte) error {
	first, err := keys.NewComponent(h.Algorithm, one[:])
	second, err2 := keys.NewComponent(h.Algorithm, other[:])
	secret.Wipe(one[:])
	secret.Wipe(other[:])
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	defer first.Wipe()
	defer second.Wipe()
	for range heldRounds {
		if err := h.round(c, first, second); err != nil {
			return err
		}
	}
	return nil
}

func (h holding) round(c custody, parts ...keys.Component) error {
	var sheets []keys.Sheet
	defer func() { wipeSheets(sheets) }()
	for i, part := range parts {
		s, err := written(keys.Sheet{Number: i + 1, Of: len(parts), Component: part})
		if err != nil {
			return err
		}
		sheets = append(sheets, s)
	}
	k, err := keys.Combine(h.Attributes, keys.ParityIgnored, sheets)
	if err != nil {
		return err
	}
	defer k.Wipe()
	k.Fingerprint(c.fingerprints)
	for _, kind := range []keys.KCVKind{keys.KCVLegacy, keys.KCVCMAC, keys.KCVHMAC} {
		if _, err := k.CheckValue(kind); (err == nil) != kind.Fits(h.Algorithm) {
			return err
		}
	}
	again, err := keys.Split(k, keys.ParityIgnored, len(parts))
	if err != nil {
		return err
	}
	wipeSheets(again)
	if h.Algorithm.IsTDES() {
		if err := move(k, c.tdes, c.aes); err != nil {
			return err
		}
	}
	return move(k, c.aes, c.aes)
}

// written writes a sheet down and reads it.
func written(s keys.Sheet) (keys.Sheet, error) {
	var err error
	if s.CheckValue, err = s.Component.CheckValue(s.Component.Algorithm().CheckValueKind()); err != nil {
		return s, err
	}
	text, err := s.Text()
	if err != nil {
		return s, err
	}
	defer text.Wipe()
	return keys.ParseSheet(text.Expose())
}

func wipeSheets(sheets []keys.Sheet) {
	for _, s := range sheets {
		s.Wipe()
	}
}

// move wraps a key, opens the block, and wraps what came out under another protection key.
func move(k keys.Key, from, to *keyblock.Protector) error {
	block, err := from.Wrap(k, keyblock.OptionalBlock{ID: keyblock.OptionalKP})
	if err != nil {
		return err
	}
	content, err := from.Unwrap(block)
	if err != nil {
		return err
	}
	defer content.Wipe()
	same, err := content.Key()
	if err != nil {
		return err
	}
	defer same.Wipe()
	_, err = to.Rewrap(content)
	return err
}

// heldKeys draws what the custody of the process is given, in its order, and adds it and what is made of it.
func heldKeys(draw func() []byte, set *needles) {
	fpKey, aesKey, tdesKey := draw(), draw(), draw()
	set.addKey(heldKey, fpKey)
	set.addHMAC(fpKey)
	set.addKey(blockKey, aesKey)
	for purpose := range byte(2) {
		set.addKey(blockKey, blockKeyAES(aesKey, purpose))
		for _, k := range [][]byte{tdesKey, blockKeyTDES(tdesKey, purpose)} {
			set.addKey(blockKey, k)
			set.addDES(k)
			set.addPlanes(k)
			set.addPairs(k)
		}
	}
	for _, h := range holdings {
		one, other := draw(), draw()
		key := make([]byte, len(one))
		subtle.XORBytes(key, one, other)
		for _, k := range [][]byte{one, other, key} {
			set.addKey(heldKey, k)
			set.addDigits(k)
			switch {
			case h.Algorithm.IsTDES():
				set.addDES(k)
				set.addPlanes(k)
				set.addPairs(k)
				set.addKey(heldKey, odd(k)) // as its fingerprint takes it
			case h.Algorithm.IsHMAC():
				set.addHMAC(k)
			}
		}
	}
}

// blockKeyAES is what version D makes of an AES-128 protection key: 0 to encrypt, 1 to authenticate (ANSI X9.143, 7.2.1.1).
func blockKeyAES(key []byte, purpose byte) []byte {
	return blockKeyOf(must(aes.NewCipher(key)), []byte{1, 0, purpose, 0, 0, 2, 0, 128})
}

// blockKeyTDES is what version B makes of a 2TDEA protection key (7.2.2.1).
func blockKeyTDES(key []byte, purpose byte) []byte {
	c := tripled(key)
	first := blockKeyOf(c, []byte{1, 0, purpose, 0, 0, 0, 0, 128})
	return append(first, blockKeyOf(c, []byte{2, 0, purpose, 0, 0, 0, 0, 128})...)
}

// blockKeyOf is the CMAC of one block of derivation data, filled up to a block of the cipher (NIST SP 800-38B).
func blockKeyOf(c cipher.Block, data []byte) []byte {
	size := c.BlockSize()
	constant := byte(0x1b)
	if size == 16 {
		constant = 0x87
	}
	subkey := make([]byte, size)
	c.Encrypt(subkey, subkey)
	doublings := 1
	if len(data) < size {
		data = append(data[:len(data):len(data)], 0x80)
		doublings = 2
	}
	for range doublings {
		top := subkey[0] >> 7
		for i := range subkey {
			subkey[i] <<= 1
			if i+1 < size {
				subkey[i] |= subkey[i+1] >> 7
			}
		}
		subkey[size-1] ^= constant * top
	}
	subtle.XORBytes(subkey, subkey, append(data, make([]byte, size-len(data))...))
	c.Encrypt(subkey, subkey)
	return subkey
}

// odd returns a key with odd parity.
func odd(key []byte) []byte {
	out := bytes.Clone(key)
	for i, b := range out {
		out[i] ^= byte(bits.OnesCount8(b)+1) & 1
	}
	return out
}

// addHMAC adds a key as HMAC mixes it with its constants.
func (s *needles) addHMAC(key []byte) {
	for _, pad := range []byte{0x36, 0x5c} {
		mixed := make([]byte, len(key))
		for i, b := range key {
			mixed[i] = b ^ pad
		}
		s.addKey(mixedKey, mixed)
	}
}

// addDigits adds a key as it is typed: without spaces, small and capital, and in groups of four.
func (s *needles) addDigits(key []byte) {
	small := hex.EncodeToString(key)
	capital := strings.ToUpper(small)
	var grouped strings.Builder
	for i := 0; i < len(capital); i += 4 {
		grouped.WriteString(capital[i:i+4] + " ")
	}
	for _, text := range []string{small, capital, grouped.String()} {
		s.addKey(digitsOfKey, []byte(text[:len(text)/8*8]))
	}
}
