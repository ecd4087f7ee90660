package keyblock

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/keys"
)

// FuzzUnwrap gives the reader blocks that verify, of all versions, with any header and any clear content: past the MAC is where
// a parser can be wrong. Nothing but what fits is believed, what was read writes and reads back the same, and with one
// character changed every block is refused.
func FuzzUnwrap(f *testing.F) {
	aes, tdes := testProtector(f, 32), tdesProtector(f, 24)
	key := append([]byte{0, 128}, bytes.Repeat([]byte{0x3c, 0x81}, 23)...)
	for _, header := range []string{
		"D0144B0AX00N0000", "D0176B1AX00E0200IK141234567890123456PB0C00000000", "D0144P0TE12E0000", "D0160M7HG00E0200HM0621PB0A000000",
		"D0144S0RS00N0000", "D0160D0AB00N0100LB000210xxxxxxxx", "D0144D0ABc1S0020", "A0144D0AB00N0000", "B0000B1TX00E0100KS18FFFF9876543210E00000",
		"B0000B0TX00S0200BI1000FFFF987654DA0B01B1TXN6PB05x", "C0000P0TE12E0200KS1400604B120F929280PB047A", "D0000B0AX00S0200BI0E0112345678PB12TxpLx0lxBjW7m5",
		"D0000P0AE12E0200TS182026-01-02T03:04:05ZPB08s5Tn", "D0000K1AB00E0200WP07000KP100123456789ABPB050",
	} {
		f.Add(header, key, uint(100), byte('A'))
		f.Add(header, append([]byte{1, 0}, key...), uint(5), byte('K'))
	}
	f.Fuzz(func(t *testing.T, header string, content []byte, at uint, c byte) {
		if len(header) > 4000 || len(content) > 2000 {
			return
		}
		p := aes
		if header != "" && forms[header[0]].block == 8 {
			p = tdes
		}
		block, filled := authenticated(t, p, header, content)
		got, err := p.Unwrap(block)
		if err != nil {
			if !errors.Is(err, ErrBlock) && !errors.Is(err, ErrVersion) || got.Material().Len() != 0 {
				t.Fatalf("%q: error %v with %d bytes", block, err, got.Material().Len())
			}
			return
		}
		size := int(binary.BigEndian.Uint16(filled)) / 8
		if size == 0 || size > len(filled)-2 || !bytes.Equal(got.Material().Expose(), filled[2:2+size]) {
			t.Fatalf("%q: %d bytes out of a content of %d", block, got.Material().Len(), len(filled))
		}
		checkHeader(t, block, len(filled), got.Header)
		checkRewrap(t, p, got)
		i := at % uint(len(block))
		if changed := block[:i] + string([]byte{c}) + block[i+1:]; changed != block {
			if _, err := p.Unwrap(changed); err == nil {
				t.Fatalf("%q is accepted with character %d changed to %q", block, i, c)
			}
		}
		macDigits := 2 * forms[got.Version].mac
		if lower := strings.ToLower(block[len(block)-macDigits:]); lower != block[len(block)-macDigits:] {
			if _, err := p.Unwrap(block[:len(block)-macDigits] + lower); err == nil {
				t.Fatalf("%q is accepted with its MAC in lower case", block)
			}
		}
	})
}

// written is what of a header is written again: the text's own spelling of lengths and padding is not.
func written(h Header) Header {
	h.loose = nil
	return h
}

// checkHeader demands that Inspect agrees with a header, that it reads back as itself, and that its text is the one text of it
// but for what a warning tells and the characters in PB.
func checkHeader(t *testing.T, block string, content int, h Header) {
	t.Helper()
	inspected, err := Inspect(block)
	if err != nil || !reflect.DeepEqual(inspected, h) {
		t.Fatalf("%q: Inspect gives %v, %v; Unwrap %v", block, inspected, err, h)
	}
	text, err := h.format(content)
	if err != nil {
		return // padded differently it no longer fits
	}
	whole := text + strings.Repeat("0", 2*content+2*forms[h.Version].mac)
	back, end, err := parseHeader(whole)
	if err != nil || end != len(text) || len(back.loose) > 0 || !reflect.DeepEqual(back, written(h)) {
		t.Fatalf("%q was written as %q and read as %v, %v", block, text, back, err)
	}
	if len(h.loose) > 0 {
		return
	}
	if len(whole) != len(block) || blankPadding(text) != blankPadding(block[:end]) {
		t.Fatalf("%q was written as %q without a warning", block[:end], text)
	}
}

