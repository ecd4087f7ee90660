package keyblock

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
)

// ErrBlock says that a key block is malformed, altered, or made under another key. It does not say which.
var ErrBlock = errors.New("keyblock: the block does not verify")

// ErrUse says that the mode of use of the protection key, or the exportability of the wrapped key, forbids the operation.
var ErrUse = errors.New("keyblock: the mode of use or the exportability forbids this")

// ErrStrength says that a key is stronger than the protection key that it would be wrapped under.
var ErrStrength = errors.New("keyblock: the key is stronger than the protection key")

// ErrKey says that a key has not the length or the structure of its algorithm, or that there is none: absent, or wiped.
var ErrKey = errors.New("keyblock: not a key that is wrapped")

// errWiped is of a protector; what is absent beside it is the key in the block.
var errWiped = fmt.Errorf("%w: the protection key is wiped", ErrKey)

// Protector wraps and unwraps under one key block protection key. It is safe for concurrent use until it is wiped.
type Protector struct {
	kbpk     secret.Bytes
	mode     keys.Mode
	tdes     bool
	strength int // in bits
	kcv      keys.KCV
}

// NewProtector returns a protector under a copy of kbpk, a key of usage K1: an AES key for version D, a TDES key for versions
// A, B and C. The caller still wipes kbpk. Its mode of use holds: under mode E the protector only wraps, under mode D it only
// unwraps. No key, or a wiped one, is ErrKey; where Go's FIPS mode is enforced, a TDES key is [keys.ErrForbidden].
func NewProtector(kbpk keys.Key) (*Protector, error) {
	if kbpk.IsZero() {
		return nil, fmt.Errorf("%w: the protection key is absent", ErrKey)
	}
	a := kbpk.Attributes()
	if a.Usage != keys.UsageKBPK {
		return nil, fmt.Errorf("keyblock: %s key of usage %q cannot protect key blocks: want an AES or TDES key of usage K1",
			a.Algorithm, string(a.Usage))
	}
	p := &Protector{mode: a.Mode, tdes: a.Algorithm.IsTDES(), strength: kbpk.StrengthBits(), kcv: kbpk.KCV()}
	if p.tdes {
		if err := des.Available(); err != nil {
			return nil, fmt.Errorf("keyblock: no TDES protection key: %w", err)
		}
	}
	p.kbpk = kbpk.Material().Clone()
	return p, nil
}

// Wipe zeroes the key block protection key. The protector is good for nothing then: everything it is asked for is ErrKey.
func (p *Protector) Wipe() { p.kbpk.Wipe() }

// version is the one that the protector writes.
func (p *Protector) version() byte {
	if p.tdes {
		return 'B'
	}
	return 'D'
}

// Options are what a key block says beside the attributes of the key.
type Options struct {
	KeyVersion string          // two characters of 0-9, A-Z; none for a key without a version
	Context    KeyContext      // zero for ContextAny
	Optional   []OptionalBlock // in order; those with a meaning are held to the standard
}

// Wrap returns a key block of k with the given optional blocks in order, as WrapWith does.
func (p *Protector) Wrap(k keys.Key, optional ...OptionalBlock) (string, error) {
	return p.WrapWith(k, Options{Optional: optional})
}

// WrapWith returns a key block of k, of version D under AES and B under TDES. The attributes of k become the header. The length
// of the key is hidden by padding to the longest key of its algorithm (6.1). HM is added to the optional blocks of an HMAC
// key, and KC or KP without data gets its check value; KC of a TDES key is [keys.ErrForbidden] where Go's FIPS mode is enforced. It
// is ErrStrength when k is stronger than the protection key, ErrOptional when an optional block is malformed, does not go with k or
// comes twice, ErrHeader when the key version or the key context is none of the standard, ErrUse when the protection key may not
// wrap, and an error when the block would be longer than 9999 characters.
func (p *Protector) WrapWith(k keys.Key, o Options) (string, error) {
	a := k.Attributes()
	if err := a.Validate(); err != nil {
		return "", err
	}
	if k.IsZero() {
		return "", fmt.Errorf("%w: it is absent", ErrKey)
	}
	if o.KeyVersion == "" {
		o.KeyVersion = "00"
	}
	if !isCharacters(o.KeyVersion) {
		return "", fmt.Errorf("%w: key version %q: want two characters of 0-9, A-Z", ErrHeader, o.KeyVersion)
	}
	context, err := reserved(o.Context)
	if err != nil {
		return "", err
	}
	h := Header{
		Usage: string(a.Usage), Algorithm: a.Algorithm.Letter(), Mode: a.Mode, KeyVersion: o.KeyVersion,
		Exportability: a.Exportability, Reserved: context, Optional: slices.Clone(o.Optional),
	}
	if a.Algorithm.IsHMAC() && !h.has(OptionalHM) {
		h.Optional = append(h.Optional, OptionalBlock{ID: OptionalHM, Data: string(HashSHA256)})
	}
	if hash, err := h.Hash(); err == nil && hash != HashSHA256 {
		return "", fmt.Errorf("%w: HM: an HMAC key here is one of %v", ErrOptional, HashSHA256)
	}
	return p.write(h, k.Material())
}

