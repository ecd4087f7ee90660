package hsm

import (
	"bytes"
	"crypto/aes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/testvec"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// vault is a token that takes in the keys of vectors as they come.
type vault struct {
	t     *testing.T
	token *Token
	zones map[bool]keyset.KeyRef // zone PIN keys: of TDES, or of AES

	mu   sync.Mutex
	refs map[string]keyset.KeyRef // base keys by value
}

// The value of both zone keys.
const zoneKey = "1A2B3C4D5E6F70818293A4B5C6D7E8F9"

func newVault(t *testing.T, o Options) *vault {
	t.Helper()
	v := &vault{t: t, token: open(t, o), zones: map[bool]keyset.KeyRef{}, refs: map[string]keyset.KeyRef{}}
	for tdes, a := range map[bool]keys.Algorithm{false: keys.AES128, true: keys.TDES2} {
		v.zones[tdes] = alias(t, "zone-"+a.String())
		k := newKey(t, attributesFor(a, keys.UsagePIN, keys.ModeEncrypt), zoneKey)
		if _, err := v.token.Import(t.Context(), v.zones[tdes], k, keyset.Test); err != nil {
			t.Fatal(err)
		}
	}
	return v
}

// begin opens a transaction of a vector.
func (v *vault) begin(vector testvec.Vector) (engine.HostOps, dukpt.KSN, error) {
	ksn, err := dukpt.ParseKSN(vector.Hex("ksn"))
	if err != nil {
		return nil, ksn, err
	}
	value := vector.Hex("bdk")
	a := keys.TDES2
	if ksn.Scheme() == dukpt.AES {
		a = map[int]keys.Algorithm{16: keys.AES128, 24: keys.AES192, 32: keys.AES256}[len(value)]
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	id := a.String() + string(value)
	if v.refs[id].IsZero() {
		k, err := keys.NewKey(bdkAttributes(a), value)
		if err != nil {
			return nil, ksn, err
		}
		defer k.Wipe()
		ref := alias(v.t, fmt.Sprintf("bdk-%d", len(v.refs)))
		if _, err := v.token.Import(v.t.Context(), ref, k, keyset.Test); err != nil {
			return nil, ksn, err
		}
		v.refs[id] = ref
	}
	ops, err := v.token.Engine().Begin(v.t.Context(), v.refs[id], ksn)
	return ops, ksn, err
}

func padTo(s string, size int) []byte {
	b := []byte(s)
	return append(b, make([]byte, (size-len(b)%size)%size)...)
}

func compare(what string, got, want []byte) error {
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s: got %X, want %X", what, got, want)
	}
	return nil
}

// data decrypts a request, or encrypts a response.
func (v *vault) data(s dukpt.DataSpec, response bool) testvec.Handler {
	return func(vector testvec.Vector) (int, error) {
		ops, ksn, err := v.begin(vector)
		if err != nil {
			return 0, err
		}
		defer ops.End()
		plain := padTo(vector.String("data_ascii"), blockSize(ksn.Scheme() == dukpt.TDES))
		if response {
			s.Direction = dukpt.Response
			got, err := ops.EncryptResponse(nil, s, plain)
			if err != nil {
				return 0, err
			}
			return 1, compare("response", got, vector.Hex("ciphertext"))
		}
		got, err := ops.DecryptData(nil, s, vector.Hex("ciphertext"))
		if err != nil {
			return 0, err
		}
		return 1, compare("request", got, plain)
	}
}

// mac verifies a request, or makes a response.
func (v *vault) mac(s dukpt.MACSpec, member string, response bool) testvec.Handler {
	return func(vector testvec.Vector) (int, error) {
		ops, _, err := v.begin(vector)
		if err != nil {
			return 0, err
		}
		defer ops.End()
		want := vector.Hex(member)
		s.Length = len(want)
		if response {
			got, err := ops.MACResponse(nil, s, []byte(vector.String("data_ascii")))
			if err != nil {
				return 0, err
			}
			return 1, compare("MAC", got, want)
		}
		return 1, ops.VerifyMAC(s, []byte(vector.String("data_ascii")), want)
	}
}

// translate moves the PIN of a vector under a zone key, and finds it there.
func (v *vault) translate(f pin.Format, member string) testvec.Handler {
	return func(vector testvec.Vector) (int, error) {
		ops, _, err := v.begin(vector)
		if err != nil {
			return 0, err
		}
		defer ops.End()
		pan, err := pin.ParsePAN(vector.String("pan"))
		if err != nil {
			return 0, err
		}
		fill := pin.Fill{1, 2, 3}
		tdes := f.BlockSize() == 8
		got, err := ops.TranslatePIN(nil, dukpt.PINBlock{Format: f, PAN: pan, Block: vector.Hex(member)},
			engine.PINOut{Format: f, PAN: pan, Key: v.zones[tdes], Fill: fill})
		if err != nil {
			return 0, err
		}
		p, err := pin.ParsePIN([]byte(vector.String("pin")))
		if err != nil {
			return 0, err
		}
		zone := keys.AES128
		if tdes {
			zone = keys.TDES2
		}
		c, err := blockOf(zone, unhex(zoneKey))
		if err != nil {
			return 0, err
		}
		want, err := f.Encrypt(nil, c, p, pan, fill)
		if err != nil {
			return 0, err
		}
		return 1, compare("block under the zone key", got, want)
	}
}

// usages of the vectors, as they stand in the derivation data.
var usages = map[string]uint16{
	"key_encryption": 0x0002, "pin_encryption": 0x1000, "mac_generation": 0x2000, "mac_verification": 0x2001, "mac_both": 0x2002,
	"data_encrypt": 0x3000, "data_decrypt": 0x3001, "data_both": 0x3002, "key_derivation": 0x8000,
}

// workingKey derives a key of a vector from its initial key, in the token, and compares what it encrypts. Short HMAC keys, under
// which SoftHSM computes nothing, are derived to be read.
func (v *vault) workingKey(vector testvec.Vector) (int, error) {
	ksn, err := dukpt.ParseKSN(vector.Hex("ksn"))
	if bits.OnesCount32(binary.BigEndian.Uint32(vector.Hex("ksn")[8:])) > 16 { // no terminal uses such a counter
		return 1, expect(err, dukpt.ErrKSN)
	}
	if err != nil {
		return 0, err
	}
	usage, known := usages[vector.String("usage")]
	if !known {
		return 0, fmt.Errorf("usage %q", vector.String("usage"))
	}
	initial := vector.Hex("ik")
	parent := map[int]dukpt.WorkingKey{16: dukpt.KeyAES128, 24: dukpt.KeyAES192, 32: dukpt.KeyAES256}[len(initial)]
	w, err := dukpt.ParseWorkingKey(vector.String("key_type"))
	if err != nil {
		return 0, err
	}
	last, err := sampleStep(ksn, w, parent)
	if err != nil {
		return 0, err
	}
	for at := 0; at < len(last.Data); at += 16 {
		binary.BigEndian.PutUint16(last.Data[at+2:], usage)
	}
	_, steps, err := ksn.Derivations(parent)
	if err != nil {
		return 0, err
	}
	var compared error
	err = v.token.use(v.t.Context(), func(c *connection, l *lease) error {
		p := &prober{device: c.device, session: l.session, shape: v.token.shape}
		defer p.tidy()
		key, err := p.put(parent.Algorithm(), initial, useDerive)
		for _, s := range steps {
			if err == nil {
				key, err = p.step(key, s, useDerive)
			}
		}
		if err != nil {
			return err
		}
		compared, err = p.compareChild(key, last, vector.Hex("working_key"))
		return err
	})
	if err != nil {
		return 0, err
	}
	return 1, compared
}

// sampleStep is a step to a key of this type.
func sampleStep(ksn dukpt.KSN, w, parent dukpt.WorkingKey) (dukpt.Derivation, error) {
	if w >= dukpt.KeyHMAC128 {
		return dukpt.MACSpec{Algorithm: dukpt.MACHMACSHA256, Key: w, Length: 32}.Derivation(ksn, parent, dukpt.Request)
	}
	return dukpt.DataSpec{Direction: dukpt.Request, Key: w, Mode: dukpt.ECB}.Derivation(ksn, parent, dukpt.Request)
}

func (p *prober) compareChild(parent object, step dukpt.Derivation, want []byte) (different, err error) {
	a := step.Key.Algorithm()
	if a.IsHMAC() {
		template := []attribute{
			number(attrClass, classSecret), number(attrKeyType, typeGeneric), flag(attrToken, false), flag(attrSensitive, false),
			flag(attrExtractable, true), number(attrValueLen, uint(a.KeyBytes())),
		}
		key, err := p.keep(p.device.deriveKey(p.session, mechanism{code: mechAESDerive, data: step.Data}, parent, template))
		if err != nil {
			return nil, err
		}
		got, err := p.device.attributes(p.session, key, []uint{attrValue})
		if err != nil {
			return nil, err
		}
		return compare("key", got[0].bytes, want), nil
	}
	key, err := p.step(parent, step, useEncrypt)
	if err != nil {
		return nil, err
	}
	code := uint(mechAESECB)
	if a.IsTDES() {
		code = mechDES3ECB
	}
	got, err := p.device.encrypt(p.session, mechanism{code: code}, key, make([]byte, aes.BlockSize))
	if err != nil {
		return nil, err
	}
	c, err := blockOf(a, want)
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, aes.BlockSize)
	for at := 0; at < len(zeros); at += c.BlockSize() {
		c.Encrypt(zeros[at:], zeros[at:])
	}
	return compare("zeros under the key", got, zeros), nil
}

