package keyblock

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/keys"
)

// TestHeaders reads authentic blocks with odd headers.
func TestHeaders(t *testing.T) {
	t.Parallel()
	p := testProtector(t, 32)
	content := append([]byte{0, 128}, bytes.Repeat([]byte{0x3c, 0x81}, 23)...)
	for _, c := range []struct {
		name, header string
		read         bool
		isKey        bool
	}{
		{"plain", "D0000D0AB00N0000", true, true},
		{"key context", "D0000D0AB00N0010", true, true},
		{"optional block and padding", "D0000D0AB00N0200LB06xxPB0A000000", true, true},
		{"padding first", "D0000D0AB00N0200PB0A000000LB06xx", true, true},
		{"extended length in two digits", "D0000D0AB00N0100LB000210xxxxxxxx", true, true},
		{"extended length in four digits", "D0000D0AB00N0100LB00040010xxxxxx", true, true},
		{"extended length in bytes, as one peer reads it", "D0000D0AB00N0100LB000200000010xx", false, false},
		{"extended length shorter than itself", "D0000D0AB00N0100LB00040009xxxxxx", false, false},
		{"extended length beyond the end", "D0000D0AB00N0100LB0004FFFFxxxxxx", false, false},
		{"extended length of no digits", "D0000D0AB00N0100LB0000xxxxxxxxxx", false, false},
		{"lower-case length", "D0000D0AB00N0100LB0axxxxxxPB0600", false, false},
		{"length below 4", "D0000D0AB00N0100LB03000000000000", false, false},
		{"header not a multiple of 16", "D0000D0AB00N0100LB06xx", false, false},
		{"more optional blocks declared", "D0000D0AB00N0300LB06xxPB0A000000", false, false},
		{"fewer optional blocks declared", "D0000D0AB00N0100LB06xxPB0A000000", false, false},
		{"count not decimal", "D0000D0AB00N0A00", false, false},
		{"count with a sign", "D0000D0AB00N+100LB10xxxxxxxxxxxx", false, false},
		{"component", "D0000D0ABc1N0000", true, false},
		{"usage unknown here", "D0000C0AB00N0000", true, false},
		{"mode that does not go with the usage", "D0000D0AX00N0000", true, false},
		{"exportability unknown", "D0000D0AB00Z0000", true, false},
		{"HMAC of SHA-256", "D0000M7HC00N0200HM0621PB0A000000", true, true},
		{"HMAC of SHA-512", "D0000M7HC00N0200HM0623PB0A000000", true, false},
		{"private key", "D0000S0RS00N0000", true, false},
		{"version Z", "Z0000D0AB00N0000", false, false},
		{"version A", "A0000D0AB00N0000", false, false},
		{"control character", "D0000D0AB00N0200LB06x\x00PB0A000000", false, false},
	} {
		block, _ := authenticated(t, p, c.header, content)
		got, err := p.Unwrap(block)
		if (err == nil) != c.read || err != nil && !errors.Is(err, ErrBlock) && !errors.Is(err, ErrVersion) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if err != nil {
			continue
		}
		if k, err := got.Key(); (err == nil) != c.isKey || k.IsZero() == c.isKey {
			t.Errorf("%s: Key gives %v, %v", c.name, k, err)
		}
		h, err := Inspect(block)
		if err != nil || !reflect.DeepEqual(h, got.Header) {
			t.Errorf("%s: Inspect gives %v, %v; Unwrap %v", c.name, h, err, got.Header)
		}
	}
}

// TestOptionalLengths writes and reads optional blocks of every length around the edges: of the padding, and of the short form.
func TestOptionalLengths(t *testing.T) {
	t.Parallel()
	p := testProtector(t, 32)
	k, err := keys.GenerateKey(attributes(keys.AES128, keys.UsageData, keys.ModeBoth))
	if err != nil {
		t.Fatal(err)
	}
	for n := range 600 {
		if n > 40 && n < 240 || n > 270 && n < 580 {
			continue
		}
		want := []OptionalBlock{{OptionalLB, strings.Repeat("x", n)}}
		block, err := p.Wrap(k, want...)
		if err != nil {
			t.Fatalf("%d characters: %v", n, err)
		}
		begin := fmt.Sprintf("LB%02Xx", n+4)
		if n+4 > 255 {
			begin = fmt.Sprintf("LB0004%04Xx", n+10)
		}
		if !strings.HasPrefix(block[headerSize:], begin[:len(begin)-1]) {
			t.Errorf("%d characters: header goes on with %s, want %s", n, block[headerSize:headerSize+10], begin)
		}
		content, err := p.Unwrap(block)
		if err != nil || !reflect.DeepEqual(content.Optional, want) {
			t.Errorf("%d characters came back as %v, %v", n, content.Optional, err)
		}
	}
}

