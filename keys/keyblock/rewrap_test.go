package keyblock

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/keys"
)

// TestRewrap moves keys between protection keys of both kinds, also keys that are none of ours.
func TestRewrap(t *testing.T) {
	t.Parallel()
	aes, weak, tdes := testProtector(t, 32), testProtector(t, 16), tdesProtector(t, 16)
	long := append([]byte{0, 128}, bytes.Repeat([]byte{0x3c, 0x81}, 23)...)
	two := append([]byte{0, 128}, "sixteen secrets!padding and padding"[:30]...)
	der := append([]byte{0, 8 * 8}, 0x30, 6, 2, 1, 35, 2, 1, 3)
	for _, c := range []struct {
		name, header string
		content      []byte
		to           *Protector
		want         string // begin of the new block
		err          error
	}{
		{"A to D", "A0000P0TE12E0000", two, aes, "D0112P0TE12E0000", nil},
		{"A to B", "A0000P0TE12S0000", two, tdes, "B0096P0TE12S0000", nil},
		{"C to D with KS", "C0000B1TX00E0100KS18FFFF9876543210E00000", two, aes, "D0144B1TX00E0200KS18FFFF9876543210E00000PB080000", nil},
		{"D to B", "D0000P0TE00E0000", two, tdes, "B0096P0TE00E0000", nil},
		{"context and unknown optional block", "D0000P0AE00E0220ZZ08a~ bPB080000", long, weak, "D0160P0AE00E0220ZZ08a~ bPB080000", nil},
		{"usage that is none of ours", "D0000C0TC00E0000", two, weak, "D0112C0TC00E0000", nil},
		{"component", "D0000P0AEc1E0000", long, weak, "D0144P0AEc1E0000", nil},
		{"HMAC with another hash", "D0000M7HC00E0200HM0623PB0A000000", long, weak, "D0160M7HC00E0200HM0623PB0A000000", nil},
		{"RSA", "D0000S0RS00E0200AL080100PB080000", der, aes, "D0096S0RS00E0200AL080100PB080000", nil},
		{"RSA under AES-128", "D0000S0RS00E0000", der, weak, "", ErrStrength},
		{"RSA without a structure", "D0000S0RS00E0000", long, aes, "", ErrKey},
		{"no RSA key", "D0000S0RS00E0000", []byte{0, 8, 0x30}, aes, "", ErrKey},
		{"AES under TDES", "D0000P0AE00E0000", long, tdes, "", ErrStrength},
		{"AES-192 under AES-128", "D0000P0AE00E0000", append([]byte{0, 192}, long[2:]...), weak, "", ErrStrength},
		{"not exportable", "D0000P0AE00N0000", long, weak, "", ErrUse},
		{"exportability unknown", "D0000P0AE00e0000", long, weak, "", ErrUse},
		{"KS for AES", "D0000B1AX00E0200KS18FFFF9876543210E00000PB080000", long, weak, "", ErrOptional},
		{"KS of 16 digits", "A0000B1TX00E0200KS1400604B120F929280PB04", two, tdes, "", ErrOptional},
		{"padding and lengths put right", "D0000D0AB00E0200PB0A000000LB06xx", long, weak, "D0160D0AB00E0200LB06xxPB0A000000", nil},
	} {
		from := aes
		if forms[c.header[0]].block == 8 {
			from = tdes
		}
		block, _ := authenticated(t, from, c.header, c.content)
		content, err := from.Unwrap(block)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		before := slices.Clone(content.Optional)
		out, err := c.to.Rewrap(content)
		if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.err)
		}
		if !slices.Equal(content.Optional, before) {
			t.Errorf("%s: the content was written to", c.name)
		}
		if err != nil || c.err != nil {
			continue
		}
		if c.name == "RSA" { // no longest key: as many blocks as it takes
			if !strings.HasPrefix(out[5:], c.want[5:]) {
				t.Errorf("%s: %.60s, want %s", c.name, out, c.want)
			}
		} else if !strings.HasPrefix(out, c.want) {
			t.Errorf("%s: %.60s, want %s", c.name, out, c.want)
		}
		back, err := c.to.Unwrap(out)
		if err != nil || !back.Material().Equal(content.Material()) || len(back.Warnings()) > 0 {
			t.Errorf("%s came back as %v with warnings %v: %v", c.name, back.Header, back.Warnings(), err)
		}
	}
}