// blankPadding is a header with zeros in PB, which stands last.
func blankPadding(header string) string {
	h, _, err := parseHeader(header[:1] + fmt.Sprintf("%04d", len(header)) + header[5:])
	if err != nil {
		return header
	}
	n := 0
	for _, ob := range h.Optional {
		var b strings.Builder
		_ = writeOptional(&b, ob) // it has just been read
		n += b.Len()
	}
	rest := header[headerSize+n:]
	return header[:headerSize+n] + rest[:min(4, len(rest))] + strings.Repeat("0", max(0, len(rest)-4))
}

// checkRewrap demands that a key that may be wrapped comes back the same, with its optional blocks.
func checkRewrap(t *testing.T, p *Protector, c Content) {
	t.Helper()
	block, err := p.Rewrap(c)
	if err == nil {
		checkSame(t, p, block, c)
	}
	k, err := c.Key()
	if err != nil {
		return
	}
	defer k.Wipe()
	block, err = p.WrapWith(k, Options{KeyVersion: c.KeyVersion, Context: c.Context(), Optional: c.Optional})
	if err != nil {
		return // read leniently, written strictly
	}
	back := checkSame(t, p, block, c)
	if back.Attributes() != k.Attributes() {
		t.Fatalf("%v came back as %v", k, back)
	}
}

// checkSame demands of a block of ours that it reads without a warning as the key and header of c.
func checkSame(t *testing.T, p *Protector, block string, c Content) keys.Key {
	t.Helper()
	again, err := p.Unwrap(block)
	if err != nil {
		t.Fatalf("%v: a block of ours is refused: %v", c.Header, err)
	}
	if w := again.Warnings(); len(w) > 0 && w[0].Kind != WarnStrength {
		t.Fatalf("%q: a block of ours has the warnings %v", block, w)
	}
	optional := slices.DeleteFunc(slices.Clone(again.Optional), func(ob OptionalBlock) bool {
		return ob.ID == OptionalKP || ob.ID == OptionalKC || ob.ID == OptionalHM
	})
	want := slices.DeleteFunc(slices.Clone(c.Optional), func(ob OptionalBlock) bool {
		return ob.ID == OptionalKP || ob.ID == OptionalKC || ob.ID == OptionalHM
	})
	if !again.Material().Equal(c.Material()) || !slices.Equal(optional, want) || again.Version != p.version() || block[5:12] != c.text() {
		t.Fatalf("%v came back as %v", c.Header, again.Header)
	}
	k, _ := again.Key() // not every content is a key
	return k
}

// FuzzForeign gives the reader any text at all. Nobody can make a block without the key: all but ours are refused.
func FuzzForeign(f *testing.F) {
	protectors := []*Protector{testProtector(f, 16), tdesProtector(f, 16)}
	ours := make(map[string]bool)
	for _, optional := range [][]OptionalBlock{nil, {{OptionalIK, "1234567890123456"}}, {{OptionalLB, strings.Repeat("y", 260)}}} {
		// The fuzzer runs in several processes: padding is fixed here, so that all of them know the same blocks.
		for _, p := range protectors {
			h := Header{
				Version: p.version(), Usage: "B1", Algorithm: 'A', Mode: keys.ModeDerive, KeyVersion: "00",
				Exportability: keys.NonExportable, Reserved: "00", Optional: optional,
			}
			text, err := h.format(48)
			if err != nil {
				f.Fatal(err)
			}
			block, err := p.protect(text, append([]byte{0, 128}, make([]byte, 46)...))
			if err != nil {
				f.Fatal(err)
			}
			ours[block] = true
			f.Add(block)
			f.Add(block[:100] + "0" + block[101:])
		}
	}
	f.Add("D0112B0TN00N0000")
	f.Add("D0048P0AE00E0100KS0002001C")
	f.Add("B0080P0TE00E000094B420079CC80BA3461F86FE26EFC4A3B8E4FA4C5F5341176EED7B727B8A248E")
	f.Add("A0072P0TE00E0000F5161ED902807AF26F1D62263644BD24192FDB3193C730301CEE8701")
	f.Add("C0096B0TX12S0100KS1800604B120F9292800000BFB9B689CB567E66FC3FEE5AD5F52161FC6545B9D60989015D02155C")
	f.Fuzz(func(t *testing.T, block string) {
		accepted := 0
		for _, p := range protectors {
			if _, err := p.Unwrap(block); err == nil {
				accepted++
			}
		}
		if (accepted == 1) != ours[block] || accepted > 1 {
			t.Fatalf("%q: accepted under %d keys, made here: %v", block, accepted, ours[block])
		}
		h, err := Inspect(block)
		if err != nil {
			return
		}
		text, err := h.format(forms[h.Version].block)
		if err != nil {
			return
		}
		back, _, err := parseHeader(text + strings.Repeat("0", 2*forms[h.Version].block+2*forms[h.Version].mac))
		if err != nil || !reflect.DeepEqual(back, written(h)) {
			t.Fatalf("%q was written as %q and read as %v, %v", block, text, back, err)
		}
	})
}

