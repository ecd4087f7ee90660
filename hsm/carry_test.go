package hsm

import (
	"bytes"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/decrypt/engine/enginetest"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/pin"
)

// porter is SoftHSM with what SoftHSM 2.6.1 lacks: wrapping and unwrapping by ECB, as later tokens have it beside their
// derivation. It notes what else passes: no clear block may.
type porter struct {
	cryptoki
	mu      sync.Mutex
	carried map[object][]byte
	host    [][]byte // results of decrypt and arguments of encrypt, which are in host memory
}

func withPorter(o Options) (Options, **porter) {
	var p *porter
	o.device = func(c cryptoki) cryptoki {
		p = &porter{cryptoki: c, carried: map[object][]byte{}}
		return p
	}
	return o, &p
}

// grant lets keys that unwrap decrypt, and those that wrap encrypt, which is how the porter does it.
func grant(template []attribute) []attribute {
	on := func(code uint) bool {
		return slices.ContainsFunc(template, func(a attribute) bool { return a.code == code && a.asFlag() })
	}
	out := slices.Clone(template)
	for i, a := range out {
		if a.code == attrDecrypt && on(attrUnwrap) || a.code == attrEncrypt && on(attrWrap) {
			out[i] = flag(a.code, true)
		}
	}
	return out
}

func (p *porter) createObject(s session, template []attribute) (object, error) {
	return p.cryptoki.createObject(s, grant(template))
}

func (p *porter) deriveKey(s session, m mechanism, base object, template []attribute) (object, error) {
	return p.cryptoki.deriveKey(s, m, base, grant(template))
}

func (p *porter) encrypt(s session, m mechanism, key object, in []byte) ([]byte, error) {
	p.mu.Lock()
	p.host = append(p.host, bytes.Clone(in))
	p.mu.Unlock()
	return p.cryptoki.encrypt(s, m, key, in)
}

func (p *porter) decrypt(s session, m mechanism, key object, in []byte) ([]byte, error) {
	out, err := p.cryptoki.decrypt(s, m, key, in)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.host = append(p.host, bytes.Clone(out))
	return out, err
}

func (p *porter) unwrapKey(s session, m mechanism, wrapping object, wrapped []byte, template []attribute) (object, error) {
	if m.code != mechAESECB && m.code != mechDES3ECB {
		return p.cryptoki.unwrapKey(s, m, wrapping, wrapped, template)
	}
	if !slices.ContainsFunc(template, func(a attribute) bool { return a.code == attrExtractable && a.asFlag() }) {
		return 0, rvKeyUnextractable // SoftHSM makes what is unwrapped so that it cannot be wrapped
	}
	value, err := p.cryptoki.decrypt(s, m, wrapping, wrapped)
	if err != nil {
		return 0, err
	}
	o, err := p.cryptoki.createObject(s, append(slices.Clone(template), attribute{attrValue, value}))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.carried[o] = value
	return o, err
}

func (p *porter) wrapKey(s session, m mechanism, wrapping, key object) ([]byte, error) {
	p.mu.Lock()
	value, carried := p.carried[key]
	p.mu.Unlock()
	if m.code != mechAESECB && m.code != mechDES3ECB || !carried {
		return p.cryptoki.wrapKey(s, m, wrapping, key)
	}
	return p.cryptoki.encrypt(s, m, wrapping, value)
}

// TestConformanceCarried runs the suite on a token that derives inside and carries PIN blocks: nobody looks at them.
func TestConformanceCarried(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) enginetest.Fixture {
		o, _ := withPorter(Options{CarryPINs: true})
		token := open(t, o)
		f := fixture(t, token, engine.Token)
		f.Engine, f.Blind = blind{f.Engine}, true
		return f
	})
}

type blind struct{ engine.Engine }

