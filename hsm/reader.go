package hsm

import (
	"crypto/aes"
	"crypto/subtle"
	"encoding/hex"
	"fmt"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// reader looks at keys in the token, in one session.
type reader struct {
	device  cryptoki
	session session
	shape   shape
	carries bool // PIN blocks are carried from key to key
}

// open completes an entry: what the key is, that it may do what it should and nothing else, that it is the key of its record,
// and what the engine needs beside it.
func (r reader) open(e *entry, variants map[keyset.KeyRef]variantObject) error {
	algorithm, derives, err := r.kind(e.object)
	if err != nil {
		return err
	}
	a := &e.info.Attributes
	a.Algorithm = algorithm
	if err := a.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrAttributes, err)
	}
	if a.Usage == keys.UsagePIN {
		got, err := r.device.attributes(r.session, e.object, []uint{attrWrap})
		if err != nil {
			return err
		}
		e.wraps = got[0].asFlag()
	}
	uses, err := e.uses(derives)
	if err != nil {
		return err
	}
	if err := r.permits(e.object, uses); err != nil {
		return err
	}
	if err := r.is(e.object, algorithm, derives, e.info.Fingerprint); err != nil {
		return err
	}
	e.info.Labels.KeyMode = engine.Token
	if a.Usage != keys.UsageBDK {
		return nil
	}
	if derives {
		if r.carries && algorithm.IsAES() {
			e.info.Labels.PINExposure = engine.None
		}
		return r.openDeriving(e)
	}
	e.info.Labels.KeyMode = engine.BDKInToken
	if algorithm.IsTDES() {
		return r.openVariant(e, variants)
	}
	return nil
}

// uses says what a key may do, with what is known of it.
func (e *entry) uses(derives bool) ([]use, error) {
	uses, err := usesOf(e.info.Attributes, derives, e.distributes)
	if err == nil && e.wraps {
		uses = carryZone
	}
	return uses, err
}

// kind returns the algorithm of a key, and whether it may derive.
func (r reader) kind(o object) (keys.Algorithm, bool, error) {
	got, err := r.device.attributes(r.session, o, []uint{attrKeyType, attrDerive})
	if err != nil {
		return 0, false, err
	}
	typ, ok := got[0].asNumber()
	var length uint
	if ok && typ == typeAES { // tokens refuse to tell the length of others
		more, err := r.device.attributes(r.session, o, []uint{attrValueLen})
		if err != nil {
			return 0, false, err
		}
		length, ok = more[0].asNumber()
	}
	algorithm := algorithmOf(typ, length)
	if !ok || algorithm == 0 {
		return 0, false, fmt.Errorf("%w: type %d of %d bytes is no key of ours", ErrAttributes, typ, length)
	}
	return algorithm, got[1].asFlag(), nil
}

// permits holds the attributes of a key to what it should have, so that none permits more.
func (r reader) permits(o object, uses []use) error {
	type demand struct {
		name string
		code uint
		want bool
	}
	demands := []demand{
		{"CKA_TOKEN", attrToken, true}, {"CKA_PRIVATE", attrPrivate, true}, {"CKA_SENSITIVE", attrSensitive, true},
		{"CKA_EXTRACTABLE", attrExtractable, false}, {"CKA_MODIFIABLE", attrModifiable, false},
	}
	names := map[uint]string{
		attrEncrypt: "CKA_ENCRYPT", attrDecrypt: "CKA_DECRYPT", attrWrap: "CKA_WRAP", attrUnwrap: "CKA_UNWRAP", attrSign: "CKA_SIGN",
		attrVerify: "CKA_VERIFY", attrDerive: "CKA_DERIVE",
	}
	for _, code := range allUses {
		on := false
		for _, u := range uses {
			on = on || uint(u) == code
		}
		demands = append(demands, demand{names[code], code, on})
	}
	codes := make([]uint, len(demands))
	for i, d := range demands {
		codes[i] = d.code
	}
	got, err := r.device.attributes(r.session, o, codes)
	if err != nil {
		return err
	}
	for i, d := range demands {
		if got[i].asFlag() != d.want {
			return fmt.Errorf("%w: %s is %v", ErrAttributes, d.name, !d.want)
		}
	}
	return nil
}

// is compares the fingerprint of a key with that of its record.
func (r reader) is(o object, a keys.Algorithm, derives bool, want keys.Fingerprint) error {
	got, err := r.fingerprint(o, a, derives)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%w: it is not the key of its record", ErrAttributes)
	}
	return nil
}

