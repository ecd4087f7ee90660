package hsm

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"errors"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/mac"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// Report is what a token can do, by known answers, and what follows for each base key.
type Report struct {
	Label, Manufacturer, Model, Serial string
	Checks                             []Check
	Keys                               []KeyReport
}

// Check is one known answer.
type Check struct {
	Name string // one of the constants
	OK   bool
	Why  string // what the token said instead; "" when OK
}

// KeyReport says how one base key is used.
type KeyReport struct {
	Ref         keyset.KeyRef
	KeyMode     engine.KeyMode
	PINExposure engine.PINExposure
	Why         string
}

// The names of the checks.
const (
	CheckDerive     = "derive-aes"        // the chain of AES DUKPT, from a base key to a PIN key
	CheckDeriveDES2 = "derive-des2"       // a 2TDEA working key of AES DUKPT
	CheckDeriveDES3 = "derive-des3"       // a 3TDEA working key of AES DUKPT
	CheckAESECB     = "aes-ecb"           // encrypt and decrypt
	CheckAESCBC     = "aes-cbc"           // encrypt and decrypt
	CheckDES3ECB    = "des3-ecb"          // encrypt and decrypt, under 2TDEA
	CheckDES3CBC    = "des3-cbc"          // encrypt and decrypt, under 2TDEA
	CheckAESCMAC    = "aes-cmac"          // RFC 4493
	CheckDES3CMAC   = "des3-cmac"         // SP 800-38B, under 2TDEA
	CheckHMAC       = "hmac-sha256"       // under 32 bytes
	CheckShortHMAC  = "hmac-sha256-short" // under 16 bytes, which is shorter than the hash
	CheckRetail     = "retail-mac"        // under a 2TDEA working key of AES DUKPT: single DES under the left part of it
	CheckOneCall    = "tdes-dukpt"        // the mechanisms of a maker ([OneCall]); only where they are named
	CheckWrap       = "aes-key-wrap"      // RFC 3394, there and back
	CheckBlockWrap  = "block-unwrap"      // a block as a wrapped key, out again under another: PINs without a clear block
	CheckBlockDES3  = "block-unwrap-des3" // the same under TDES: PINs of other formats than 4
	CheckECDH       = "ecdh-p256"         // agreement with the host
	CheckSign       = "ecdsa-p256"        // a signature that the host verifies
	CheckEd25519    = "ed25519"           // the same, of a message; for audit checkpoints
)

// OK reports whether a check was made and passed.
func (r Report) OK(name string) bool {
	for _, c := range r.Checks {
		if c.Name == name {
			return c.OK
		}
	}
	return false
}

// errAnswer says that the token answered, and wrongly.
var errAnswer = errors.New("hsm: the answer is another one")

// probe asks a token for known answers, in a session that it leaves as it found it. What a token lists is no proof: SoftHSM
// lists DES, and cannot do it. An error that is not about what was asked is returned: a token that was away for a moment shall
// not count as one that can do less. When ctx ends no further check is made.
func probe(ctx context.Context, d cryptoki, in session, oneCall *OneCall) (Report, shape, error) {
	p := &prober{device: d, session: in, shape: shape{unsized: map[uint]bool{}}}
	if err := p.lengths(); err != nil {
		return Report{}, shape{}, err
	}
	var r Report
	if info, err := d.info(); err == nil {
		r.Label, r.Manufacturer, r.Model, r.Serial = info.label, info.manufacturer, info.model, info.serial
	}
	type asked struct {
		name string
		ask  func() error
	}
	all := []asked{
		{CheckDerive, p.deriveAES}, {CheckDeriveDES2, p.deriveDES2}, {CheckDeriveDES3, p.deriveDES3},
		{CheckAESECB, p.aesECB}, {CheckAESCBC, p.aesCBC}, {CheckDES3ECB, p.des3ECB}, {CheckDES3CBC, p.des3CBC},
		{CheckAESCMAC, p.aesCMAC}, {CheckDES3CMAC, p.des3CMAC}, {CheckHMAC, p.hmac},
		{CheckShortHMAC, p.shortHMAC}, {CheckRetail, p.retail}, {CheckWrap, p.wrap}, {CheckBlockWrap, p.blockAES}, {CheckBlockDES3, p.blockDES3},
		{CheckECDH, p.ecdh}, {CheckSign, p.sign}, {CheckEd25519, p.signEdwards},
	}
	if oneCall != nil {
		all = append(all, asked{CheckOneCall, func() error { return p.oneCall(oneCall) }})
	}
	for _, c := range all {
		if err := ctx.Err(); err != nil {
			return Report{}, shape{}, err
		}
		check := Check{Name: c.name, OK: true}
		err := c.ask()
		p.tidy()
		if err != nil && classify(err) != classRequest && !errors.Is(err, rvGeneral) { // which some say of what they lack
			return Report{}, shape{}, err
		}
		if err != nil {
			check.OK, check.Why = false, err.Error()
		}
		r.Checks = append(r.Checks, check)
	}
	p.shape.derivesAES = r.OK(CheckDerive)
	if r.OK(CheckOneCall) {
		p.shape.oneCall = oneCall
	}
	return r, p.shape, nil
}