// handlersAES are what a token can do of the vectors of AES DUKPT. HMACs of the vectors are under keys that SoftHSM does not
// take; those of 256 bits are in TestWorkingKeys.
func handlersAES(v *vault) (map[string]testvec.Handler, []string) {
	cmac := dukpt.AES.DefaultMAC()
	handlers := map[string]testvec.Handler{
		"pin_encrypt_iso4": v.translate(pin.Format4, "encrypted_pin_block"),
		"cmac_request":     v.mac(cmac, "mac", false), "cmac_response": v.mac(cmac, "mac", true),
		"data_request": v.data(dukpt.AES.DefaultData(), false), "data_response": v.data(dukpt.AES.DefaultData(), true),
	}
	return handlers, []string{
		"derivation_key", "initial_key", "ksn_advance", "strength_rule", "update_key", "hmac_request", "hmac_response",
		"ksn_valid_counter", "terminal_key_sequence_digest",
	}
}

// working adds the working keys, for a token that derives them.
func working(v *vault, handlers map[string]testvec.Handler) {
	handlers["working_key_published"] = v.workingKey
	for _, feature := range workingFeatures() {
		handlers[feature] = v.workingKey
	}
}

// workingFeatures are those of keys that are no stronger than their parents.
func workingFeatures() (all []string) {
	for _, parent := range []keys.Algorithm{keys.AES128, keys.AES192, keys.AES256} {
		for w := dukpt.KeyTDES2; w <= dukpt.KeyHMAC256; w++ {
			if w.Algorithm().StrengthBits() <= parent.StrengthBits() {
				all = append(all, fmt.Sprintf("working_key_%v_from_%d", w, parent.StrengthBits()))
			}
		}
	}
	return all
}