// TestCarried translates every format with the clear block inside, and compares with the blocks that software makes.
func TestCarried(t *testing.T) {
	t.Parallel()
	for _, wanted := range []bool{true, false} {
		o, port := withPorter(Options{CarryPINs: wanted})
		token := open(t, o)
		e, base := token.Engine(), put(t, token, keys.AES128)
		zones := map[int]keyset.KeyRef{}
		for size, a := range map[int]keys.Algorithm{8: keys.TDES2, 16: keys.AES128} {
			zones[size] = alias(t, "zone-"+a.String())
			if _, err := token.Import(t.Context(), zones[size], newKey(t, attributesFor(a, keys.UsagePIN, keys.ModeEncrypt), zoneKey), keyset.Test); err != nil {
				t.Fatal(err)
			}
		}
		r, err := token.Probe(t.Context())
		if err != nil || !r.OK(CheckBlockWrap) || !r.OK(CheckBlockDES3) {
			t.Fatalf("%v, %+v", err, r)
		}
		want := engine.HostMemory
		if wanted {
			want = engine.None
		}
		if r.Keys[0].PINExposure != want || r.Keys[0].KeyMode != engine.Token {
			t.Errorf("carried %v: %+v", wanted, r.Keys[0])
		}
		ksn, pan, fill := must(dukpt.ParseKSNHex("123456789012345600000007")), must(pin.ParsePAN("4111111111111111")), pin.Fill{7}
		ops := must(e.Begin(t.Context(), base, ksn))
		for _, f := range []pin.Format{pin.Format0, pin.Format1, pin.Format3, pin.Format4, pin.Format4PAN12} {
			w, a := dukpt.KeyAES128, keys.AES128
			if f.BlockSize() == 8 {
				w, a = dukpt.KeyTDES2, keys.TDES2
			}
			p := must(pin.ParsePIN([]byte("1234")))
			block := pinBlockUnder(t, token, base, ksn, w, f, p, pan, fill)
			expected := must(f.Encrypt(nil, must(blockOf(a, unhex(zoneKey))), p, pan, fill))
			(*port).host = nil
			got, err := ops.TranslatePIN(nil, dukpt.PINBlock{Format: f, Key: w, PAN: pan, Block: block}, engine.PINOut{Format: f, PAN: pan, Key: zones[f.BlockSize()], Fill: fill})
			if err != nil || !bytes.Equal(got, expected) {
				t.Errorf("carried %v, %v: got %X, %v; want %X", wanted, f, got, err, expected)
			}
			clearBlock := must(f.Encrypt(nil, identity(f.BlockSize()), p, pan, fill))
			if f.BlockSize() == 16 {
				_ = f.XORPANField(clearBlock, pan)
			}
			passes := slices.ContainsFunc((*port).host, func(b []byte) bool { return bytes.Equal(b, clearBlock) })
			if passes == wanted {
				t.Errorf("carried %v, %v: the clear block is in host memory: %v", wanted, f, passes)
			}
		}
		block := pinBlockUnder(t, token, base, ksn, dukpt.KeyTDES2, pin.Format0, must(pin.ParsePIN([]byte("1234"))), pan, fill)
		_, err = ops.TranslatePIN(nil, dukpt.PINBlock{Format: pin.Format0, Key: dukpt.KeyTDES2, PAN: pan, Block: block}, engine.PINOut{Format: pin.Format4, PAN: pan, Key: zones[16]})
		if changed := err == nil; changed == wanted || wanted && !errors.Is(err, dukpt.ErrUnsupported) {
			t.Errorf("carried %v, to another format: %v", wanted, err)
		}
	}
}

// identity is a cipher that changes nothing.
type identity int

func (i identity) BlockSize() int          { return int(i) }
func (i identity) Encrypt(dst, src []byte) { copy(dst, src[:i]) }
func (i identity) Decrypt(dst, src []byte) { copy(dst, src[:i]) }

