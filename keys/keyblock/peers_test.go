package keyblock

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/keys"
)

// TestPeerShort: moov-io/tr31 panics on inputs of fewer than 16 characters.
func TestPeerShort(t *testing.T) {
	t.Parallel()
	for n := range headerSize + 1 {
		for _, p := range []*Protector{testProtector(t, 16), tdesProtector(t, 16)} {
			for _, text := range []string{"D0016P0TE00N0000", "B0016P0TE00N0000", "0000000000000000", strings.Repeat("\xff", 16)} {
				if _, err := p.Unwrap(text[:n]); !errors.Is(err, ErrBlock) && !errors.Is(err, ErrVersion) {
					t.Errorf("%q: %v", text[:n], err)
				}
				if _, err := Inspect(text[:n]); n < headerSize && err == nil {
					t.Errorf("%q: a header", text[:n])
				}
			}
		}
	}
}

// TestPeerBackingArray: moov-io/tr31 had its two derived keys in one array, so that one overwrote the other.
func TestPeerBackingArray(t *testing.T) {
	t.Parallel()
	for _, p := range []*Protector{testProtector(t, 24), tdesProtector(t, 24)} {
		before := bytes.Clone(p.kbpk.Expose())
		first, err := p.working(p.version())
		if err != nil {
			t.Fatal(err)
		}
		enc, auth := encryptZeros(first.enc.Encrypt, p), encryptZeros(first.auth.Encrypt, p)
		second, err := p.working(p.version())
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(enc, auth) || !bytes.Equal(enc, encryptZeros(first.enc.Encrypt, p)) ||
			!bytes.Equal(enc, encryptZeros(second.enc.Encrypt, p)) || !bytes.Equal(auth, encryptZeros(second.auth.Encrypt, p)) {
			t.Error("two derivations disturb each other")
		}
		if !bytes.Equal(before, p.kbpk.Expose()) {
			t.Error("the protection key was changed")
		}
	}
}

func encryptZeros(encrypt func(dst, src []byte), p *Protector) []byte {
	out := make([]byte, forms[p.version()].block)
	encrypt(out, out)
	return out
}

// TestPeerExtendedLength: psec counts an extended length in bytes where the standard counts hexadecimal digits, and refuses the
// certificates of samples 8.5 and 8.6. Sample 8.5 is among the vectors.
func TestPeerExtendedLength(t *testing.T) {
	t.Parallel()
	p := testProtector(t, 16)
	content := append([]byte{0, 128}, bytes.Repeat([]byte{0x3c, 0x81}, 23)...)
	want := []OptionalBlock{{"LB", strings.Repeat("y", 0x500-10)}}
	block, _ := authenticated(t, p, "D0000P0AE00E0100LB00040500"+want[0].Data, content)
	got, err := p.Unwrap(block)
	if err != nil || !slices.Equal(got.Optional, want) || len(got.Warnings()) > 0 {
		t.Errorf("%v with %v: %v", got.Optional, got.Warnings(), err)
	}
	bytesCounted, _ := authenticated(t, p, "D0000P0AE00E0100LB00020500"+want[0].Data, content)
	if _, err := p.Unwrap(bytesCounted); !errors.Is(err, ErrBlock) {
		t.Errorf("an extended length counted in bytes: %v", err)
	}
}

// TestPeerSingleDES: openemv/tr31 refuses a key of 64 bits by design. It is read here, and is no key of ours.
func TestPeerSingleDES(t *testing.T) {
	t.Parallel()
	p, err := protectorOf('B', []byte("\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xbb\xbb\xbb\xbb\xbb\xbb\xbb\xbb"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.Unwrap("B0096M3TC00E0000B6CD513680EF255FC0DC590726FD0129A7CF6602E7F271631AB4EE7350642F11181AF4CC12F12FD9")
	if err != nil || !slices.Contains(c.Warnings(), Warning{Kind: WarnSingleDES}) || !c.KCV().IsZero() {
		t.Errorf("%v, %v", c.Warnings(), err)
	}
	if _, err := c.Key(); err == nil {
		t.Error("single DES is a key")
	}
}

// TestPeerNotHidden: payShield 10K blocks tell the length of the key. They are read.
func TestPeerNotHidden(t *testing.T) {
	t.Parallel()
	p, err := protectorOf('D', bytes.Repeat([]byte{0x41}, 32))
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.Unwrap("D0112B0TN00N000037DB9B046B7B0048785690759580ABC3B9842AB4BB7717B49E92528E575785D8123559376A2553B27BE94F054F4E971C")
	if err != nil || c.KCV().String() != "FF5087" {
		t.Errorf("%v, %v", c.KCV(), err)
	}
	if k, err := c.Key(); err != nil || k.Attributes() != attributes(keys.TDES2, keys.UsageBDK, keys.ModeNone) {
		t.Errorf("%v, %v", k, err)
	}
}