// The blocks that fingerprints are made from. None is derivation data, which begins with 01, or a key serial number of TDES
// without its counter, which has five zero bits at its end, or begins as a PIN block does: what is encrypted here is no key
// and no PIN of anybody.
var (
	printAES  = []byte("latchkey-finger1")
	printDES  = []byte("LATCHKEYKEYLATCH")
	printLast = []byte("latchkey-print-1")
)

// fingerprint recognises a key that cannot be read, the same in every token and for each use: a block of text is encrypted
// under an AES key which is the encryption of another text under the key. Of a key that derives, that AES key stays inside.
func (r reader) fingerprint(o object, a keys.Algorithm, derives bool) (keys.Fingerprint, error) {
	var sum []byte
	var err error
	switch {
	case derives && a.IsTDES():
		sum, err = r.printDerived(o)
	case derives:
		sum, err = r.printInside(o)
	default:
		sum, err = r.printOutside(o, a)
	}
	if err != nil {
		return keys.Fingerprint{}, err
	}
	return keys.ParseFingerprint(hex.EncodeToString(sum))
}

func (r reader) printInside(o object) ([]byte, error) {
	return r.printUnder(r.shape.derive(r.device, r.session, o, dukpt.Derivation{Key: dukpt.KeyAES128, Data: printAES}, useEncrypt))
}

// printUnder ends a fingerprint under a key that was derived for it, and destroys that.
func (r reader) printUnder(child object, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	sum, err := r.device.encrypt(r.session, mechanism{code: mechAESECB}, child, printLast)
	if gone := r.device.destroyObject(r.session, child); err == nil {
		err = gone
	}
	return sum, err
}

func (r reader) printOutside(o object, a keys.Algorithm) ([]byte, error) {
	m, block := mechanism{code: mechAESECB}, printAES
	if a.IsTDES() {
		m, block = mechanism{code: mechDES3ECB}, printDES
	}
	child, err := r.device.encrypt(r.session, m, o, block)
	defer secret.Wipe(child)
	if err := whole(child, len(block), err); err != nil {
		return nil, err
	}
	return printOf(child)
}

// printOf ends a fingerprint.
func printOf(child []byte) ([]byte, error) {
	c, err := aes.NewCipher(child)
	if err != nil {
		return nil, err
	}
	defer secret.WipeCipher(c)
	sum := make([]byte, aes.BlockSize)
	c.Encrypt(sum, printLast)
	return sum, nil
}

// openDeriving prepares a base key under which everything happens inside. A copy in a session is twice as fast to reach, where
// the token makes one: SoftHSM makes none of a key that cannot be modified. With the cache it matters once for each terminal.
func (r reader) openDeriving(e *entry) error {
	a := e.info.Attributes.Algorithm
	if !r.shape.derivesKeys(a) {
		return fmt.Errorf("%w: it may only derive, and the token cannot", ErrAttributes)
	}
	if a.IsAES() {
		e.parent = dukpt.WorkingKeyOf(a)
	}
	e.base = e.object
	if c, err := r.device.copyObject(r.session, e.object, []attribute{flag(attrToken, false)}); err == nil {
		e.base = c
	} else if classify(err) != classRequest {
		return err
	}
	return nil
}

// openVariant finds the variant of a TDES base key.
func (r reader) openVariant(e *entry, variants map[keyset.KeyRef]variantObject) error {
	v, ok := variants[e.info.ID]
	if !ok {
		return ErrVariant
	}
	algorithm, derives, err := r.kind(v.object)
	if err != nil {
		return err
	}
	if algorithm != e.info.Attributes.Algorithm || derives {
		return fmt.Errorf("%w: its variant is of another kind", ErrAttributes)
	}
	if err := r.permits(v.object, []use{useEncrypt}); err != nil {
		return fmt.Errorf("variant: %w", err)
	}
	if err := r.is(v.object, algorithm, false, v.record.fingerprint); err != nil {
		return fmt.Errorf("variant: %w", err)
	}
	e.variant = v.object
	return nil
}

// xorVariant makes the C0 variant of a TDES key (X9.24-1:2009, A.6).
func xorVariant(dst, key []byte) {
	mask := [8]byte{0xC0, 0xC0, 0xC0, 0xC0}
	for i := 0; i < len(key); i += 8 {
		subtle.XORBytes(dst[i:i+8], key[i:i+8], mask[:])
	}
}