// FuzzOptional gives the rules any optional block. What has the form of the standard has a value that writes back as the same
// data, and what has not has none.
func FuzzOptional(f *testing.F) {
	for _, ob := range wellFormed {
		f.Add(ob.ID, ob.Data)
		f.Add(ob.ID, strings.ToLower(ob.Data))
	}
	f.Fuzz(func(t *testing.T, id, data string) {
		h := Header{
			Version: 'D', Usage: "B0", Algorithm: 'A', Mode: 'X', KeyVersion: "00", Exportability: 'E', Reserved: "00",
			Optional: []OptionalBlock{{id, data}},
		}
		r, known := rules[id]
		if !known {
			return
		}
		back, err := valueOf(h, id)
		if (err == nil) != r.form(data) {
			t.Fatalf("%s %q: form %t, value %q, %v", id, data, r.form(data), back, err)
		}
		if err == nil && back != data {
			t.Fatalf("%s %q comes back as %q", id, data, back)
		}
		if err != nil && !errors.Is(err, ErrOptional) {
			t.Fatalf("%s %q: %v", id, data, err)
		}
		for _, w := range h.Warnings() {
			if w.ID != id || err == nil && (w.Kind == WarnMalformed || w.Kind == WarnSpelling) {
				t.Fatalf("%s %q: warning %v", id, data, w)
			}
		}
	})
}

// valueOf reads an optional block by its typed method and writes the value again.
func valueOf(h Header, id string) (string, error) {
	switch id {
	case OptionalAL:
		ephemeral, err := h.IsEphemeral()
		return map[bool]string{true: "0100", false: "0101"}[ephemeral], err
	case OptionalBI:
		b, err := h.BaseKeyID()
		return map[bool]string{true: "01", false: "00"}[b.AES] + b.ID, err
	case OptionalCT:
		all, err := h.Certificates()
		return certificatesData(all, strings.HasPrefix(h.Optional[0].Data, "02")), err
	case OptionalDA:
		all, err := h.Derivations()
		out := "01"
		for _, d := range all {
			out += d.Usage + string([]byte{d.Algorithm, byte(d.Mode), byte(d.Exportability)})
		}
		return out, err
	case OptionalHM:
		hash, err := h.Hash()
		return string(hash), err
	case OptionalIK:
		b, err := h.InitialKeyID()
		return fmt.Sprintf("%X", b), err
	case OptionalKS:
		b, err := h.InitialKSN()
		return fmt.Sprintf("%X", b), err
	case OptionalKC, OptionalKP, OptionalPK:
		v, err := h.CheckValue(id)
		return checkValueData(v), err
	case OptionalLB:
		return h.Label()
	case OptionalTC, OptionalTS:
		at, err := h.Created()
		if id == OptionalTS {
			at, err = h.Stamped()
		}
		data := h.Optional[0].Data
		layout := map[int]string{15: "20060102150405Z", 20: "2006-01-02T15:04:05Z", 23: "2006-01-02T15:04:05.00Z"}[len(data)]
		if len(data) == 17 {
			return strings.Replace(at.Format("20060102150405.00Z"), ".", "", 1), err
		}
		return at.Format(layout), err
	case OptionalWP:
		p, err := h.Pedigree()
		return "00" + string(rune(p)), err
	}
	return "", errors.New("no value")
}

func certificatesData(all []Certificate, chain bool) string {
	out := ""
	if chain {
		out = "02"
	}
	for _, c := range all {
		text := base64.StdEncoding.EncodeToString(c.Raw)
		out += map[bool]string{true: "01", false: "00"}[c.EMV]
		if chain {
			out += fmt.Sprintf("%04X", len(text))
		}
		out += text
	}
	return out
}