// TestRewrapRefuses has what is no matter of a good content.
func TestRewrapRefuses(t *testing.T) {
	t.Parallel()
	p := testProtector(t, 16)
	long := append([]byte{0, 128}, bytes.Repeat([]byte{0x3c, 0x81}, 23)...)
	for _, header := range []string{"D0000P0AE00E0030", "D0000P0AE00E0000"} {
		block, _ := authenticated(t, p, header, long)
		c, err := p.Unwrap(block)
		if err != nil {
			t.Fatal(err)
		}
		c.Wipe()
		if _, err := p.Rewrap(c); !errors.Is(err, ErrKey) {
			t.Errorf("%s: a wiped content is written: %v", header, err)
		}
	}
	if _, err := p.Rewrap(Content{}); !errors.Is(err, ErrKey) {
		t.Errorf("no content is written: %v", err)
	}
	single, _ := authenticated(t, tdesProtector(t, 16), "B0000P0TE00E0000", append([]byte{0, 64}, "12345678padding and more padding"[:30]...))
	c, err := tdesProtector(t, 16).Unwrap(single)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Rewrap(c); !errors.Is(err, ErrKey) {
		t.Errorf("single DES is written: %v", err)
	}
	unknown, _ := authenticated(t, p, "D0000P0DE00E0000", long)
	if c, err = p.Unwrap(unknown); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Rewrap(c); !errors.Is(err, ErrKey) {
		t.Errorf("a key of an unknown algorithm is written: %v", err)
	}
}

// TestRewrapCheckValue: KP becomes the check value of the new protection key, KC stays.
func TestRewrapCheckValue(t *testing.T) {
	t.Parallel()
	from, to := tdesProtector(t, 16), testProtector(t, 16)
	a := attributes(keys.TDES2, keys.UsagePIN, keys.ModeEncrypt)
	a.Exportability = keys.Exportable
	k := generate(t, a)
	block, err := from.Wrap(k, OptionalBlock{ID: OptionalKC}, OptionalBlock{ID: OptionalKP}, OptionalBlock{OptionalPK, "00ABCDEF"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := from.Unwrap(block)
	if err != nil {
		t.Fatal(err)
	}
	if block, err = to.Rewrap(c); err != nil {
		t.Fatal(err)
	}
	if c, err = to.Unwrap(block); err != nil {
		t.Fatal(err)
	}
	want := []OptionalBlock{{OptionalKC, "00" + k.KCV().String()}, {OptionalKP, "01" + to.kcv.String()}, {OptionalPK, "00ABCDEF"}}
	if !slices.Equal(c.Optional, want) || len(c.Warnings()) > 0 {
		t.Errorf("got %v with %v, want %v", c.Optional, c.Warnings(), want)
	}
}

// TestFormatLimits: 9999 characters and 99 optional blocks are the most.
func TestFormatLimits(t *testing.T) {
	t.Parallel()
	p := testProtector(t, 16)
	k := generate(t, attributes(keys.AES128, keys.UsagePIN, keys.ModeEncrypt))
	// A block of 16, the label, 96 of content and 32: 9984 is the last multiple of 16 that fits.
	for n, ok := range map[int]bool{9984 - 144 - 10: true, 9984 - 144 - 9: false} {
		block, err := p.Wrap(k, OptionalBlock{OptionalLB, strings.Repeat("x", n)})
		if (err == nil) != ok || ok && len(block) != 9984 {
			t.Errorf("label of %d: %d characters, %v", n, len(block), err)
		}
	}
	var all []OptionalBlock
	for i := range 99 {
		all = append(all, OptionalBlock{ID: string([]byte{byte('A' + i/10), byte('0' + i%10)}), Data: strings.Repeat("x", 12)})
	}
	block, err := p.Wrap(k, all...)
	if err != nil {
		t.Fatalf("99 optional blocks: %v", err)
	}
	c, err := p.Unwrap(block)
	if err != nil || !slices.Equal(c.Optional, all) {
		t.Errorf("99 optional blocks came back as %d, %v", len(c.Optional), err)
	}
	all[98].Data += "x" // PB is the hundredth
	if _, err := p.Wrap(k, all...); err == nil {
		t.Error("100 optional blocks are written")
	}
	if _, err := (Header{Version: 'Z'}).format(16); !errors.Is(err, ErrVersion) {
		t.Errorf("version Z is written: %v", err)
	}
}
