package keyblock

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/keys"
)

// aesContent is an AES-128 key with the padding that hides its length.
func aesContent() []byte { return append([]byte{0, 128}, bytes.Repeat([]byte{0x3c, 0x81}, 23)...) }

// opened unwraps a block with the given header and content that verifies under an AES-256 key.
func opened(t *testing.T, header string, content []byte) Content {
	t.Helper()
	p := testProtector(t, 32)
	block, _ := authenticated(t, p, header, content)
	c, err := p.Unwrap(block)
	if err != nil {
		t.Fatalf("%s: %v", header, err)
	}
	return c
}

// TestStrict reads blocks whose header the standard does not know with a warning, and writes none of them.
func TestStrict(t *testing.T) {
	t.Parallel()
	p := testProtector(t, 32)
	for _, c := range []struct {
		fields string // usage to reserved characters without the number of optional blocks
		kinds  []WarningKind
	}{
		{"P0AE00E00", nil}, {"P0AN00S20", nil}, {"C0TG12E10", nil}, {"10AX00E00", nil}, {"ZZAY00E00", nil}, {"99AT00E00", nil}, {"AZAS00E00", nil},
		{"P0AEA1E00", nil}, {"P0AE0ZE00", nil}, {"P0AEC1E00", nil}, {"P0AEc0E00", nil}, {"P0AEc9E00", nil}, {"P0AEcZE00", nil}, {"P0AEccE00", kinds(WarnKeyVersion)},
		{"~~AE00E00", kinds(WarnUsage)}, {"  AE00E00", kinds(WarnUsage)}, {"p0AE00E00", kinds(WarnUsage)}, {"P/AE00E00", kinds(WarnUsage)},
		{"P:AE00E00", kinds(WarnUsage)}, {"@0AE00E00", kinds(WarnUsage)}, {"[0AE00E00", kinds(WarnUsage)}, {"0pAE00E00", kinds(WarnUsage)},
		{"C0ZE00E00", kinds(WarnAlgorithm)}, {"P0ZE00E00", kinds(WarnAlgorithm)}, {"P0aE00E00", kinds(WarnAlgorithm)}, {"P0 E00E00", kinds(WarnAlgorithm)},
		{"P0A?00E00", kinds(WarnMode)}, {"P0AZ00E00", kinds(WarnMode)}, {"C0Ae00E00", kinds(WarnMode)}, {"C0A 00E00", kinds(WarnMode)},
		{"P0AE!!E00", kinds(WarnKeyVersion)}, {"P0AE  E00", kinds(WarnKeyVersion)}, {"P0AEc E00", kinds(WarnKeyVersion)}, {"P0AEc/E00", kinds(WarnKeyVersion)},
		{"P0AEa1E00", kinds(WarnKeyVersion)}, {"P0AE1cE00", kinds(WarnKeyVersion)}, {"P0AE0~E00", kinds(WarnKeyVersion)},
		{"P0AE00?00", kinds(WarnExportability)}, {"P0AE00e00", kinds(WarnExportability)}, {"P0AE00X00", kinds(WarnExportability)},
		{"P0AE00E30", kinds(WarnReserved)}, {"P0AE00E/0", kinds(WarnReserved)}, {"P0AE00E01", kinds(WarnReserved)}, {"P0AE00E  ", kinds(WarnReserved)},
		{"M3AC00E00", kinds(WarnMismatch)}, {"B0AE00E00", kinds(WarnMismatch)}, {"P0AX00E00", kinds(WarnMismatch)}, {"M7AC00E00", kinds(WarnMismatch)},
		{"P0RE00E00", kinds(WarnMismatch, WarnStructure)}, {"P0DE00E00", kinds(WarnMismatch)}, {"M3AC00E01", kinds(WarnReserved, WarnMismatch)},
		{"~~Z?!!?  ", kinds(WarnUsage, WarnAlgorithm, WarnMode, WarnKeyVersion, WarnExportability, WarnReserved)},
	} {
		content := opened(t, "D0000"+c.fields[:7]+"00"+c.fields[7:], aesContent())
		var want []Warning
		for _, k := range c.kinds {
			want = append(want, Warning{Kind: k})
		}
		if got := content.Warnings(); !slices.Equal(got, want) {
			t.Errorf("%q is read with %v, want %v", c.fields, got, want)
		}
		block, err := p.Rewrap(content)
		switch {
		case len(want) == 0:
			if err != nil || block[5:12] != c.fields[:7] || block[14:16] != c.fields[7:] {
				t.Errorf("%q is written as %.16s, %v", c.fields, block, err)
			}
		case strings.IndexByte("ES", c.fields[6]) < 0:
			if !errors.Is(err, ErrUse) {
				t.Errorf("%q: %v, want %v", c.fields, err, ErrUse)
			}
		case strings.IndexByte("TAHRES", c.fields[2]) < 0:
			if !errors.Is(err, ErrKey) {
				t.Errorf("%q: %v, want %v", c.fields, err, ErrKey)
			}
		case !errors.Is(err, ErrHeader):
			t.Errorf("%q is written as %.16q: %v", c.fields, block, err)
		}
	}
}

