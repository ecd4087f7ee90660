package keyblock

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/keys"
)

// FuzzUnwrap gives the reader blocks that verify, with any header and any clear content: past the MAC is where a parser can
// be wrong. Nothing but what fits is believed, what was read writes and reads back the same, and with one character changed
// every block is refused.
func FuzzUnwrap(f *testing.F) {
	p := testProtector(f, 32)
	key := append([]byte{0, 128}, bytes.Repeat([]byte{0x3c, 0x81}, 23)...)
	for _, header := range []string{
		"D0144B0AX00N0000", "D0176B1AX00E0200IK141234567890123456PB0C00000000", "D0144P0TE12E0000", "D0160M7HG00E0200HM0621PB0A000000",
		"D0144S0RS00N0000", "D0160D0AB00N0100LB000210xxxxxxxx", "D0144D0ABc1S0020", "A0144D0AB00N0000",
	} {
		f.Add(header, key, uint(100), byte('A'))
		f.Add(header, append([]byte{1, 0}, key...), uint(5), byte('K'))
	}
	f.Fuzz(func(t *testing.T, header string, content []byte, at uint, c byte) {
		if len(header) > 4000 || len(content) > 2000 {
			return
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
		checkHeader(t, block, got.Header)
		checkRewrap(t, p, got)
		i := at % uint(len(block))
		if changed := block[:i] + string([]byte{c}) + block[i+1:]; changed != block {
			if _, err := p.Unwrap(changed); err == nil {
				t.Fatalf("%q is accepted with character %d changed to %q", block, i, c)
			}
		}
		if lower := strings.ToLower(block[len(block)-macDigits:]); lower != block[len(block)-macDigits:] {
			if _, err := p.Unwrap(block[:len(block)-macDigits] + lower); err == nil {
				t.Fatalf("%q is accepted with its MAC in lower case", block)
			}
		}
	})
}

// checkHeader demands that a header reads back as itself, and that Inspect agrees.
func checkHeader(t *testing.T, block string, h Header) {
	t.Helper()
	inspected, err := Inspect(block)
	if err != nil || !reflect.DeepEqual(inspected, h) {
		t.Fatalf("%q: Inspect gives %v, %v; Unwrap %v", block, inspected, err, h)
	}
	text, err := h.format(minDigits)
	if err != nil {
		return // padded differently it no longer fits
	}
	back, end, err := parseHeader(text + strings.Repeat("0", minDigits+macDigits))
	if err != nil || end != len(text) || !reflect.DeepEqual(back, h) {
		t.Fatalf("%q was written as %q and read as %v, %v", block, text, back, err)
	}
}

// checkRewrap demands that a key that may be wrapped comes back the same, with its optional blocks.
func checkRewrap(t *testing.T, p *Protector, c Content) {
	t.Helper()
	k, err := c.Key()
	if err != nil {
		return
	}
	block, err := p.Wrap(k, c.Optional...)
	if err != nil {
		return // read leniently, written strictly
	}
	again, err := p.Unwrap(block)
	if err != nil {
		t.Fatalf("%v: a block of ours is refused: %v", c.Header, err)
	}
	back, err := again.Key()
	if err != nil || !back.Material().Equal(k.Material()) || back.Attributes() != k.Attributes() {
		t.Fatalf("%v came back as %v, %v", k, back, err)
	}
	want, err := checkOptional(k.Attributes(), c.Optional)
	if err != nil || !reflect.DeepEqual(again.Optional, want) {
		t.Fatalf("optional blocks %v came back as %v, %v", want, again.Optional, err)
	}
}

// FuzzForeign gives the reader any text at all. Nobody can make a block without the key: all but ours are refused.
func FuzzForeign(f *testing.F) {
	p := testProtector(f, 16)
	ours := make(map[string]bool)
	for _, optional := range [][]OptionalBlock{nil, {{OptionalIK, "1234567890123456"}}, {{OptionalLB, strings.Repeat("y", 260)}}} {
		// The fuzzer runs in several processes: padding is fixed here, so that all of them know the same blocks.
		h := Header{Version: 'D', Usage: "B1", Algorithm: 'A', Mode: keys.ModeDerive, KeyVersion: "00", Exportability: keys.NonExportable, Reserved: "00", Optional: optional}
		text, err := h.format(96)
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
	f.Add("D0112B0TN00N0000")
	f.Add("D0048P0AE00E0100KS0002001C")
	f.Add("B0080P0TE00E000094B420079CC80BA3461F86FE26EFC4A3B8E4FA4C5F5341176EED7B727B8A248E")
	f.Fuzz(func(t *testing.T, block string) {
		_, err := p.Unwrap(block)
		if (err == nil) != ours[block] {
			t.Fatalf("%q: %v, made here: %v", block, err, ours[block])
		}
		h, err := Inspect(block)
		if err != nil {
			return
		}
		text, err := h.format(minDigits)
		if err != nil {
			return
		}
		back, _, err := parseHeader(text + strings.Repeat("0", minDigits+macDigits))
		if err != nil || !reflect.DeepEqual(back, h) {
			t.Fatalf("%q was written as %q and read as %v, %v", block, text, back, err)
		}
	})
}