func TestInspectRefuses(t *testing.T) {
	t.Parallel()
	const good = "D0112P0AE00E0000B82679114F470F540165EDFBF7E250FCEA43F810D215F8D207E2E417C07156A27E8E31DA05F7425509593D03A457DC34"
	if _, err := Inspect(good); err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]string{
		"empty": "", "one short": good[:15], "declared too short": "D0111" + good[5:], "declared too long": "D0113" + good[5:],
		"length with a sign": "D+112" + good[5:], "length with a space": "D 112" + good[5:], "length in hexadecimal": "D0070" + good[5:],
		"length not decimal": "D01A2" + good[5:], "version": "X" + good[1:], "control character": good[:20] + "\n" + good[21:],
		"not ASCII": good[:20] + "é" + good[22:], "NUL": good[:9] + "\x00" + good[10:], "count": good[:12] + "0x" + good[14:],
	} {
		if h, err := Inspect(block); err == nil || !reflect.DeepEqual(h, Header{}) {
			t.Errorf("%s: %v, %v", name, h, err)
		}
	}
}

// TestInspectSays: the error tells a person what is wrong, and where.
func TestInspectSays(t *testing.T) {
	t.Parallel()
	for block, want := range map[string]string{
		"D0112":                            "keyblock: 5 characters: a header has 16",
		"D0016P0AE00E\x0000":               "keyblock: 15 characters: a header has 16",
		"D0016P0AE00E\x00000":              "keyblock: character 12 is not printable ASCII",
		"\x000016P0AE00E0000":              "keyblock: character 0 is not printable ASCII",
		"E0016P0AE00E0000":                 `keyblock: unknown version 'E'`,
		"D0017P0AE00E0000":                 `keyblock: length field "0017" for 16 characters`,
		"D0016P0AE00E0x00":                 `keyblock: number of optional blocks "0x"`,
		"D0016P0AE00E0100":                 "keyblock: optional block at 16: is missing",
		"D0020P0AE00E0100LB0x":             "keyblock: optional block at 16: length is not hexadecimal",
		"D0021P0AE00E0100LB000":            "keyblock: optional block at 16: extended length is missing",
		"D0022P0AE00E0100LB0005":           "keyblock: optional block at 16: length of the length",
		"D0024P0AE00E0100LB000202":         "keyblock: optional block at 16: length 2",
		"D0024P0AE00E0100LB00020x":         "keyblock: optional block at 16: extended length is not hexadecimal",
		"D0024P0AE00E0100LB09xxxx":         "keyblock: optional block at 16: length 9",
		"D0032P0AE00E0200LB08xxxxLB08yyyy": `keyblock: optional block "LB" comes twice`,
	} {
		h, end, err := parseHeader(block)
		if err == nil || err.Error() != want || end != 0 || !reflect.DeepEqual(h, Header{}) {
			t.Errorf("%q: %v, want %s", block, err, want)
		}
	}
}

// TestShortest reads contents of one block, and an extended length of one digit.
func TestShortest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		header   string
		content  []byte
		warnings []Warning
	}{
		{"D0000S0RS00N0000", []byte{0, 8, 0x5a}, []Warning{{Kind: WarnStructure}}},
		{"D0000S0RS00N0000", append([]byte{0, 8 * 14}, "fourteen bytes"...), []Warning{{Kind: WarnStructure}}},
		{"B0000S0RS00N0000", append([]byte{0, 8 * 6}, 0x30, 4, 5, 0, 5, 0), nil},
		{"A0000S0RS00N0000", append([]byte{0, 8 * 6}, "6bytes"...), []Warning{{Kind: WarnVersion}, {Kind: WarnStructure}}},
		{"D0000S0RS00N0200LB0001CxxxxxPB04", append([]byte{0, 8 * 6}, 0x30, 4, 5, 0, 5, 0), []Warning{{WarnLengthField, "LB"}}},
		{"D0000S0RS00N0200LB00020CxxxxPB04", append([]byte{0, 8 * 6}, 0x30, 4, 5, 0, 5, 0), []Warning{{WarnLengthField, "LB"}}},
	} {
		p := testProtector(t, 16)
		if forms[c.header[0]].block == 8 {
			p = tdesProtector(t, 16)
		}
		block, filled := authenticated(t, p, c.header, c.content)
		if len(filled) != forms[c.header[0]].block {
			t.Fatalf("%s: content of %d bytes", c.header, len(filled))
		}
		got, err := p.Unwrap(block)
		if err != nil || !bytes.Equal(got.Material().Expose(), c.content[2:]) || !reflect.DeepEqual(got.Warnings(), c.warnings) {
			t.Errorf("%s: %x with %v, %v", c.header, got.Material().Expose(), got.Warnings(), err)
		}
	}
}

func TestContentSize(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		letter            byte
		size, block, want int
	}{
		{'T', 8, 8, 32}, {'T', 24, 8, 32}, {'T', 16, 16, 32}, {'A', 16, 16, 48}, {'A', 32, 16, 48}, {'A', 16, 8, 40}, {'H', 10, 16, 48}, {'H', 46, 16, 48}, {'H', 47, 16, 64},
		{'R', 1, 16, 16}, {'R', 14, 16, 16}, {'R', 15, 16, 32}, {'R', 30, 16, 32}, {'R', 31, 16, 48}, {'E', 6, 8, 8}, {'E', 7, 8, 16}, {'S', 0, 8, 8},
	} {
		if got := contentSize(c.letter, c.size, c.block); got != c.want {
			t.Errorf("%c of %d bytes in blocks of %d: %d, want %d", c.letter, c.size, c.block, got, c.want)
		}
	}
}
