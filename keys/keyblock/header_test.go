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