// lengths finds out how the token comes to know the length of an AES key from outside.
func (p *prober) lengths() error {
	defer p.tidy()
	for _, sized := range []bool{false, true} {
		p.shape.sized = sized
		key, err := p.put(keys.AES128, probeKey, useEncrypt)
		if err == nil {
			_, err = p.device.attributes(p.session, key, []uint{attrValueLen})
		}
		if err == nil {
			return nil
		}
		if classify(err) != classRequest && !errors.Is(err, rvGeneral) {
			return err
		}
	}
	p.shape.sized = false // it tells none, or holds no AES keys, which the checks will show
	return nil
}

// prober asks one token. The keys it makes are published, random, or both sides of an agreement.
type prober struct {
	device  cryptoki
	session session
	shape   shape
	made    []object
}

// tidy destroys what a check made.
func (p *prober) tidy() {
	for _, o := range p.made {
		_ = p.device.destroyObject(p.session, o) // a session object that stays is a published key
	}
	p.made = nil
}

// keep notes an object for tidy.
func (p *prober) keep(o object, err error) (object, error) {
	if err == nil {
		p.made = append(p.made, o)
	}
	return o, err
}

func (p *prober) put(a keys.Algorithm, value []byte, uses ...use) (object, error) {
	return p.keep(p.device.createObject(p.session, p.shape.imported(a, value, false, uses...)))
}

func same(got, want []byte, err error) error {
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errAnswer
	}
	return nil
}

// The sample of the ANSI X9.24-3:2017 supplement: base key, first KSN, and the AES-128 PIN key of that transaction.
var (
	sampleBase = unhex("FEDCBA9876543210F1F1F1F1F1F1F1F1")
	sampleKSN  = must(dukpt.ParseKSNHex("123456789012345600000001"))
	samplePIN  = unhex("AF8CB133A78F8DC2D1359F18527593FB")
)

// deriveAES derives the sample PIN key, every key sensitive and for one use, and encrypts zeros under it.
func (p *prober) deriveAES() error {
	key, err := p.derived(dukpt.PINSpec{Format: pin.Format4, Key: dukpt.KeyAES128}, useEncrypt)
	if err != nil {
		return err
	}
	zeros, want := make([]byte, 16), make([]byte, 16)
	inAES(samplePIN).Encrypt(want, zeros)
	got, err := p.device.encrypt(p.session, mechanism{code: mechAESECB}, key, zeros)
	return same(got, want, err)
}

func (p *prober) deriveDES2() error { return p.deriveDES(dukpt.KeyTDES2) }

func (p *prober) deriveDES3() error { return p.deriveDES(dukpt.KeyTDES3) }

