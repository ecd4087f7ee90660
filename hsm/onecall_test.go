package hsm

import (
	"bytes"
	"crypto/cipher"
	"crypto/des"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/decrypt/engine/enginetest"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/hsmtest"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// maker is SoftHSM with the mechanisms of a maker for TDES DUKPT put in front of it, and with single DES and parts of keys, which
// these need and SoftHSM lacks. It knows the base keys that it was given, and computes as X9.24-1:2009 says, by itself.
type maker struct {
	cryptoki
	mechanisms *OneCall
	wrong      uint // a mechanism that gives another key

	mu     sync.Mutex
	values map[object][]byte // of TDES keys that derive
	halves map[object]bool   // keys of single DES, which are K||K under triple DES
}

func withMaker(o Options, prepare func(*maker), faults func(*faulty)) (Options, **maker, **faulty) {
	var m *maker
	var f *faulty
	o.device = func(c cryptoki) cryptoki {
		m = &maker{cryptoki: c, mechanisms: LunaOneCall(), values: map[object][]byte{}, halves: map[object]bool{}}
		if prepare != nil {
			prepare(m)
		}
		f = newFaulty(m)
		if faults != nil {
			faults(f)
		}
		return f
	}
	return o, &m, &f
}

func (m *maker) createObject(s session, template []attribute) (object, error) {
	o, err := m.cryptoki.createObject(s, template)
	if value := valueOf(template); err == nil && value != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.values[o] = bytes.Clone(value)
	}
	return o, err
}

// valueOf returns the value of a TDES key that derives.
func valueOf(template []attribute) (value []byte) {
	var tdes, derives bool
	for _, a := range template {
		n, _ := a.asNumber()
		tdes = tdes || a.code == attrKeyType && n == typeDES2
		derives = derives || a.code == attrDerive && a.asFlag()
		if a.code == attrValue {
			value = a.bytes
		}
	}
	if !tdes || !derives {
		return nil
	}
	return value
}

func (m *maker) deriveKey(s session, how mechanism, base object, template []attribute) (object, error) {
	m.mu.Lock()
	value, known := m.values[base]
	m.mu.Unlock()
	masks := map[uint][]byte{
		m.mechanisms.PIN: unhex("00000000000000FF00000000000000FF"), m.mechanisms.MACRequest: unhex("000000000000FF00000000000000FF00"),
		m.mechanisms.MACResponse: unhex("00000000FF00000000000000FF000000"), m.mechanisms.DataRequest: unhex("0000000000FF00000000000000FF0000"),
		m.mechanisms.DataResponse: unhex("000000FF00000000000000FF00000000"),
	}
	mask, ours := masks[how.code]
	switch {
	case how.code == mechExtract && known && bytes.Equal(how.iv, ulong(0)):
		half := slices.Concat(value[:8], value[:8])
		o, err := m.cryptoki.createObject(s, append(retyped(template), attribute{attrValue, half}))
		m.mu.Lock()
		defer m.mu.Unlock()
		m.halves[o] = true
		return o, err
	case !ours:
		return m.cryptoki.deriveKey(s, how, base, template)
	case !known || len(how.data) != 10:
		return 0, rvMechanismParam
	}
	key := transactionKey(value, how.data)
	xor(key, mask)
	if how.code == m.mechanisms.DataRequest || how.code == m.mechanisms.DataResponse {
		c := triple(key)
		c.Encrypt(key[:8], key[:8])
		half := bytes.Clone(key[8:])
		c.Encrypt(half, half)
		copy(key[8:], half)
	}
	if how.code == m.wrong {
		key[0] ^= 2 // the lowest bit is parity
	}
	return m.createObject(s, append(slices.Clone(template), attribute{attrValue, key}))
}

// retyped has a template of a DES key be of one of two parts.
func retyped(template []attribute) []attribute {
	out := slices.Clone(template)
	for i, a := range out {
		if a.code == attrKeyType {
			out[i] = number(attrKeyType, typeDES2)
		}
	}
	return out
}

func (m *maker) encrypt(s session, how mechanism, key object, in []byte) ([]byte, error) {
	m.mu.Lock()
	half := m.halves[key]
	m.mu.Unlock()
	if how.code == mechDESECB && half {
		how.code = mechDES3ECB
	}
	return m.cryptoki.encrypt(s, how, key, in)
}