func (h Header) has(id string) bool {
	return slices.ContainsFunc(h.Optional, func(ob OptionalBlock) bool { return ob.ID == id })
}

// RewrapOptions are what may differ from the key block that was read. The zero value changes nothing.
type RewrapOptions struct {
	// Drop are identifiers of optional blocks to leave out; each of them must be there. Some bind the key: without DA it may derive
	// whatever its usage permits, without WP nobody knows under what it has been wrapped.
	Drop []string
	Hash Hash // what an HMAC key without HM is for; "" refuses such a key
}

// Rewrap returns the key of c in a key block under p with the header of c, as RewrapWith does.
func (p *Protector) Rewrap(c Content) (string, error) { return p.RewrapWith(c, RewrapOptions{}) }

// RewrapWith returns the key of c in a key block under p, with the header and the optional blocks that were authenticated when c
// was unwrapped; KP becomes the check value of the new protection key, and WP says so when the one before was weaker than the key. It is ErrUse when the key is not exportable, ErrAbsent
// when an optional block to drop is not there, and otherwise errs as WrapWith does: what was read leniently is not written so.
// An asymmetric key, whose strength is not looked at, wants AES-256.
func (p *Protector) RewrapWith(c Content, o RewrapOptions) (string, error) {
	if c.material.IsZero() {
		return "", fmt.Errorf("%w: it is absent", ErrKey)
	}
	h := c.authentic
	if h.Exportability != keys.Exportable && h.Exportability != keys.Sensitive {
		return "", fmt.Errorf("%w: exportability %q", ErrUse, byte(h.Exportability))
	}
	h, err := h.without(o.Drop)
	if err != nil {
		return "", err
	}
	if o.Hash != "" {
		h.Optional = append(h.Optional, OptionalBlock{OptionalHM, string(o.Hash)})
	}
	weak := slices.Contains(c.Warnings(), Warning{Kind: WarnStrength})
	for i, ob := range h.Optional {
		switch {
		case ob.ID == OptionalKP:
			h.Optional[i].Data = ""
		case ob.ID == OptionalWP && weak:
			h.Optional[i].Data = weakened(ob.Data)
		}
	}
	return p.write(h, c.material)
}

// without returns a header that shares no optional blocks with h and has none of those with the given identifiers.
func (h Header) without(ids []string) (Header, error) {
	h.Optional = slices.Clone(h.Optional)
	for _, id := range ids {
		i := slices.IndexFunc(h.Optional, func(ob OptionalBlock) bool { return ob.ID == id })
		switch {
		case i < 0:
			return Header{}, fmt.Errorf("%w: %q", ErrAbsent, id)
		case id == OptionalHM && h.Algorithm == 'H':
			return Header{}, fmt.Errorf("%w: HM of an HMAC key is not left out", ErrOptional)
		}
		h.Optional = slices.Delete(h.Optional, i, i+1)
	}
	return h, nil
}

