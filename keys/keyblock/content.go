package keyblock

import (
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
)

// Content is an unwrapped key block: its authenticated header, and the key. It owns the key.
type Content struct {
	Header    // a copy to read: Key, KCV, Warnings and Rewrap go by the header that was authenticated, whatever is written here
	authentic Header
	material  secret.Bytes
	warnings  []Warning // what the header does not tell
}

// minHMAC is the shortest HMAC key that is read, in bits.
const minHMAC = 80

// read reads the length field and the key of an authenticated block (7.3.1, table 26).
func (p *Protector) read(h Header, content []byte) (Content, error) {
	bits := secret.Public(int(binary.BigEndian.Uint16(content)))
	if bits == 0 || bits%8 != 0 {
		return Content{}, ErrBlock
	}
	if bits/8 > len(content)-2 && !planted.On(planted.ParseKeyBlock) {
		return Content{}, ErrBlock
	}
	switch _, ok := algorithm(h.Algorithm, bits); h.Algorithm {
	case 'A', 'T':
		if !ok {
			return Content{}, ErrBlock
		}
	case 'H':
		if bits < minHMAC {
			return Content{}, ErrBlock
		}
	}
	c := Content{Header: h, authentic: h, material: secret.From(content[2 : 2+bits/8])}
	c.authentic.Optional = slices.Clone(h.Optional)
	c.warnings = p.warnings(h, len(content), c.material)
	return c, nil
}

// warnings returns what an authenticated block with a content of size bytes has against the standard beside its header.
func (p *Protector) warnings(h Header, size int, material secret.Bytes) (all []Warning) {
	bits := 8 * material.Len()
	if h.Algorithm != 'H' && size < contentSize(h.Algorithm, 0, forms[h.Version].block) { // HMAC keys have no longest
		all = append(all, Warning{Kind: WarnLengthShown})
	}
	if h.Algorithm == 'T' && bits == 64 {
		all = append(all, Warning{Kind: WarnSingleDES})
	}
	if isAsymmetric(h.Algorithm) {
		if !isStructure(material.Expose()) {
			all = append(all, Warning{Kind: WarnStructure})
		}
	} else if s, ok := strength(h.Algorithm, bits); ok && s > p.strength {
		all = append(all, Warning{Kind: WarnStrength})
	}
	return append(all, p.wrongCheckValues(h, material)...)
}

// isStructure reports whether material is the DER of a sequence of two elements or more, as the structures of RSA, elliptic curve
// and DSA keys are, whatever they are wrapped in. What the elements hold is not looked at.
func isStructure(material []byte) bool {
	var sequence, element asn1.RawValue // they share the memory of material
	rest, err := asn1.Unmarshal(material, &sequence)
	if err != nil || len(rest) > 0 || sequence.Class != asn1.ClassUniversal || sequence.Tag != asn1.TagSequence || !sequence.IsCompound {
		return false
	}
	elements := 0
	for rest = sequence.Bytes; len(rest) > 0; elements++ {
		if rest, err = asn1.Unmarshal(rest, &element); err != nil {
			return false
		}
	}
	return elements >= 2
}

// wrongCheckValues names KC and KP where they are check values by the method of the key, but of another key, and KC where its key
// may not be used to tell. A check value is public.
func (p *Protector) wrongCheckValues(h Header, material secret.Bytes) (all []Warning) {
	kcv, err := checkValue(h.Algorithm, material)
	if err != nil && h.has(OptionalKC) {
		all = append(all, Warning{WarnUnchecked, OptionalKC})
	}
	for _, v := range []struct {
		id   string
		want keys.KCV
	}{{OptionalKC, kcv}, {OptionalKP, p.kcv}} {
		got, err := h.CheckValue(v.id)
		if err == nil && len(got.String()) == len(v.want.String()) && got != v.want {
			all = append(all, Warning{WarnCheckValue, v.id})
		}
	}
	return all
}