// pinBlockUnder makes a block as a terminal would that uses this type of PIN key.
func pinBlockUnder(t *testing.T, token *Token, base keyset.KeyRef, ksn dukpt.KSN, w dukpt.WorkingKey, f pin.Format, p pin.PIN, pan pin.PAN, fill pin.Fill) (made []byte) {
	t.Helper()
	err := token.use(t.Context(), func(c *connection, l *lease) error {
		e, err := c.keys.Load().find(base)
		if err != nil {
			return err
		}
		step := must(dukpt.PINBlock{Format: f, Key: w}.Derivation(ksn, e.parent))
		return c.paths.walk(l.ctx, token.shape, e, ksn, func(parent object) error {
			key, err := token.shape.derive(c.device, l.session, parent, step, useEncrypt)
			if err != nil {
				return err
			}
			defer l.destroy(c, key)
			made, err = f.Encrypt(nil, newBlock(c, l, key, w.Algorithm().IsTDES()), p, pan, fill)
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// TestCarryRefuses translates nothing where it would take a clear block.
func TestCarryRefuses(t *testing.T) {
	t.Parallel()
	u := hsmURI(t)
	plain := openAgain(t, u, Options{})
	base, zone := put(t, plain, keys.AES128), alias(t, "zone")
	if _, err := plain.Import(t.Context(), zone, newKey(t, attributesFor(keys.AES128, keys.UsagePIN, keys.ModeEncrypt), zoneKey), keyset.Test); err != nil {
		t.Fatal(err)
	}
	ksn := must(dukpt.ParseKSNHex("123456789012345600000007"))
	block, pan := sealedPIN(t, keys.AES128, ksn, pin.Format4), must(pin.ParsePAN("4111111111111111"))
	in, out := dukpt.PINBlock{Format: pin.Format4, PAN: pan, Block: block}, engine.PINOut{Format: pin.Format4, PAN: pan, Key: zone}
	o, _ := withPorter(Options{CarryPINs: true})
	token := openAgain(t, u, o)
	ops := must(token.Engine().Begin(t.Context(), base, ksn))
	if got, err := ops.TranslatePIN(nil, in, out); !errors.Is(err, engine.ErrUsage) || got != nil {
		t.Errorf("under a zone key that may not wrap: %X, %v", got, err)
	}
	// SoftHSM itself does not carry: the plain way, and its label.
	token = openAgain(t, u, Options{CarryPINs: true})
	if info := must(token.Engine().Describe(t.Context(), base)); info.Labels.PINExposure != engine.HostMemory {
		t.Errorf("%+v", info)
	}
	ops = must(token.Engine().Begin(t.Context(), base, ksn))
	if _, err := ops.TranslatePIN(nil, in, out); err != nil {
		t.Errorf("the plain way: %v", err)
	}
	token.shape.carriesAES = carriesPlain // a token that said more than it can: nothing comes out
	ops.(*inside).carries = true
	c := must(token.current(t.Context()))
	must(c.keys.Load().find(zone)).wraps = true
	if got, err := ops.TranslatePIN(nil, in, out); err == nil || got != nil {
		t.Errorf("carried by a token that does not: %X, %v", got, err)
	}
}

// TestCheckCarry says what keeps PIN blocks from being carried, and nothing where they are.
func TestCheckCarry(t *testing.T) {
	t.Parallel()
	u := hsmURI(t)
	plain := openAgain(t, u, Options{})
	base, old := put(t, plain, keys.AES128), alias(t, "old")
	in := func(token *Token, ref keyset.KeyRef, a keys.Algorithm, value string) keyset.KeyRef {
		if _, err := token.Import(t.Context(), ref, newKey(t, attributesFor(a, keys.UsagePIN, keys.ModeEncrypt), value), keyset.Test); err != nil {
			t.Fatal(err)
		}
		return ref
	}
	in(plain, old, keys.AES128, zoneKey)
	o, _ := withPorter(Options{CarryPINs: true})
	carries := openAgain(t, u, o)
	aes, tdes := in(carries, alias(t, "new"), keys.AES128, aesBDK[2:]+"00"), in(carries, alias(t, "tdes"), keys.TDES2, tdesBDK)
	if err := carries.CheckCarry(t.Context(), aes, tdes); err != nil {
		t.Error(err)
	}
	for name, tt := range map[string]struct {
		token *Token
		zones []keyset.KeyRef
		want  error
	}{
		"not wanted":     {plain, nil, ErrCarry},
		"not by SoftHSM": {openAgain(t, u, Options{CarryPINs: true}), nil, ErrCarry},
		"may not wrap":   {carries, []keyset.KeyRef{aes, old}, ErrCarry},
		"no zone key":    {carries, []keyset.KeyRef{base}, engine.ErrUsage},
		"no key":         {carries, []keyset.KeyRef{alias(t, "none")}, engine.ErrKeyNotFound},
	} {
		if err := tt.token.CheckCarry(t.Context(), tt.zones...); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
	carries.shape.carriesDES3 = carriesNot
	if err := carries.CheckCarry(t.Context(), aes); err != nil {
		t.Error(err)
	}
	if err := carries.CheckCarry(t.Context(), tdes); !errors.Is(err, ErrCarry) {
		t.Errorf("a TDES zone key where only AES is carried: %v", err)
	}
	if err := carries.Close(); err != nil {
		t.Fatal(err)
	}
	if err := carries.CheckCarry(t.Context()); !errors.Is(err, engine.ErrUnavailable) {
		t.Errorf("after Close: %v", err)
	}
}