func TestVectorsAES(t *testing.T) {
	t.Parallel()
	v := newVault(t, Options{})
	handlers, deferred := handlersAES(v)
	working(v, handlers)
	testvec.Run(t, "dukpt-aes", handlers, deferred...)
	expected := map[string][]string{
		"pin_encrypt_iso4": {"encrypted_pin_block"}, "cmac_request": {"mac"}, "cmac_response": {"mac"}, "data_request": {"ciphertext"}, "data_response": {"ciphertext"},
	}
	for feature := range handlers {
		if strings.HasPrefix(feature, "working_key_") && !strings.Contains(feature, "TDEA") && feature != "working_key_published" { // a flipped last bit of DES is parity
			expected[feature] = []string{"working_key"}
		}
	}
	testvec.Flip(t, "dukpt-aes", handlers, expected)
}

func TestVectorsAESOutside(t *testing.T) {
	t.Parallel()
	handlers, deferred := handlersAES(newVault(t, withoutDerive(Options{})))
	deferred = append(append(deferred, workingFeatures()...), "working_key_published")
	testvec.Run(t, "dukpt-aes", handlers, deferred...)
}

func TestVectorsTDES(t *testing.T) {
	t.Parallel()
	v := newVault(t, Options{})
	retail := dukpt.MACSpec{Algorithm: dukpt.MACRetail, Padding: dukpt.MACPadding1}
	cmac := dukpt.MACSpec{Algorithm: dukpt.MACCMAC}
	testvec.Run(t, "dukpt-tdes", map[string]testvec.Handler{
		"pin_encrypt_iso0":   v.translate(pin.Format0, "encrypted_pin_block"),
		"retail_mac_request": v.mac(retail, "mac8", false), "retail_mac_response": v.mac(retail, "mac8", true),
		"tdes_cmac_request": v.mac(cmac, "cmac", false), "tdes_cmac_response": v.mac(cmac, "cmac", true),
		"data_request_encrypt": v.data(dukpt.TDES.DefaultData(), false), "data_response_encrypt": v.data(dukpt.TDES.DefaultData(), true),
	}, "transaction_key", "ksn_advance", "initial_key", "variant_mask", "terminal_key_sequence_digest", "ksn_short_left_padded_ff")
}