// checkValue returns the check value of a TDES or AES key, whatever its usage, and zero for other keys. It fails for TDES where
// Go's FIPS mode forbids it.
func checkValue(letter byte, material secret.Bytes) (keys.KCV, error) {
	a, ok := algorithm(letter, 8*material.Len())
	if !ok || a.IsHMAC() {
		return keys.KCV{}, nil
	}
	k, err := keys.NewKey(keys.Attributes{
		Algorithm: a, Usage: keys.UsageData, Mode: keys.ModeNone, Exportability: keys.NonExportable,
	}, material.Expose())
	if err != nil {
		return keys.KCV{}, nil // single DES, or TDES that is no better
	}
	defer k.Wipe()
	v, err := k.CheckValue(a.CheckValueKind())
	return v.KCV, err
}

// Material returns the bytes of the key, whatever its algorithm; a private key is the DER of its structure. They are shared
// with the content.
func (c Content) Material() secret.Bytes { return c.material }

// Warnings returns what the block has against the standard. None of it keeps the key from being used; a caller who does not
// want it refuses it.
func (c Content) Warnings() []Warning { return append(c.authentic.Warnings(), c.warnings...) }

// KCV returns the check value of a TDES or AES key, whatever its usage, as [keys.Key.KCV] does. That of other keys, of single
// DES, and of TDES where Go's FIPS mode forbids it is zero.
func (c Content) KCV() keys.KCV {
	kcv, _ := checkValue(c.authentic.Algorithm, c.material) // zero with an error
	return kcv
}

// Wipe zeroes the key.
func (c Content) Wipe() { c.material.Wipe() }

// Key returns the symmetric key with the attributes of the authenticated header, with bytes of its own. It is an error for
// asymmetric keys, single DES, HMAC with another hash than SHA-256, components of keys, and usages that this project gives no
// meaning, ErrAbsent for an HMAC key without HM: what its hash is nobody said, and ErrKey for a wiped content.
func (c Content) Key() (keys.Key, error) {
	if c.material.IsZero() {
		return keys.Key{}, fmt.Errorf("%w: it is absent", ErrKey)
	}
	h := c.authentic
	if strings.HasPrefix(h.KeyVersion, component) {
		return keys.Key{}, fmt.Errorf("keyblock: key version %q: a component is not a key", h.KeyVersion)
	}
	if h.lacksHash() {
		return keys.Key{}, fmt.Errorf("%w: HM: the hash of the HMAC key is not said", ErrAbsent)
	}
	if hash, err := h.Hash(); err == nil && hash != HashSHA256 {
		return keys.Key{}, fmt.Errorf("keyblock: hash algorithm %v is not %v", hash, HashSHA256)
	}
	a, ok := algorithm(h.Algorithm, 8*c.material.Len())
	if !ok {
		return keys.Key{}, fmt.Errorf("keyblock: algorithm %q with %d bits is no key of ours", h.Algorithm, 8*c.material.Len())
	}
	return keys.NewKey(keys.Attributes{
		Algorithm: a, Usage: keys.Usage(h.Usage), Mode: h.Mode, Exportability: h.Exportability,
	}, c.material.Expose())
}

// algorithm returns the algorithm with a letter and a length; single DES, which is readable and never a key of ours, is none
// of them, and true.
func algorithm(letter byte, bits int) (keys.Algorithm, bool) {
	if letter == 'T' && bits == 64 {
		return 0, true
	}
	for a := keys.TDES2; a.IsValid(); a++ {
		if a.Letter() == letter && 8*a.KeyBytes() == bits {
			return a, true
		}
	}
	return 0, false
}

// strength returns the strength in bits that a key is taken for, and whether such a key is wrapped at all. What is not known to
// be weaker counts as the strongest.
func strength(letter byte, bits int) (int, bool) {
	a, ok := algorithm(letter, bits)
	switch {
	case ok && a.IsValid():
		return a.StrengthBits(), true
	case letter == 'H' && bits >= minHMAC:
		return min(bits, 256), true
	case isAsymmetric(letter) && bits > 0:
		return 256, true
	}
	return 0, false
}
