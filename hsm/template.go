package hsm

import (
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
)

// use is what a key may do: one thing.
type use uint

// The uses: the attribute that permits each.
const (
	useEncrypt use = attrEncrypt
	useDecrypt use = attrDecrypt
	useSign    use = attrSign
	useWrap    use = attrWrap
	useUnwrap  use = attrUnwrap
	useDerive  use = attrDerive
)

// allUses are the attributes that permit something. Every template names all of them: what a token does with one that is
// absent is up to its maker.
var allUses = [...]uint{attrEncrypt, attrDecrypt, attrSign, attrVerify, attrWrap, attrUnwrap, attrDerive}

// shape is how a token wants templates, as the probe found it.
type shape struct {
	unsized map[uint]bool // types of keys whose length must not stand in the template of a derivation
	// How blocks of 16 and of 8 bytes are carried from key to key.
	carriesAES, carriesDES3 carriage

	derivesAES bool     // AES base keys derive inside
	oneCall    *OneCall // TDES base keys do, by the mechanisms of a maker; nil: they do not

	sized bool // the token knows the length of an AES key from outside by its template alone, against the standard
}

// keyType returns the type of an algorithm in PKCS#11.
func keyType(a keys.Algorithm) uint {
	switch {
	case a == keys.TDES2:
		return typeDES2
	case a == keys.TDES3:
		return typeDES3
	case a.IsAES():
		return typeAES
	}
	return typeGeneric
}

// algorithmOf is the way back, for keys of this length in bytes.
func algorithmOf(typ, length uint) keys.Algorithm {
	for _, a := range []keys.Algorithm{keys.TDES2, keys.TDES3, keys.AES128, keys.AES192, keys.AES256} {
		if keyType(a) == typ && (a.IsTDES() || uint(a.KeyBytes()) == length) {
			return a
		}
	}
	return 0
}

// secretTemplate is that of a key that is sensitive and cannot be extracted, for these uses and no other.
func secretTemplate(typ uint, stays bool, uses ...use) []attribute {
	t := []attribute{
		number(attrClass, classSecret), number(attrKeyType, typ),
		flag(attrToken, stays), flag(attrPrivate, true), flag(attrSensitive, true), flag(attrExtractable, false),
	}
	for _, code := range allUses {
		on := false
		for _, u := range uses {
			on = on || code == uint(u)
		}
		t = append(t, flag(code, on))
	}
	return t
}

// child is the template of a derived key, which lives as long as its session.
func (s shape) child(w dukpt.WorkingKey, uses ...use) []attribute {
	a := w.Algorithm()
	t := secretTemplate(keyType(a), false, uses...)
	if !s.unsized[keyType(a)] {
		t = append(t, number(attrValueLen, uint(a.KeyBytes())))
	}
	return t
}

// derive makes the child of a key in a session.
func (s shape) derive(d cryptoki, in session, parent object, step dukpt.Derivation, uses ...use) (object, error) {
	return d.deriveKey(in, mechanism{code: mechAESDerive, data: step.Data}, parent, s.child(step.Key, uses...))
}

// imported is the template of a key that comes in from outside.
func imported(a keys.Algorithm, value []byte, stays bool, uses ...use) []attribute {
	return append(secretTemplate(keyType(a), stays, uses...), attribute{attrValue, value})
}

// imported is the same as this token wants it.
func (s shape) imported(a keys.Algorithm, value []byte, stays bool, uses ...use) []attribute {
	t := imported(a, value, stays, uses...)
	if s.sized && a.IsAES() {
		t = append(t, number(attrValueLen, uint(len(value))))
	}
	return t
}