func xor(dst, mask []byte) {
	for i := range dst {
		dst[i] ^= mask[i]
	}
}

// triple is the cipher of a key as it is when it is called: the standard library copies it.
func triple(key []byte) cipher.Block {
	return must(des.NewTripleDESCipher(slices.Concat(key, key[:8])))
}

// transactionKey computes as X9.24-1:2009, A.2 and A.3, says.
func transactionKey(base, ksn []byte) []byte {
	c0 := unhex("C0C0C0C000000000C0C0C0C000000000")
	id := bytes.Clone(ksn)
	id[7], id[8], id[9] = id[7]&0xE0, 0, 0
	variant := bytes.Clone(base)
	xor(variant, c0)
	key := make([]byte, 16)
	triple(base).Encrypt(key[:8], id[:8])
	triple(variant).Encrypt(key[8:], id[:8])
	counter := uint32(ksn[7]&0x1F)<<16 | uint32(ksn[8])<<8 | uint32(ksn[9])
	register := bytes.Clone(id[2:])
	for bit := uint32(1 << 20); bit > 0; bit >>= 1 {
		if counter&bit == 0 {
			continue
		}
		register[5] |= byte(bit >> 16)
		register[6] |= byte(bit >> 8)
		register[7] |= byte(bit)
		next := make([]byte, 16)
		for half, k := range [][]byte{slices.Concat(key[:8], key[8:]), nil} {
			if half == 1 {
				k = bytes.Clone(key)
				xor(k, c0)
			}
			out := bytes.Clone(register)
			xor(out, k[8:])
			must(des.NewCipher(k[:8])).Encrypt(out, out)
			xor(out, k[8:])
			copy(next[8*(1-half):], out) // the right half without the variant
		}
		key = next
	}
	return key
}

// TestConformanceOneCall runs the suite on a token that makes the working keys of TDES in one call: all keys are inside.
func TestConformanceOneCall(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Fixture {
		o, _, _ := withMaker(Options{OneCall: LunaOneCall()}, nil, nil)
		f := fixture(t, open(t, o), engine.Token)
		f.KeyMode = func(keys.Algorithm) engine.KeyMode { return engine.Token }
		return f
	})
}

// TestOneCall has a token whose mechanisms are right, one with each of them wrong, and one that lacks what they need: base keys are
// in mode token on the first, and as without the mechanisms on the others.
func TestOneCall(t *testing.T) {
	t.Parallel()
	luna := LunaOneCall()
	for name, tt := range map[string]struct {
		o       Options
		prepare func(*maker)
		faults  func(*faulty)
		want    engine.KeyMode
	}{
		"right":           {Options{OneCall: luna}, nil, nil, engine.Token},
		"not asked for":   {Options{}, nil, nil, engine.BDKInToken},
		"PIN":             {Options{OneCall: luna}, func(m *maker) { m.wrong = luna.PIN }, nil, engine.BDKInToken},
		"MAC":             {Options{OneCall: luna}, func(m *maker) { m.wrong = luna.MACRequest }, nil, engine.BDKInToken},
		"MAC of answers":  {Options{OneCall: luna}, func(m *maker) { m.wrong = luna.MACResponse }, nil, engine.BDKInToken},
		"data":            {Options{OneCall: luna}, func(m *maker) { m.wrong = luna.DataRequest }, nil, engine.BDKInToken},
		"data of answers": {Options{OneCall: luna}, func(m *maker) { m.wrong = luna.DataResponse }, nil, engine.BDKInToken},
		"no extraction":   {Options{OneCall: luna}, nil, func(f *faulty) { f.lacks[mechExtract] = true }, engine.BDKInToken},
		"no single DES":   {Options{OneCall: luna}, nil, func(f *faulty) { f.lacks[mechDESECB] = true }, engine.BDKInToken},
		"no fingerprint":  {Options{OneCall: luna}, nil, func(f *faulty) { f.lacks[mechDES3Derive] = true }, engine.BDKInToken},
		"no mechanism":    {Options{OneCall: luna}, nil, func(f *faulty) { f.lacks[luna.MACRequest] = true }, engine.BDKInToken},
	} {
		o, _, faults := withMaker(tt.o, tt.prepare, tt.faults)
		u := hsmURI(t)
		token := openAgain(t, u, o)
		base, x := put(t, token, keys.TDES2), newTill(t, keys.TDES2, "FFFF9876543210E00000")
		r, err := token.Probe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if k := r.Keys[0]; k.KeyMode != tt.want || k.PINExposure != engine.HostMemory || r.OK(CheckOneCall) != (tt.want == engine.Token) {
			t.Errorf("%s: %+v, %+v", name, k, r.Checks)
		}
		if err := x.send(t).verify(t, token.Engine(), base); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, objects, _ := (*faults).live(); tt.want == engine.Token && objects != 0 {
			t.Errorf("%s: %d objects are left", name, objects)
		}
		fp := must(token.Engine().Describe(t.Context(), base)).Fingerprint
		if want := must(fingerprintOf(keys.TDES2, unhex(tdesBDK))); fp != want {
			t.Errorf("%s: fingerprint %v, want %v", name, fp, want)
		}
		if tt.want != engine.Token {
			continue
		}
		if err := token.Close(); err != nil {
			t.Fatal(err)
		}
		// A base key that only derives is of no use to a token whose mechanisms are not named.
		if again, err := Open(t.Context(), u, secret.From([]byte(hsmtest.PIN)), Options{}); !errors.Is(err, ErrAttributes) || again != nil {
			t.Errorf("opened without the mechanisms: %v", err)
		}
	}
}

