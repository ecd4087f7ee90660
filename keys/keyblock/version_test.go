package keyblock

import (
	"bytes"
	"crypto/fips140"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/fipstest"
	"github.com/latchkey-pos/latchkey/keys"
)

func generate(t testing.TB, a keys.Attributes) keys.Key {
	t.Helper()
	k, err := keys.GenerateKey(a)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestVersionB wraps and unwraps under TDES keys of both lengths.
func TestVersionB(t *testing.T) {
	t.Parallel()
	for _, size := range []int{16, 24} {
		p := tdesProtector(t, size)
		for _, c := range []struct {
			a        keys.Attributes
			optional []OptionalBlock
			length   int
		}{
			{attributes(keys.TDES2, keys.UsagePIN, keys.ModeEncrypt), nil, 16 + 64 + 16},
			{attributes(keys.TDES2, keys.UsageInitialKey, keys.ModeDerive), []OptionalBlock{{OptionalKS, "FFFF9876543210E00000"}}, 16 + 24 + 64 + 16},
			{attributes(keys.TDES2, keys.UsageBDK, keys.ModeDerive), []OptionalBlock{{OptionalBI, "00FFFF987654"}}, 16 + 16 + 64 + 16},
			{attributes(keys.TDES2, keys.UsageBDK, keys.ModeDerive), []OptionalBlock{{OptionalLB, "x"}}, 16 + 16 + 64 + 16},
			{attributes(keys.TDES3, keys.UsageData, keys.ModeBoth), nil, 16 + 64 + 16},
		} {
			k := generate(t, c.a)
			block, err := p.Wrap(k, c.optional...)
			if c.a.Algorithm == keys.TDES3 && size == 16 {
				if !errors.Is(err, ErrStrength) {
					t.Errorf("3TDEA under 2TDEA: %v", err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(block) != c.length || block[0] != 'B' {
				t.Errorf("%v: %d characters of version %c, want %d of B", c.a, len(block), block[0], c.length)
			}
			got, err := p.Unwrap(block)
			if err != nil {
				t.Fatal(err)
			}
			back, err := got.Key()
			if err != nil || !back.Material().Equal(k.Material()) || back.Attributes() != c.a || !slices.Equal(got.Optional, c.optional) {
				t.Errorf("%v came back as %v, %v with %v", c.a, back, err, got.Optional)
			}
			if w := got.Warnings(); len(w) > 0 {
				t.Errorf("%v: a block of ours has the warnings %v", c.a, w)
			}
		}
	}
}

// TestStrength: what is stronger than the protection key is not wrapped, and is read with a warning.
func TestStrength(t *testing.T) {
	t.Parallel()
	protectors := []*Protector{
		tdesProtector(t, 16), tdesProtector(t, 24), testProtector(t, 16), testProtector(t, 24), testProtector(t, 32), twoKey(t),
	}
	bits := []int{80, 112, 128, 192, 256, 80}
	for i, p := range protectors {
		for a := keys.TDES2; a <= keys.HMAC256; a++ {
			attr := attributes(a, keys.UsageData, keys.ModeBoth)
			if a.IsHMAC() {
				attr = attributes(a, keys.UsageHMAC, keys.ModeGenVerify)
			}
			k := generate(t, attr)
			_, err := p.Wrap(k)
			if want := a.StrengthBits() > bits[i]; errors.Is(err, ErrStrength) != want || err != nil && !want {
				t.Errorf("%v under %d bits: %v", a, bits[i], err)
			}
		}
	}
}

// twoKey is a protector under a 2TDEA key in 24 bytes, whose outer parts differ in parity only.
func twoKey(t *testing.T) *Protector {
	t.Helper()
	raw := bytes.Clone(tdesProtector(t, 24).kbpk.Expose())
	for i := range 8 {
		raw[16+i] = raw[i] ^ 1
	}
	p, err := protectorOf('B', raw)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestTwoKey: a 2TDEA protection key in 24 bytes counts as what it is.
func TestTwoKey(t *testing.T) {
	t.Parallel()
	p := twoKey(t)
	if p.strength != 80 {
		t.Errorf("equal outer parts: %d bits", p.strength)
	}
	for i := range 24 {
		other := bytes.Clone(p.kbpk.Expose())
		other[i] ^= 2
		want := 112
		if i >= 8 && i < 16 {
			want = 80
		}
		p, err := protectorOf('B', other)
		if err != nil {
			t.Fatal(err)
		}
		if p.strength != want {
			t.Errorf("byte %d changed: %d bits, want %d", i, p.strength, want)
		}
	}
}

// TestWarnings gives the reader blocks with one thing against the standard each.
func TestWarnings(t *testing.T) {
	t.Parallel()
	aes, tdes := testProtector(t, 16), tdesProtector(t, 16)
	key := func(bits, size int) []byte {
		return append([]byte{byte(bits >> 8), byte(bits)}, bytes.Repeat([]byte{0x3c, 0x81}, size)[:size-2]...)
	}
	tdesKey := append([]byte{0, 128}, "sixteen secrets!padding"[:22]...)
	for _, c := range []struct {
		name, header string
		content      []byte
		want         []Warning
	}{
		{"nothing", "D0000P0AE00E0000", key(128, 48), nil},
		{"version A", "A0000P0TE00E0000", append(tdesKey, 0, 0, 0, 0, 0, 0, 0, 0), []Warning{{Kind: WarnVersion}}},
		{"version C", "C0000P0TE00E0000", append(tdesKey, 0, 0, 0, 0, 0, 0, 0, 0), []Warning{{Kind: WarnVersion}}},
		{"version B", "B0000P0TE00E0000", append(tdesKey, 0, 0, 0, 0, 0, 0, 0, 0), nil},
		{"B: length shown", "B0000P0TE00E0000", tdesKey, []Warning{{Kind: WarnLengthShown}}},
		{"AES: length shown", "D0000P0AE00E0000", key(128, 32), []Warning{{Kind: WarnLengthShown}}},
		{"longer than needed", "D0000P0AE00E0000", key(128, 64), nil},
		{"TDES in D", "D0000P0TE00E0000", append(tdesKey, tdesKey[:8]...), nil},
		{"HMAC in 32 bytes", "D0000M7HC00E0200HM0621PB0A000000", key(128, 32), nil},
		{"HMAC of 96 bits", "D0000M7HC00E0200HM0621PB0A000000", key(96, 32), nil},
		{"HMAC of 80 bits", "D0000M7HC00E0200HM0621PB0A000000", key(80, 32), nil},
		{"HMAC of 512 bits", "D0000M7HC00E0200HM0623PB0A000000", key(512, 80), []Warning{{Kind: WarnStrength}}},
		{"key context", "D0000P0AE00E0020", key(128, 48), nil},
		{"unknown key context", "D0000P0AE00E0030", key(128, 48), []Warning{{Kind: WarnReserved}}},
		{"second reserved character", "D0000P0AE00E0001", key(128, 48), []Warning{{Kind: WarnReserved}}},
		{"KS for AES", "D0000B1AX00E0200KS18FFFF9876543210E00000PB080000", key(128, 48), []Warning{{WarnMisplaced, "KS"}}},
		{"lower case", "D0000B1AX00E0200IK14ffff987654321000PB0C00000000", key(128, 48), []Warning{{WarnSpelling, "IK"}}},
		{"both", "D0000B0AX00E0200KS14ffff987654321000PB0C00000000", key(128, 48), []Warning{{WarnSpelling, "KS"}, {WarnMisplaced, "KS"}}},
		{"length field of two digits", "D0000D0AB00E0100LB000210xxxxxxxx", key(128, 48), []Warning{{WarnLengthField, "LB"}}},
		{"long length for a short block", "D0000D0AB00E0100LB00040010xxxxxx", key(128, 48), []Warning{{WarnLengthField, "LB"}}},
		{"longest that has a short form", "D0000D0AB00E0200LB00040105" + strings.Repeat("x", 251) + "PB0B0000000", key(128, 48), []Warning{{WarnLengthField, "LB"}}},
		{"shortest that has none", "D0000D0AB00E0200LB00040106" + strings.Repeat("x", 252) + "PB0A000000", key(128, 48), nil},
		{"long one in three digits", "D0000D0AB00E0200LB0003106" + strings.Repeat("x", 253) + "PB0A000000", key(128, 48), []Warning{{WarnLengthField, "LB"}}},
		{"padding in front", "D0000D0AB00E0200PB0A000000LB06xx", key(128, 48), []Warning{{WarnPadding, "PB"}}},
		{"padding too long", "D0000D0AB00E0200LB06xxPB1A0000000000000000000000", key(128, 48), []Warning{{WarnPadding, "PB"}}},
		{"padding without need", "D0000D0AB00E0200LB10xxxxxxxxxxxxPB10000000000000", key(128, 48), []Warning{{WarnPadding, "PB"}}},
		{"padding alone", "D0000D0AB00E0100PB10000000000000", key(128, 48), []Warning{{WarnPadding, "PB"}}},
		{"single DES", "B0000P0TE00E0000", append([]byte{0, 64}, "12345678padding and more padding"[:30]...), []Warning{{Kind: WarnSingleDES}}},
		{"strength", "D0000P0AE00E0000", key(192, 48), []Warning{{Kind: WarnStrength}}},
		{"asymmetric", "D0000S0RS00E0000", append([]byte{1, 64, 0x30, 38, 2, 1, 0, 4, 33}, make([]byte, 33)...), nil},
		{"asymmetric without a structure", "D0000S0RS00E0000", key(8*40, 48), []Warning{{Kind: WarnStructure}}},
		{"KC", "D0000P0AE00E0200KC1001ABCDEF0123PB100000000000000"[:48], key(128, 48), []Warning{{WarnPadding, "PB"}, {WarnCheckValue, "KC"}}},
		{"KC of another method", "D0000P0AE00E0200KC0C00ABCDEFPB040"[:32], key(128, 48), []Warning{{WarnMisplaced, "KC"}}},
		{"KP", "D0000P0AE00E0100KP1001ABCDEF0123", key(128, 48), []Warning{{WarnCheckValue, "KP"}}},
		{"PK", "D0000P0AE00E0100PK1001ABCDEF0123", key(128, 48), nil},
	} {
		p := aes
		if forms[c.header[0]].block == 8 {
			p = tdes
		}
		block, _ := authenticated(t, p, c.header, c.content)
		got, err := p.Unwrap(block)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if w := got.Warnings(); !slices.Equal(w, c.want) {
			t.Errorf("%s: warnings %v, want %v", c.name, w, c.want)
		}
		h, err := Inspect(block)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if w := h.Warnings(); len(w) > len(c.want) || !slices.Equal(w, c.want[:len(w)]) {
			t.Errorf("%s: Inspect warns of %v", c.name, w)
		}
	}
}

// TestOptions writes key versions and key contexts.
func TestOptions(t *testing.T) {
	t.Parallel()
	p := testProtector(t, 16)
	k := generate(t, attributes(keys.AES128, keys.UsagePIN, keys.ModeEncrypt))
	for _, c := range []struct {
		version string
		context KeyContext
		want    string // header from the key version on; none for an error
	}{
		{"", 0, "00N0000"}, {"00", ContextAny, "00N0000"}, {"12", ContextStorage, "12N0010"}, {"A1", ContextExchange, "A1N0020"}, {"Z9", 0, "Z9N0000"},
		{"1", 0, ""}, {"123", 0, ""}, {"c1", 0, ""}, {"a1", 0, ""}, {"1 ", 0, ""}, {"1\x00", 0, ""}, {"", '3', ""}, {"", '/', ""}, {"", 1, ""},
	} {
		block, err := p.WrapWith(k, Options{KeyVersion: c.version, Context: c.context})
		if c.want == "" {
			if err == nil {
				t.Errorf("version %q, context %q were written", c.version, byte(c.context))
			}
			continue
		}
		if err != nil || block[9:16] != c.want {
			t.Errorf("version %q, context %q: %.16s, %v", c.version, byte(c.context), block, err)
			continue
		}
		got, err := p.Unwrap(block)
		if err != nil || got.Context() != KeyContext(c.want[5]) || got.KeyVersion != c.want[:2] {
			t.Errorf("%s: context %v, %v", block, got.Context(), err)
		}
	}
}

// TestCheckValuesOnWrite: KC and KP without data are filled in, right ones are written, wrong ones are not.
func TestCheckValuesOnWrite(t *testing.T) {
	t.Parallel()
	for _, p := range []*Protector{testProtector(t, 32), tdesProtector(t, 24)} {
		for _, a := range []keys.Algorithm{keys.TDES2, keys.AES128} {
			k := generate(t, attributes(a, keys.UsagePIN, keys.ModeEncrypt))
			given := []OptionalBlock{{ID: OptionalKC}, {ID: OptionalKP}}
			block, err := p.Wrap(k, given...)
			if p.tdes && a == keys.AES128 {
				if !errors.Is(err, ErrStrength) {
					t.Errorf("AES under TDES: %v", err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if given[0].Data != "" || given[1].Data != "" {
				t.Error("the optional blocks of the caller were written to")
			}
			got, err := p.Unwrap(block)
			if err != nil {
				t.Fatal(err)
			}
			kc, errKC := got.CheckValue(OptionalKC)
			kp, errKP := got.CheckValue(OptionalKP)
			if errKC != nil || errKP != nil || kc != k.KCV() || kp != p.kcv || len(got.Warnings()) > 0 {
				t.Errorf("%v: KC %v, %v, KP %v, %v, warnings %v", a, kc, errKC, kp, errKP, got.Warnings())
			}
			if _, err := p.Wrap(k, OptionalBlock{OptionalKC, checkValueData(k.KCV())}, OptionalBlock{OptionalKP, checkValueData(p.kcv)}); err != nil {
				t.Errorf("%v: right check values are refused: %v", a, err)
			}
			for _, ob := range []OptionalBlock{{OptionalKC, checkValueData(p.kcv)}, {OptionalKP, "00" + k.KCV().String()[:6]}} {
				if _, err := p.Wrap(k, ob); !errors.Is(err, ErrOptional) {
					t.Errorf("%v: %v of another key: %v", a, ob, err)
				}
			}
		}
	}
	hmac := generate(t, attributes(keys.HMAC128, keys.UsageHMAC, keys.ModeGenVerify))
	if _, err := testProtector(t, 16).Wrap(hmac, OptionalBlock{ID: OptionalKC}); !errors.Is(err, ErrOptional) {
		t.Errorf("KC of an HMAC key: %v", err)
	}
}

// TestFIPS: where Go's FIPS mode is enforced, TDES protection keys are refused without a panic, and AES goes on.
func TestFIPS(t *testing.T) {
	t.Parallel()
	k, err := keys.NewKey(attributes(keys.TDES2, keys.UsageKBPK, keys.ModeBoth), []byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewProtector(k); err != nil && !fips140.Enforced() {
		t.Fatal(err)
	}
	fipstest.Enforced(t, func(t *testing.T) {
		p, err := NewProtector(k)
		if !errors.Is(err, keys.ErrForbidden) || p != nil || !strings.Contains(err.Error(), "FIPS") {
			t.Errorf("a TDES key under enforcement: %v", err)
		}
		aes := testProtector(t, 16)
		block, err := aes.Wrap(generate(t, attributes(keys.AES128, keys.UsagePIN, keys.ModeEncrypt)), OptionalBlock{ID: OptionalKC})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := aes.Unwrap(block); err != nil {
			t.Error(err)
		}
		tdes, err := keys.NewKey(attributes(keys.TDES2, keys.UsagePIN, keys.ModeEncrypt), []byte("0123456789abcdef"))
		if err != nil {
			t.Fatal(err)
		}
		for _, data := range []string{"", "00123456"} {
			if _, err := aes.Wrap(tdes, OptionalBlock{ID: OptionalKC, Data: data}); !errors.Is(err, keys.ErrForbidden) {
				t.Errorf("check value %q that cannot be computed: %v", data, err)
			}
		}
		fipsUnwrap(t, aes, tdes)
		if _, err := (&Protector{kbpk: k.Material(), tdes: true, strength: 80}).Wrap(tdes); err == nil {
			t.Error("wrapped under TDES")
		}
	})
}

// fipsUnwrap opens blocks of a TDES key: without KC there is nothing against it, with any KC nobody knows whether it is right.
func fipsUnwrap(t *testing.T, p *Protector, k keys.Key) {
	plain, err := p.Wrap(k)
	if err != nil {
		t.Fatal(err)
	}
	content := append([]byte{0, 128}, k.Material().Expose()...)
	content = append(content, make([]byte, 14)...)
	h := Header{
		Version: 'D', Usage: "P0", Algorithm: 'T', Mode: keys.ModeEncrypt, KeyVersion: "00", Exportability: keys.Exportable,
		Reserved: "00", Optional: []OptionalBlock{{OptionalKC, "00123456"}},
	}
	text, err := h.format(len(content))
	if err != nil {
		t.Fatal(err)
	}
	checked, err := p.protect(text, content)
	if err != nil {
		t.Fatal(err)
	}
	for block, want := range map[string][]Warning{plain: nil, checked: {{WarnUnchecked, OptionalKC}}} {
		c, err := p.Unwrap(block)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Warnings(); !slices.Equal(got, want) {
			t.Errorf("warnings %v, want %v", got, want)
		}
		if !c.KCV().IsZero() {
			t.Error("there is a check value")
		}
		if _, err := p.Rewrap(c); errors.Is(err, keys.ErrForbidden) != (want != nil) {
			t.Errorf("rewrap: %v", err)
		}
	}
}

func TestStrengthOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		letter byte
		bits   int
		want   int // 0 for what is not wrapped
	}{
		{'T', 128, 80}, {'T', 192, 112}, {'T', 64, 0}, {'T', 256, 0}, {'A', 128, 128}, {'A', 256, 256}, {'A', 64, 0}, {'H', 128, 128},
		{'H', 80, 80}, {'H', 72, 0}, {'H', 160, 160}, {'H', 264, 256}, {'H', 512, 256}, {'R', 8, 256}, {'R', 0, 0}, {'E', 256, 256}, {'S', 160, 256}, {'D', 64, 0},
	} {
		if got, ok := strength(c.letter, c.bits); got != c.want || ok != (c.want > 0) {
			t.Errorf("%c of %d bits: %d, %t, want %d", c.letter, c.bits, got, ok, c.want)
		}
	}
}

// TestWorkingKeysAreWiped: a wiped cipher of TDES panics when it is used.
func TestWorkingKeysAreWiped(t *testing.T) {
	t.Parallel()
	for _, version := range []byte("ABC") {
		w, err := tdesProtector(t, 16).working(version)
		if err != nil {
			t.Fatal(err)
		}
		w.wipe()
		for name, use := range map[string]func(dst, src []byte){"encryption": w.enc.Encrypt, "authentication": w.auth.Encrypt} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("version %c: the %s key is there after a wipe", version, name)
					}
				}()
				use(make([]byte, 8), make([]byte, 8))
			}()
		}
	}
}