// deriveDES compares with the same key derived in the host. A token may set the parity of the key, which means nothing.
func (p *prober) deriveDES(w dukpt.WorkingKey) error {
	spec := dukpt.DataSpec{Direction: dukpt.Request, Key: w, Mode: dukpt.ECB}
	key, err := p.derived(spec128(spec), useDecrypt)
	if err != nil {
		return err
	}
	got, err := p.device.decrypt(p.session, mechanism{code: mechDES3ECB}, key, make([]byte, 8))
	if err != nil {
		return err
	}
	tx, err := sampleTransaction()
	if err != nil {
		return err
	}
	defer tx.End()
	want, err := tx.DecryptData(nil, spec, make([]byte, 8))
	return same(got, want, err)
}

// deriver is a specification that says how its key is derived.
type deriver interface {
	Derivation(k dukpt.KSN, parent dukpt.WorkingKey) (dukpt.Derivation, error)
}

// spec128 is data of a request.
type spec128 dukpt.DataSpec

// Derivation is that of a request.
func (s spec128) Derivation(k dukpt.KSN, parent dukpt.WorkingKey) (dukpt.Derivation, error) {
	return dukpt.DataSpec(s).Derivation(k, parent, dukpt.Request)
}

// derived makes a working key of the sample, and finds the template that the token wants.
func (p *prober) derived(spec deriver, u use) (object, error) {
	key, err := p.transaction()
	if err != nil {
		return 0, err
	}
	last, err := spec.Derivation(sampleKSN, dukpt.KeyAES128)
	if err != nil {
		return 0, err
	}
	return p.step(key, last, u)
}

// transaction makes the key of the sample's transaction.
func (p *prober) transaction() (object, error) {
	base, err := p.put(keys.AES128, sampleBase, useDerive)
	if err != nil {
		return 0, err
	}
	first, err := sampleKSN.KeyID().InitialDerivation(dukpt.KeyAES128)
	if err != nil {
		return 0, err
	}
	_, steps, err := sampleKSN.Derivations(dukpt.KeyAES128)
	if err != nil {
		return 0, err
	}
	key := base
	for _, step := range append([]dukpt.Derivation{first}, steps...) {
		if key, err = p.step(key, step, useDerive); err != nil {
			return 0, err
		}
	}
	return key, nil
}

// step derives one key. Where the token refuses it with its length it tries without, and remembers what went well.
func (p *prober) step(parent object, step dukpt.Derivation, u use) (object, error) {
	key, err := p.keep(p.shape.derive(p.device, p.session, parent, step, u))
	if err == nil || classify(err) != classRequest {
		return key, err
	}
	other := p.shape
	other.unsized = map[uint]bool{}
	for typ, on := range p.shape.unsized {
		other.unsized[typ] = on
	}
	typ := keyType(step.Key.Algorithm())
	other.unsized[typ] = !other.unsized[typ]
	key, again := p.keep(other.derive(p.device, p.session, parent, step, u))
	if again != nil && classify(again) != classRequest {
		return 0, again
	}
	if again != nil {
		return 0, err
	}
	p.shape = other
	return key, nil
}

var (
	probeKey   = unhex("2B7E151628AED2A6ABF7158809CF4F3C") // RFC 4493
	probeDES   = unhex("0123456789ABCDEFFEDCBA9876543210")
	probeText  = unhex("6BC1BEE22E409F96E93D7E117393172AAE2D8A571E03AC9C9EB76FAC45AF8E51")
	probeIV    = unhex("000102030405060708090A0B0C0D0E0F")
	probeCMAC  = unhex("070A16B46B4D4144F79BDD9DD04A287C") // of the first 16 bytes of the text
	wrapKey    = unhex("000102030405060708090A0B0C0D0E0F") // RFC 3394, 4.1
	wrapData   = unhex("00112233445566778899AABBCCDDEEFF")
	wrapResult = unhex("1FA68B0A8112B447AEF34BD8FB5A7B829D3E862371D2CFE5")
)

func (p *prober) aesECB() error { return p.blocks(keys.AES128, probeKey, mechanism{code: mechAESECB}) }