// TestOneCallFaults has one call after the other fail under every operation: the answer is right or there is none.
func TestOneCallFaults(t *testing.T) {
	t.Parallel()
	o, _, faults := withMaker(Options{OneCall: LunaOneCall(), Clock: fast()}, nil, nil)
	token := open(t, o)
	f, e := *faults, token.Engine()
	base, zone, ksn := put(t, token, keys.TDES2), alias(t, "zone"), must(dukpt.ParseKSNHex("FFFF9876543210E00007"))
	if _, err := token.Import(t.Context(), zone, newKey(t, attributesFor(keys.TDES2, keys.UsagePIN, keys.ModeEncrypt), zoneKey), keyset.Test); err != nil {
		t.Fatal(err)
	}
	block := sealedPIN(t, keys.TDES2, ksn, pin.Format0)
	want, err := answers(t, e, base, zone, ksn, block)
	if err != nil {
		t.Fatal(err)
	}
	for _, cause := range []error{rvFailed, rvSessionHandle, rvDeviceMemory, rvKeyHandle} {
		for at := 0; ; at++ {
			f.failAfter(at, cause)
			got, err := answers(t, e, base, zone, ksn, block)
			if err == nil && !bytes.Equal(got, want) {
				t.Fatalf("call %d fails with %v: another answer", at, cause)
			}
			if err != nil && !errors.Is(err, cause) {
				t.Fatalf("call %d fails with %v: %v", at, cause, err)
			}
			if !f.failed() {
				break
			}
		}
	}
	if _, objects, _ := f.live(); objects != 0 {
		t.Errorf("%d objects are left", objects)
	}
}

// TestOneCallProfiles refuses data keys that the mechanisms do not make.
func TestOneCallProfiles(t *testing.T) {
	t.Parallel()
	o, _, _ := withMaker(Options{OneCall: LunaOneCall()}, nil, nil)
	token := open(t, o)
	ops := must(token.Engine().Begin(t.Context(), put(t, token, keys.TDES2), must(dukpt.ParseKSNHex("FFFF9876543210E00007"))))
	for profile, want := range map[dukpt.DataProfile]error{
		dukpt.DataOneWay: nil, dukpt.DataPINVariant: nil, dukpt.DataMask: dukpt.ErrUnsupported, dukpt.DataBareKey: dukpt.ErrUnsupported, 0: dukpt.ErrUnsupported,
	} {
		_, err := ops.DecryptData(nil, dukpt.DataSpec{Direction: dukpt.Request, Mode: dukpt.ECB, Profile: profile}, make([]byte, 8))
		if !errors.Is(err, want) {
			t.Errorf("%v: got %v, want %v", profile, err, want)
		}
	}
}