func kinds(all ...WarningKind) []WarningKind { return all }

// TestStrictHeader asks the writer itself what no key or content gets to.
func TestStrictHeader(t *testing.T) {
	t.Parallel()
	good := Header{Version: 'D', Usage: "P0", Algorithm: 'A', Mode: 'E', KeyVersion: "00", Exportability: 'E', Reserved: "00"}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Header){
		"usage of one":         func(h *Header) { h.Usage = "P" },
		"no usage":             func(h *Header) { h.Usage = "" },
		"usage of six":         func(h *Header) { h.Usage = "B0XXXX" },
		"no algorithm":         func(h *Header) { h.Algorithm = 0 },
		"mode that ends lines": func(h *Header) { h.Mode = '\n' },
		"no key version":       func(h *Header) { h.KeyVersion = "" },
		"key version of three": func(h *Header) { h.KeyVersion = "000" },
		"component of none":    func(h *Header) { h.KeyVersion = "c" },
		"component of three":   func(h *Header) { h.KeyVersion = "c00" },
		"exportability":        func(h *Header) { h.Exportability = 'e' },
		"no exportability":     func(h *Header) { h.Exportability = 0 },
		"reserved of one":      func(h *Header) { h.Reserved = "0" },
		"reserved of three":    func(h *Header) { h.Reserved = "000" },
	} {
		h := good
		change(&h)
		if err := h.check(); !errors.Is(err, ErrHeader) {
			t.Errorf("%s: %v", name, err)
		}
	}
	h := good
	h.Mode = '?'
	const want = `keyblock: header "P0A?00E": the mode of use is unknown`
	if err := h.check(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestIdentifiers: what is not two of 0-9, A-Z is read with a warning and not written.
func TestIdentifiers(t *testing.T) {
	t.Parallel()
	p := testProtector(t, 32)
	k := generate(t, attributes(keys.AES128, keys.UsageData, keys.ModeBoth))
	for id, ok := range map[string]bool{
		"ZZ": true, "10": true, "A0": true, "09": true, "9Z": true, "a ": false, "  ": false, "lb": false, "aZ": false, "Za": false, "~~": false, "/0": false, "0:": false, "@A": false, "A[": false,
	} {
		ob := OptionalBlock{id, "0123456789ab"}
		if _, err := p.Wrap(k, ob); (err == nil) != ok || err != nil && !errors.Is(err, ErrOptional) {
			t.Errorf("%q is written: %v", id, err)
		}
		c := opened(t, "D0000D0AB00E0100"+id+"10"+ob.Data, aesContent())
		var want []Warning
		if !ok {
			want = []Warning{{WarnIdentifier, id}}
		}
		if got := c.Warnings(); !slices.Equal(got, want) || !slices.Equal(c.Optional, []OptionalBlock{ob}) {
			t.Errorf("%q is read as %v with %v", id, c.Optional, got)
		}
		if _, err := p.Rewrap(c); (err == nil) != ok || err != nil && !errors.Is(err, ErrOptional) {
			t.Errorf("%q is written again: %v", id, err)
		}
		if _, err := p.RewrapWith(c, RewrapOptions{Drop: []string{id}}); err != nil {
			t.Errorf("%q is not left out: %v", id, err)
		}
	}
}

// TestAuthenticHeader: what a caller writes into the header of a content is for the caller alone.
func TestAuthenticHeader(t *testing.T) {
	t.Parallel()
	p := testProtector(t, 32)
	for _, e := range []byte("NE") {
		c := opened(t, "D0000B1AX00"+string(e)+"0200IK141234567890123456PB0C00000000", aesContent())
		kcv := c.KCV()
		c.Usage, c.Algorithm, c.Mode, c.KeyVersion = "B0XXXX", 'T', '\n', "c1"
		c.Exportability, c.Reserved, c.Version, c.Optional[0].Data = keys.Exportable, "99", 'A', "FFFFFFFFFFFFFFFF"
		block, err := p.Rewrap(c)
		if e == 'N' {
			if !errors.Is(err, ErrUse) {
				t.Errorf("a key that is not exportable is written: %v", err)
			}
		} else if err != nil || !strings.HasPrefix(block[5:], "B1AX00E0200IK141234567890123456PB0C") {
			t.Errorf("written as %.40q, %v", block, err)
		}
		k, err := c.Key()
		want := keys.Attributes{Algorithm: keys.AES128, Usage: keys.UsageInitialKey, Mode: keys.ModeDerive, Exportability: keys.Exportability(e)}
		if err != nil || k.Attributes() != want {
			t.Errorf("the key is %v, %v, want %v", k, err, want)
		}
		if c.KCV() != kcv || len(c.Warnings()) > 0 {
			t.Errorf("check value %v with %v, want %v", c.KCV(), c.Warnings(), kcv)
		}
		c.Header = Header{}
		if _, err := p.Rewrap(c); errors.Is(err, ErrUse) != (e == 'N') {
			t.Errorf("without a header: %v", err)
		}
	}
}

// TestHashIsSaid: an HMAC key without HM is read with a warning, is no key, and is written only for a hash that the caller names.
func TestHashIsSaid(t *testing.T) {
	t.Parallel()
	p := testProtector(t, 32)
	c := opened(t, "D0000M7HC00E0000", aesContent())
	if got, want := c.Warnings(), []Warning{{WarnMissing, OptionalHM}}; !slices.Equal(got, want) {
		t.Errorf("read with %v, want %v", got, want)
	}
	if k, err := c.Key(); !errors.Is(err, ErrAbsent) || !k.IsZero() {
		t.Errorf("the key is %v, %v", k, err)
	}
	if _, err := p.Rewrap(c); !errors.Is(err, ErrOptional) {
		t.Errorf("written as it stands: %v", err)
	}
	block, err := p.RewrapWith(c, RewrapOptions{Hash: HashSHA256})
	if err != nil || !strings.HasPrefix(block, "D0160M7HC00E0200HM0621PB0A") {
		t.Fatalf("written as %.40s, %v", block, err)
	}
	said, err := p.Unwrap(block)
	if err != nil || len(said.Warnings()) > 0 {
		t.Fatalf("read with %v, %v", said.Warnings(), err)
	}
	if k, err := said.Key(); err != nil || !k.Material().Equal(c.Material()) {
		t.Errorf("the key is %v, %v", k, err)
	}
	// What is said is not said otherwise, nor of another key.
	for name, o := range map[string]RewrapOptions{
		"twice": {Hash: "23"}, "the same twice": {Hash: HashSHA256}, "left out": {Drop: []string{OptionalHM}}, "changed": {Drop: []string{OptionalHM}, Hash: "23"},
	} {
		if _, err := p.RewrapWith(said, o); !errors.Is(err, ErrOptional) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := p.RewrapWith(c, RewrapOptions{Hash: "SHA-256"}); !errors.Is(err, ErrOptional) {
		t.Errorf("a hash of seven characters: %v", err)
	}
	if _, err := p.RewrapWith(opened(t, "D0000P0AE00E0000", aesContent()), RewrapOptions{Hash: HashSHA256}); !errors.Is(err, ErrOptional) {
		t.Errorf("the hash of an AES key: %v", err)
	}
}

// TestDrop leaves optional blocks out, and no others.
func TestDrop(t *testing.T) {
	t.Parallel()
	p := testProtector(t, 32)
	c := opened(t, "D0000P0AE00E0400LB06xxHM0621ZZ06yyPB0E0000000000", aesContent())
	for _, v := range []struct {
		drop []string
		want []OptionalBlock
		err  error
	}{
		{nil, nil, ErrOptional}, // HM of an AES key
		{[]string{"HM"}, []OptionalBlock{{"LB", "xx"}, {"ZZ", "yy"}}, nil},
		{[]string{"ZZ", "HM"}, []OptionalBlock{{"LB", "xx"}}, nil},
		{[]string{"LB", "HM", "ZZ"}, nil, nil},
		{[]string{"HM", "HM"}, nil, ErrAbsent}, {[]string{"HM", "KS"}, nil, ErrAbsent}, {[]string{"HM", "PB"}, nil, ErrAbsent}, {[]string{""}, nil, ErrAbsent},
	} {
		block, err := p.RewrapWith(c, RewrapOptions{Drop: v.drop})
		if !errors.Is(err, v.err) || (err == nil) != (v.err == nil) {
			t.Errorf("without %v: %v, want %v", v.drop, err, v.err)
		}
		if err != nil {
			continue
		}
		h, err := Inspect(block)
		if err != nil || !slices.Equal(h.Optional, v.want) {
			t.Errorf("without %v: %v, %v, want %v", v.drop, h.Optional, err, v.want)
		}
		if len(c.Optional) != 3 || len(c.authentic.Optional) != 3 || c.authentic.Optional[1].ID != OptionalHM {
			t.Fatalf("without %v: the content was written to: %v", v.drop, c.authentic.Optional)
		}
	}
}

func TestStructure(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		der  string
		want bool
	}{
		"two integers": {"\x30\x06\x02\x01\x23\x02\x01\x03", true}, "sequence and bit string": {"\x30\x06\x30\x00\x03\x02\x00\x05", true},
		"long form": {"\x30\x81\x86\x02\x01\x00\x04\x81\x80" + strings.Repeat("x", 128), true},
		"nothing":   {"", false}, "a byte": {"\x30", false}, "empty": {"\x30\x00", false}, "one element": {"\x30\x03\x02\x01\x01", false},
		"behind": {"\x30\x06\x02\x01\x23\x02\x01\x03\x00", false}, "cut": {"\x30\x06\x02\x01\x23\x02\x01", false},
		"element cut": {"\x30\x06\x02\x01\x23\x02\x02\x03", false}, "no sequence": {"\x31\x06\x02\x01\x23\x02\x01\x03", false},
		"primitive": {"\x10\x06\x02\x01\x23\x02\x01\x03", false}, "another class": {"\xb0\x06\x02\x01\x23\x02\x01\x03", false},
		"length not the shortest": {"\x30\x81\x06\x02\x01\x23\x02\x01\x03", false}, "length not definite": {"\x30\x80\x02\x01\x23\x02\x01\x03\x00\x00", false},
		"characters": {"<<<<<<<<<<<<<<<<", false},
	} {
		if got := isStructure([]byte(c.der)); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