func (p *prober) aesCBC() error {
	return p.blocks(keys.AES128, probeKey, mechanism{code: mechAESCBC, iv: probeIV})
}

func (p *prober) des3ECB() error {
	return p.blocks(keys.TDES2, probeDES, mechanism{code: mechDES3ECB})
}

func (p *prober) des3CBC() error {
	return p.blocks(keys.TDES2, probeDES, mechanism{code: mechDES3CBC, iv: probeIV[:8]})
}

// blocks encrypts under a key that may do nothing else, and decrypts under another of the same value.
func (p *prober) blocks(a keys.Algorithm, value []byte, m mechanism) error {
	to, err := p.put(a, value, useEncrypt)
	if err != nil {
		return err
	}
	from, err := p.put(a, value, useDecrypt)
	if err != nil {
		return err
	}
	want := bytes.Clone(probeText)
	block, err := blockOf(a, value)
	if err != nil {
		return err
	}
	if m.iv != nil {
		cipher.NewCBCEncrypter(block, m.iv).CryptBlocks(want, want)
	} else {
		for at := 0; at < len(want); at += block.BlockSize() {
			block.Encrypt(want[at:], want[at:])
		}
	}
	got, err := p.device.encrypt(p.session, m, to, probeText)
	if err := same(got, want, err); err != nil {
		return err
	}
	got, err = p.device.decrypt(p.session, m, from, want)
	return same(got, probeText, err)
}

func (p *prober) aesCMAC() error {
	key, err := p.put(keys.AES128, probeKey, useSign)
	if err != nil {
		return err
	}
	got, err := p.device.sign(p.session, mechanism{code: mechAESCMAC}, key, probeText[:16])
	return same(got, probeCMAC, err)
}

func (p *prober) des3CMAC() error {
	key, err := p.put(keys.TDES2, probeDES, useSign)
	if err != nil {
		return err
	}
	block, err := blockOf(keys.TDES2, probeDES)
	if err != nil {
		return err
	}
	got, err := p.device.sign(p.session, mechanism{code: mechDES3CMAC}, key, probeText)
	return same(got, mac.CMAC(nil, block, probeText), err)
}

func (p *prober) hmac() error { return p.hmacUnder(keys.HMAC256, probeText) }

func (p *prober) shortHMAC() error { return p.hmacUnder(keys.HMAC128, probeKey) }

func (p *prober) hmacUnder(a keys.Algorithm, value []byte) error {
	key, err := p.put(a, value, useSign)
	if err != nil {
		return err
	}
	got, err := p.device.sign(p.session, mechanism{code: mechSHA256HMAC}, key, probeText)
	h := hmac.New(sha256.New, value)
	h.Write(probeText)
	return same(got, h.Sum(nil), err)
}

// retail makes a retail MAC of the sample as a transaction does, and compares with the host.
func (p *prober) retail() error {
	spec := dukpt.MACSpec{Algorithm: dukpt.MACRetail, Key: dukpt.KeyTDES2, Padding: dukpt.MACPadding2, Length: des.BlockSize}
	parent, err := p.transaction()
	if err != nil {
		return err
	}
	step, err := spec.Derivation(sampleKSN, dukpt.KeyAES128, dukpt.Response)
	if err != nil {
		return err
	}
	left, err := p.keep(p.shape.left(p.device, p.session, parent, step))
	if err != nil {
		return err
	}
	key, err := p.step(parent, step, useEncrypt)
	if err != nil {
		return err
	}
	triple := &block{device: p.device, session: p.session, key: key, code: mechDES3ECB, size: des.BlockSize}
	got, err := retailMAC(newSingle(p.device, p.session, left), triple, spec, probeText)
	if err != nil {
		return err
	}
	tx, err := sampleTransaction()
	if err != nil {
		return err
	}
	defer tx.End()
	want, err := tx.MACResponse(nil, spec, probeText)
	return same(got, want, err)
}

