package hsm

import (
	"context"
	"crypto/aes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/crockford"
	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/mac"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// Generate makes an AES key in the token, under a new alias: a base key, a zone PIN key or a data key. It never leaves. Before
// Generate returns, the key is read back, held to what it should be, and asked for what it must refuse; a key that fails any
// of it is destroyed. Errors wrap ErrExists, ErrAttributes, dukpt.ErrUnsupported or engine.ErrUnavailable.
func (t *Token) Generate(ctx context.Context, ref keyset.KeyRef, a keys.Attributes, env keyset.Environment) (engine.KeyInfo, error) {
	if err := loadable(ref, a, env); err != nil {
		return engine.KeyInfo{}, err
	}
	if !a.Algorithm.IsAES() {
		return engine.KeyInfo{}, fmt.Errorf("%w: a token makes AES keys here; TDES keys are imported", dukpt.ErrUnsupported)
	}
	return t.load(ctx, ref, false, func(l loader) (object, record, []object, error) {
		o, r, err := l.generate(ref, a, env)
		return o, r, nil, err
	})
}

// Import puts a key into the token under a new alias, which the caller still wipes; a TDES base key together with its C0
// variant, from which half of each initial key comes. The key is then held to what it should be as by Generate. Errors wrap
// ErrExists, ErrDuplicate, ErrAttributes, keys.ErrWeak, dukpt.ErrUnsupported or engine.ErrUnavailable.
func (t *Token) Import(ctx context.Context, ref keyset.KeyRef, k keys.Key, env keyset.Environment) (engine.KeyInfo, error) {
	return t.take(ctx, ref, k, env, false)
}

// take is Import, also for a key-distribution host.
func (t *Token) take(ctx context.Context, ref keyset.KeyRef, k keys.Key, env keyset.Environment, distributes bool) (engine.KeyInfo, error) {
	if k.IsZero() {
		return engine.KeyInfo{}, errors.New("hsm: no key to import")
	}
	if err := loadable(ref, k.Attributes(), env); err != nil {
		return engine.KeyInfo{}, err
	}
	if err := k.CheckWeak(); err != nil {
		return engine.KeyInfo{}, err
	}
	return t.load(ctx, ref, distributes, func(l loader) (object, record, []object, error) { return l.put(ref, k, env) })
}

// loadable refuses what no key here is.
func loadable(ref keyset.KeyRef, a keys.Attributes, env keyset.Environment) error {
	if !ref.IsAlias() || strings.HasSuffix(ref.String(), variantSuffix) {
		return fmt.Errorf("hsm: key name %q is not an alias, or ends as those of variants do", ref)
	}
	if err := a.Validate(); err != nil {
		return err
	}
	if _, err := env.MarshalText(); err != nil {
		return err
	}
	_, err := usesOf(a, true, false)
	return err
}

// loader puts one key into the token.
type loader struct {
	reader
	options     Options
	known       *inventory
	distributes bool // the key is for a key-distribution host
}

// load has a key made and takes it in. It is not repeated when the token is lost on the way: the key may be there already.
func (t *Token) load(ctx context.Context, ref keyset.KeyRef, distributes bool, make func(loader) (object, record, []object, error)) (engine.KeyInfo, error) {
	if err := t.loading.take(ctx); err != nil {
		return engine.KeyInfo{}, err
	}
	defer t.loading.give()
	c, err := t.current(ctx)
	if err != nil {
		return engine.KeyInfo{}, err
	}
	var info engine.KeyInfo
	err = t.once(ctx, c, func(c *connection, l *lease) error {
		known := c.keys.Load()
		in := loader{
			reader:  reader{device: c.device, session: l.session, shape: t.shape, carries: t.carries()},
			options: t.options, known: known, distributes: distributes,
		}
		if err := t.vacant(c, l.session, ref); err != nil {
			return err
		}
		o, r, beside, err := make(in)
		if err != nil {
			return err
		}
		e, err := in.accept(l.ctx, ref, o, r, beside, c.owners[0])
		if err != nil {
			for _, o := range append(beside, o) {
				l.destroy(c, o)
			}
			return err
		}
		c.keys.Store(known.with(e))
		info = e.info
		return nil
	})
	if err != nil {
		return engine.KeyInfo{}, t.unrepeated(ctx, c, err)
	}
	t.options.Log.Info("key loaded", "token", t, "key", info.Ref.String(), "kcv", info.KCV.String())
	return info, nil
}

// vacant refuses a name that is taken, also by a key that somebody else has made since the keys were read.
func (t *Token) vacant(c *connection, s session, ref keyset.KeyRef) error {
	t.counts.finds.Add(1)
	for _, label := range []string{ref.String(), ref.String() + variantSuffix} {
		found, err := c.device.findObjects(s, []attribute{text(attrLabel, label)}, 1)
		if err != nil {
			return err
		}
		if len(found) > 0 {
			return fmt.Errorf("%w: %s", ErrExists, label)
		}
	}
	return nil
}

// generate makes a key for the length of a session, so that its record can be written, and keeps a copy with the record.
func (l loader) generate(ref keyset.KeyRef, a keys.Attributes, env keyset.Environment) (object, record, error) {
	uses, err := l.usesOf(a)
	if err != nil {
		return 0, record{}, err
	}
	template := append(secretTemplate(typeAES, false, uses...), number(attrValueLen, uint(a.Algorithm.KeyBytes())))
	made, err := l.device.generateKey(l.session, mechanism{code: mechAESKeyGen}, template)
	if err != nil {
		return 0, record{}, err
	}
	kept, r, err := l.copyWithRecord(made, ref, a, env, uses)
	if gone := l.device.destroyObject(l.session, made); err == nil {
		err = gone // a second copy in a session: better no key than two
		if err == nil {
			err = l.genuine(kept)
		}
		if err != nil {
			_ = l.device.destroyObject(l.session, kept) // the error that counts is the other one
		}
	}
	return kept, r, err
}

// genuine refuses a key that was not made in the token, or could ever be read or extracted.
func (l loader) genuine(o object) error {
	got, err := l.device.attributes(l.session, o, []uint{attrLocal, attrAlwaysSensitive, attrNeverExtractable})
	if err != nil {
		return err
	}
	for _, a := range got {
		if !a.asFlag() {
			return fmt.Errorf("%w: attribute 0x%X of a key made inside is not set", ErrAttributes, a.code)
		}
	}
	return nil
}

func (l loader) copyWithRecord(made object, ref keyset.KeyRef, a keys.Attributes, env keyset.Environment, uses []use) (object, record, error) {
	derives := uses[0] == useDerive
	fp, err := l.fingerprint(made, a.Algorithm, derives)
	if err != nil {
		return 0, record{}, err
	}
	kcv, err := l.checkValue(made, derives)
	if err != nil {
		return 0, record{}, err
	}
	r := l.record(a, env, kcv, fp)
	kept, err := l.device.copyObject(l.session, made, []attribute{ // SoftHSM takes them in their order: the last one ends all change
		flag(attrToken, true), text(attrLabel, ref.String()), text(attrID, r.String()), flag(attrModifiable, false),
	})
	return kept, r, err
}

// put makes token objects of a key from outside, and of its variant before it: a variant without its key does no harm.
func (l loader) put(ref keyset.KeyRef, k keys.Key, env keyset.Environment) (object, record, []object, error) {
	a := k.Attributes()
	uses, err := l.usesOf(a)
	if err != nil {
		return 0, record{}, nil, err
	}
	fp, err := fingerprintOf(a.Algorithm, k.Material().Expose())
	if err != nil {
		return 0, record{}, nil, err
	}
	for _, e := range l.known.byID {
		if e.info.Fingerprint == fp {
			return 0, record{}, nil, fmt.Errorf("%w: %s", ErrDuplicate, e.info.Ref)
		}
	}
	r := l.record(a, env, k.KCV(), fp)
	var beside []object
	if a.Usage == keys.UsageBDK && a.Algorithm.IsTDES() && uses[0] != useDerive {
		v, err := l.putVariant(ref, r.id, k)
		if err != nil {
			return 0, record{}, nil, err
		}
		beside = append(beside, v)
	}
	o, err := l.create(a.Algorithm, k.Material().Expose(), ref.String(), r.String(), uses)
	if err != nil {
		for _, v := range beside {
			_ = l.device.destroyObject(l.session, v) // the error that counts is the other one
		}
		return 0, record{}, nil, err
	}
	return o, r, beside, nil
}

// usesOf says what a key may do that is loaded now: a zone PIN key also wraps where PIN blocks are carried.
func (l loader) usesOf(a keys.Attributes) ([]use, error) {
	e := entry{wraps: a.Usage == keys.UsagePIN && l.carries, distributes: l.distributes}
	e.info.Attributes = a
	return e.uses(l.shape.derivesKeys(a.Algorithm))
}

func (l loader) putVariant(ref, id keyset.KeyRef, k keys.Key) (object, error) {
	value := secret.New(k.Attributes().Algorithm.KeyBytes())
	defer value.Wipe()
	xorVariant(value.Expose(), k.Material().Expose())
	fp, err := fingerprintOf(k.Attributes().Algorithm, value.Expose())
	if err != nil {
		return 0, err
	}
	v := variant{id, fp}
	return l.create(k.Attributes().Algorithm, value.Expose(), ref.String()+variantSuffix, v.String(), []use{useEncrypt})
}

func (l loader) create(a keys.Algorithm, value []byte, label, id string, uses []use) (object, error) {
	return l.device.createObject(l.session, append(l.shape.imported(a, value, true, uses...),
		text(attrLabel, label), text(attrID, id), flag(attrModifiable, false)))
}

// accept reads a new key back as a connection does, and asks it for what it must refuse.
func (l loader) accept(ctx context.Context, ref keyset.KeyRef, o object, r record, beside []object, owner *owner) (*entry, error) {
	v := inventory{byID: map[keyset.KeyRef]*entry{}, names: map[keyset.KeyRef]*entry{}}
	got, err := l.device.attributes(l.session, o, []uint{attrID, attrLabel})
	if err != nil {
		return nil, err
	}
	if string(got[0].bytes) != r.String() || string(got[1].bytes) != ref.String() {
		return nil, fmt.Errorf("%w: the token keeps another record or name", ErrAttributes)
	}
	if err := v.add(got[0].bytes, ref.String(), o); err != nil {
		return nil, err
	}
	variants := map[keyset.KeyRef]variantObject{}
	for _, b := range beside {
		got, err := l.device.attributes(l.session, b, []uint{attrID})
		if err != nil {
			return nil, err
		}
		w, err := parseVariant(got[0].bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: variant: %w", ErrAttributes, err)
		}
		variants[w.id] = variantObject{w, b}
		if err := l.refuses(b, keys.TDES2, []use{useEncrypt}); err != nil {
			return nil, fmt.Errorf("variant: %w", err)
		}
	}
	e := v.byID[r.id]
	owned := l.reader // what the engine keeps has to outlive the session of the loader
	if err := owner.turn.take(ctx); err != nil {
		return nil, err
	}
	owned.session = owner.session
	err = owned.open(e, variants)
	owner.turn.give()
	if err != nil {
		return nil, err
	}
	uses, err := e.uses(e.base != 0)
	if err == nil {
		err = l.refuses(o, e.info.Attributes.Algorithm, uses)
	}
	if err != nil && e.base != 0 && e.base != e.object {
		if owner.turn.take(ctx) == nil { // it ends with its session otherwise
			_ = l.device.destroyObject(owner.session, e.base)
			owner.turn.give()
		}
	}
	return e, err
}

// refuses asks a key for everything that it must not do or give, because attributes that read well are no proof.
func (l loader) refuses(o object, a keys.Algorithm, uses []use) error {
	ecb, cmac := mechanism{code: mechAESECB}, mechanism{code: mechAESCMAC}
	if a.IsTDES() {
		ecb, cmac = mechanism{code: mechDES3ECB}, mechanism{code: mechDES3CMAC}
	}
	may := map[use]bool{}
	for _, u := range uses {
		may[u] = true
	}
	for _, try := range []struct {
		what  string
		right use
		do    func() ([]byte, error)
	}{
		{"encrypts", useEncrypt, func() ([]byte, error) { return l.device.encrypt(l.session, ecb, o, make([]byte, 16)) }},
		{"decrypts", useDecrypt, func() ([]byte, error) { return l.device.decrypt(l.session, ecb, o, make([]byte, 16)) }},
		{"makes MACs", useSign, func() ([]byte, error) { return l.device.sign(l.session, cmac, o, make([]byte, 16)) }},
		{"can be read", 0, func() ([]byte, error) { return l.read(o) }},
		{"can be wrapped", 0, func() ([]byte, error) { return l.wrapped(o) }},
	} {
		if may[try.right] {
			continue
		}
		out, err := try.do()
		secret.Wipe(out)
		if err == nil {
			return fmt.Errorf("%w: the key %s", ErrAttributes, try.what)
		}
		if classify(err) != classRequest {
			return err
		}
		if !refusedByKey(err) {
			return fmt.Errorf("%w: whether the key %s is not clear: %w", ErrAttributes, try.what, err)
		}
	}
	return nil
}

func (l loader) read(o object) ([]byte, error) {
	got, err := l.device.attributes(l.session, o, []uint{attrValue})
	if err != nil {
		return nil, err
	}
	return got[0].bytes, nil
}

// wrapped tries to get a key out under another one.
func (l loader) wrapped(o object) ([]byte, error) {
	template := append(secretTemplate(typeAES, false, useWrap), number(attrValueLen, aes.BlockSize))
	under, err := l.device.generateKey(l.session, mechanism{code: mechAESKeyGen}, template)
	if err != nil {
		return nil, err
	}
	out, err := l.device.wrapKey(l.session, mechanism{code: mechAESKeyWrap}, under, o)
	if gone := l.device.destroyObject(l.session, under); err != nil && gone != nil {
		return nil, gone
	}
	return out, err
}

func (l loader) record(a keys.Attributes, env keyset.Environment, kcv keys.KCV, fp keys.Fingerprint) record {
	return record{
		distributes: l.distributes, id: newID(), environment: env, usage: a.Usage, mode: a.Mode, exports: a.Exportability, created: l.options.timeNow(),
		kcv: kcv, fingerprint: fp,
	}
}

// newID makes a key id. 26 characters from 26 random bytes carry 130 bits.
func newID() keyset.KeyRef {
	random := make([]byte, 26)
	_, _ = rand.Read(random) // cannot fail
	for i, b := range random {
		random[i] = crockford.Alphabet[b&31]
	}
	return must(keyset.ParseKeyRef(string(random)))
}

// checkValue computes the check value of an AES key in the token: the CMAC of zeros. One that may only derive is made to
// encrypt two blocks by keys that can be read: zeros and what follows from them, which no key of a terminal comes from.
func (r reader) checkValue(o object, derives bool) (keys.KCV, error) {
	b := &block{device: r.device, session: r.session, key: o, code: mechAESECB, size: aes.BlockSize}
	sum := make([]byte, aes.BlockSize)
	if derives {
		sum = mac.CMAC(sum[:0], revealing{b, r.shape}, make([]byte, aes.BlockSize))
	} else {
		sum = mac.CMAC(sum[:0], b, make([]byte, aes.BlockSize))
	}
	defer secret.Wipe(sum)
	if b.err != nil {
		return keys.KCV{}, b.err
	}
	return keys.ParseKCV(hex.EncodeToString(sum[:keys.KCVCMAC.Bytes()]))
}

// revealing is a cipher under a key that may only derive.
type revealing struct {
	*block
	shape shape
}

// Encrypt encrypts one block.
func (r revealing) Encrypt(dst, src []byte) { r.crypt(dst, src, r.derive) }

// derive makes a key that can be read of the encryption of a block, and reads it.
func (r revealing) derive(s session, _ mechanism, o object, in []byte) ([]byte, error) {
	var template []attribute
	for _, a := range r.shape.child(dukpt.KeyAES128, useEncrypt) {
		if a.code != attrSensitive && a.code != attrExtractable {
			template = append(template, a)
		}
	}
	template = append(template, flag(attrSensitive, false), flag(attrExtractable, true))
	child, err := r.device.deriveKey(s, mechanism{code: mechAESDerive, data: in}, o, template)
	if err != nil {
		return nil, err
	}
	got, err := r.device.attributes(s, child, []uint{attrValue})
	if gone := r.device.destroyObject(s, child); err == nil {
		err = gone
	}
	if err != nil {
		return nil, err
	}
	return got[0].bytes, nil // of which the cipher wants one block
}

// fingerprintOf computes the fingerprint of a key that is at hand.
func fingerprintOf(a keys.Algorithm, value []byte) (keys.Fingerprint, error) {
	child := secret.From(printAES)
	defer child.Wipe()
	out := child.Expose()
	if a.IsTDES() {
		copy(out, printDES)
		c, err := des.New(value)
		if err != nil {
			return keys.Fingerprint{}, err
		}
		defer c.Wipe()
		c.Encrypt(out[:8], out[:8])
		c.Encrypt(out[8:], out[8:])
	} else {
		c, err := aes.NewCipher(value)
		if err != nil {
			return keys.Fingerprint{}, err
		}
		defer secret.WipeCipher(c)
		c.Encrypt(out, out)
	}
	sum, err := printOf(out)
	if err != nil {
		return keys.Fingerprint{}, err
	}
	return keys.ParseFingerprint(hex.EncodeToString(sum))
}