// write wraps material under a header that gets the version of p.
func (p *Protector) write(h Header, material secret.Bytes) (string, error) {
	if p.kbpk.IsZero() {
		return "", errWiped
	}
	if p.mode == keys.ModeDecrypt {
		return "", ErrUse
	}
	bits, ok := strength(h.Algorithm, 8*material.Len())
	if !ok {
		return "", fmt.Errorf("%w: algorithm %q with %d bits", ErrKey, h.Algorithm, 8*material.Len())
	}
	if bits > p.strength {
		return "", fmt.Errorf("%w: %d bits under %d", ErrStrength, bits, p.strength)
	}
	h.Version = p.version()
	kcv, err := checkValue(h.Algorithm, material)
	if err != nil && h.has(OptionalKC) {
		return "", fmt.Errorf("keyblock: KC: %w", err)
	}
	for i, ob := range h.Optional {
		switch {
		case ob == OptionalBlock{ID: OptionalKC}:
			h.Optional[i].Data = checkValueData(kcv)
		case ob == OptionalBlock{ID: OptionalKP}:
			h.Optional[i].Data = checkValueData(p.kcv)
		}
	}
	if err := h.check(); err != nil {
		return "", err
	}
	if isAsymmetric(h.Algorithm) && !isStructure(material.Expose()) {
		return "", fmt.Errorf("%w: algorithm %q wants the DER of a structure", ErrKey, h.Algorithm)
	}
	if w := p.wrongCheckValues(h, material); len(w) > 0 {
		return "", fmt.Errorf("%w: %s is the check value of another key", ErrOptional, w[0].ID)
	}
	content := secret.New(contentSize(h.Algorithm, material.Len(), forms[h.Version].block))
	defer content.Wipe()
	text, err := h.format(content.Len())
	if err != nil {
		return "", err
	}
	var block string
	secret.Do(func() {
		binary.BigEndian.PutUint16(content.Expose(), uint16(8*material.Len()))
		n := 2 + copy(content.Expose()[2:], material.Expose())
		_, _ = rand.Read(content.Expose()[n:]) // never fails
		block, err = p.protect(text, content.Expose())
	})
	return block, err
}

// contentSize is the length of the encrypted part: length field, key and padding up to the longest key of the algorithm, in
// whole blocks. Asymmetric keys have no longest.
func contentSize(letter byte, size, block int) int {
	size = max(size, longest(letter))
	return (2 + size + block - 1) / block * block
}

// longest returns the length in bytes to which keys of an algorithm are padded; 0 for none.
func longest(letter byte) int {
	switch letter {
	case 'T':
		return 24
	case 'A', 'H':
		return 32
	}
	return 0
}

// protect encrypts content in place and puts the block together.
func (p *Protector) protect(header string, content []byte) (string, error) {
	w, err := p.working(header[0])
	if err != nil {
		return "", err
	}
	defer w.wipe()
	sum := w.seal(header, content)
	secret.PublicBytes(content)
	secret.PublicBytes(sum)
	return header + strings.ToUpper(hex.EncodeToString(content)+hex.EncodeToString(sum)), nil
}

// Unwrap verifies block and returns its content, which the caller wipes. Everything that is wrong gives ErrBlock, but for
// a version that does not go with the protection key, which gives ErrVersion, and a protection key that may only wrap,
// which gives ErrUse, and a wiped one, which gives ErrKey. Hexadecimal digits are upper case; anything else is refused.
func (p *Protector) Unwrap(block string) (c Content, err error) {
	secret.Do(func() { c, err = p.unwrap(block) })
	return c, err
}

func (p *Protector) unwrap(block string) (Content, error) {
	if p.kbpk.IsZero() {
		return Content{}, errWiped
	}
	if p.mode == keys.ModeEncrypt {
		return Content{}, ErrUse
	}
	h, end, err := parseHeader(block)
	if err != nil {
		return Content{}, ErrBlock
	}
	if p.tdes == (h.Version == 'D') {
		return Content{}, ErrVersion
	}
	content, received, ok := split(block[end:], end, forms[h.Version])
	if !ok {
		return Content{}, ErrBlock
	}
	defer secret.Wipe(content)
	w, err := p.working(h.Version)
	if err != nil {
		return Content{}, err
	}
	defer w.wipe()
	if !w.open(block[:end], content, received) || h.malformed() {
		return Content{}, ErrBlock
	}
	return p.read(h, content)
}

// split decodes what follows a header of so many characters: the encrypted content, of one block or more, and the MAC.
func split(body string, header int, f form) (content, received []byte, ok bool) {
	size := len(body) - 2*f.mac
	if header%f.block != 0 || size < 2*f.block || size%(2*f.block) != 0 || !isHex(body) {
		return nil, nil, false
	}
	raw, err := hex.DecodeString(body)
	if err != nil {
		return nil, nil, false
	}
	return raw[:size/2], raw[size/2:], true
}