// sampleTransaction is the host side of the sample, in the host.
func sampleTransaction() (*dukpt.HostTransaction, error) {
	base, err := dukpt.NewBaseKey(must(keys.NewKey(bdkAttributes(keys.AES128), sampleBase)))
	if err != nil {
		return nil, err
	}
	defer base.Wipe()
	return base.Begin(sampleKSN)
}

// wrap wraps a key that may be, and unwraps it to one that encrypts.
func (p *prober) wrap() error {
	wrapping, err := p.put(keys.AES128, wrapKey, useWrap, useUnwrap)
	if err != nil {
		return err
	}
	template := append(withoutExtractable(secretTemplate(typeAES, false, useEncrypt)), flag(attrExtractable, true), attribute{attrValue, wrapData})
	key, err := p.keep(p.device.createObject(p.session, template))
	if err != nil {
		return err
	}
	m := mechanism{code: mechAESKeyWrap}
	wrapped, err := p.device.wrapKey(p.session, m, wrapping, key)
	if err := same(wrapped, wrapResult, err); err != nil {
		return err
	}
	back, err := p.keep(p.device.unwrapKey(p.session, m, wrapping, wrapped, secretTemplate(typeAES, false, useEncrypt)))
	if err != nil {
		return err
	}
	want := make([]byte, 16)
	inAES(wrapData).Encrypt(want, want)
	got, err := p.device.encrypt(p.session, mechanism{code: mechAESECB}, back, make([]byte, 16))
	return same(got, want, err)
}

func withoutExtractable(template []attribute) []attribute {
	var out []attribute
	for _, a := range template {
		if a.code != attrExtractable {
			out = append(out, a)
		}
	}
	return out
}

// blockAES takes a block in as a key wrapped by ECB under one key, and out under another: so a PIN block of format 4 can change
// its key without a clear block in the host, where a token can do it.
func (p *prober) blockAES() (err error) {
	p.shape.carriesAES, err = p.block(keys.AES128, mechAESECB, carryAES, probeKey, wrapKey, wrapData)
	return err
}

func (p *prober) blockDES3() (err error) {
	p.shape.carriesDES3, err = p.block(keys.TDES2, mechDES3ECB, carryDES3, probeDES, probeKey, wrapData[:8])
	return err
}

// block carries a block under keys that have the uses of those in service. Tokens differ in what they want of the template.
func (p *prober) block(a keys.Algorithm, code uint, uses []use, under, over, block []byte) (carriage, error) {
	from, err := p.put(a, under, uses...)
	if err != nil {
		return carriesNot, err
	}
	to, err := p.put(a, over, carryZone...)
	if err != nil {
		return carriesNot, err
	}
	in, want := make([]byte, len(block)), make([]byte, len(block))
	inner, err := blockOf(a, under)
	if err != nil {
		return carriesNot, err
	}
	outer, err := blockOf(a, over)
	if err != nil {
		return carriesNot, err
	}
	inner.Encrypt(in, block)
	outer.Encrypt(want, block)
	m := mechanism{code: code}
	var refused error
	for _, way := range []carriage{carriesPlain, carriesExtractable} {
		carried, err := p.keep(p.device.unwrapKey(p.session, m, from, in, way.template()))
		if err != nil {
			if refused = err; classify(err) != classRequest {
				break
			}
			continue
		}
		got, err := p.device.wrapKey(p.session, m, to, carried)
		if refused = same(got, want, err); refused == nil {
			return way, nil
		}
	}
	return carriesNot, refused
}

// The curve P-256 in the parameters of PKCS#11.
var paramsP256 = must(asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}))

// blockOf is a cipher under a published key. It fails where Go's FIPS mode forbids TDES.
func blockOf(a keys.Algorithm, value []byte) (cipher.Block, error) {
	if a.IsTDES() {
		return des.New(value)
	}
	return aes.NewCipher(value)
}

func inAES(value []byte) cipher.Block { return must(aes.NewCipher(value)) }

func unhex(s string) []byte { return must(hex.DecodeString(s)) }

// must is for constants and published samples.
func must[T any](v T, err error) T {
	if err != nil {
		panic("hsm: " + err.Error())
	}
	return v
}
