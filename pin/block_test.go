package pin

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/des"
)

// everyFormat is all of them, allPANs one PAN of each length.
var everyFormat = []Format{Format0, Format1, Format2, Format3, Format4, Format4PAN12}

func allPANs() (pans []string) {
	for n := minPAN; n <= maxPAN; n++ {
		pans = append(pans, "6304918273645509182"[:n])
	}
	return pans
}

// testCipher returns a cipher that goes with a format. Its key consists of n.
func testCipher(t testing.TB, f Format, n byte) cipher.Block {
	t.Helper()
	if f.BlockSize() != format4Size {
		c, err := des.New(append(bytes.Repeat([]byte{n}, 8), bytes.Repeat([]byte{^n}, 8)...))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c, err := aes.NewCipher(bytes.Repeat([]byte{n}, 16))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// spelled is the clear PIN field of a format written as text, apart from the code: the digits of fill that are wanted.
func spelled(f Format, pinDigits, fill string) string {
	control := map[Format]string{Format0: "0", Format1: "1", Format2: "2", Format3: "3", Format4: "4", Format4PAN12: "4"}[f]
	switch f {
	case Format0, Format2:
		fill = "FFFFFFFFFF"
	case Format4, Format4PAN12:
		fill = "AAAAAAAAAA"
	}
	return control + fmt.Sprintf("%X", len(pinDigits)) + pinDigits + fill[:14-len(pinDigits)]
}

// spelledPAN is the PAN field of a format written as text, apart from the code.
func spelledPAN(f Format, pan string) string {
	twelve := pan[:len(pan)-1]
	if len(twelve) > 12 {
		twelve = twelve[len(twelve)-12:]
	}
	twelve = strings.Repeat("0", 12-len(twelve)) + twelve
	switch f {
	case Format0, Format3:
		return "0000" + twelve
	case Format4PAN12:
		return "0" + twelve + "0000000000000000000"
	case Format4:
		length := max(0, len(pan)-12)
		field := fmt.Sprint(length) + strings.Repeat("0", max(0, 12-len(pan))) + pan
		return field + strings.Repeat("0", 32-len(field))
	}
	return "0000000000000000"
}

// wantBlock enciphers what the two spellings give, step by step.
func wantBlock(t *testing.T, f Format, c cipher.Block, pinDigits, fill, pan, random string) []byte {
	t.Helper()
	field, panField := mustHex(t, spelled(f, pinDigits, fill)+random), mustHex(t, spelledPAN(f, pan))
	if f.BlockSize() == format4Size {
		c.Encrypt(field, field)
	}
	for i := range field {
		field[i] ^= panField[i]
	}
	c.Encrypt(field, field)
	return field
}

// TestBlocks makes and reads a block of every format with PINs and PANs of every length, and holds each to the spelling of
// the standard.
func TestBlocks(t *testing.T) {
	t.Parallel()
	const random = "0123456789ABCDEF"
	fill := Fill(mustHex(t, random))
	for _, f := range everyFormat {
		c := testCipher(t, f, 0x5A)
		for _, pan := range allPANs() {
			for n := minPIN; n <= maxPIN; n++ {
				digits := "907856341298"[:n]
				wantFill := map[Format]string{Format1: random, Format3: spreadDigits(fill)}[f]
				if f != Format2 {
					block, err := f.Encrypt([]byte("x"), c, mustPIN(t, digits), mustPAN(t, pan), fill)
					want := wantBlock(t, f, c, digits, wantFill, pan, map[int]string{16: random}[f.BlockSize()])
					if err != nil || block[0] != 'x' || !bytes.Equal(block[1:], want) {
						t.Fatalf("%v: %s with %s gives %X, %v, want %X", f, digits, pan, block, err, want)
					}
					var p Opened
					if err := f.Decrypt(&p, c, block[1:], mustPAN(t, pan)); err != nil || reveal(p) != digits {
						t.Errorf("%v: %s with %s comes back as %s, %v", f, digits, pan, reveal(p), err)
					}
				}
				if f.BlockSize() == fieldSize {
					checkClear(t, f, digits, pan, fill, wantFill)
				}
			}
		}
	}
}

func checkClear(t *testing.T, f Format, digits, pan string, fill Fill, wantFill string) {
	t.Helper()
	want := mustHex(t, spelled(f, digits, wantFill))
	for i, b := range mustHex(t, spelledPAN(f, pan)) {
		want[i] ^= b
	}
	block, err := f.Append([]byte("x"), mustPIN(t, digits), mustPAN(t, pan), fill)
	if err != nil || block[0] != 'x' || !bytes.Equal(block[1:], want) {
		t.Errorf("%v: %s with %s gives %X, %v, want %X", f, digits, pan, block, err, want)
	}
	var p Opened
	if err := f.Decode(&p, want, mustPAN(t, pan)); err != nil || reveal(p) != digits {
		t.Errorf("%v: %s with %s comes back as %s, %v", f, digits, pan, reveal(p), err)
	}
}

// TestPAN12 shows that the short PAN field is that of a PAN of its twelve digits, and that no block opens as the other kind.
func TestPAN12(t *testing.T) {
	t.Parallel()
	c, p, fill := testCipher(t, Format4, 7), mustPIN(t, "4711"), Fill{1, 2, 3}
	pan, twelve := mustPAN(t, "6304918273645509182"), mustPAN(t, "827364550918")
	short, err := Format4PAN12.Encrypt(nil, c, p, pan, fill)
	if err != nil {
		t.Fatal(err)
	}
	same, err := Format4.Encrypt(nil, c, p, twelve, fill)
	if err != nil || !bytes.Equal(short, same) {
		t.Errorf("twelve digits give %X, a PAN of them %X, %v", short, same, err)
	}
	full, err := Format4.Encrypt(nil, c, p, pan, fill)
	if err != nil || bytes.Equal(short, full) {
		t.Errorf("both PAN fields give %X, %v", full, err)
	}
	var got Opened
	if err := Format4PAN12.Decrypt(&got, c, full, pan); err != ErrBlock {
		t.Errorf("a full PAN field read as a short one: %v", err)
	}
	if err := Format4.Decrypt(&got, c, short, pan); err != ErrBlock {
		t.Errorf("a short PAN field read as a full one: %v", err)
	}
}

// TestBlockNeeds takes away what a block needs, one thing at a time: dst comes back as it was.
func TestBlockNeeds(t *testing.T) {
	t.Parallel()
	p, pan := mustPIN(t, "1234"), mustPAN(t, "4111111111111111")
	wiped, wipedPAN := mustPIN(t, "1234"), mustPAN(t, "4111111111111111")
	wiped.Wipe()
	wipedPAN.Wipe()
	for _, f := range everyFormat {
		c := testCipher(t, f, 9)
		wrong := testCipher(t, map[int]Format{8: Format4, 16: Format0}[f.BlockSize()], 9)
		noPAN := error(nil)
		if f.HasPAN() {
			noPAN = ErrPAN
		}
		for name, v := range map[string]struct {
			p    PIN
			pan  PAN
			c    cipher.Block
			want error
		}{
			"all there":    {p, pan, c, nil},
			"no PIN":       {PIN{}, pan, c, ErrPIN},
			"wiped PIN":    {wiped, pan, c, ErrPIN},
			"no PAN":       {p, PAN{}, c, noPAN},
			"wiped PAN":    {p, wipedPAN, c, noPAN},
			"no cipher":    {p, pan, nil, ErrFormat},
			"wrong cipher": {p, pan, wrong, ErrFormat},
		} {
			got, err := f.Encrypt([]byte("x"), v.c, v.p, v.pan, Fill{})
			if want := v.want; f == Format2 && !errors.Is(err, ErrFormat) || f != Format2 && !errors.Is(err, want) || err != nil && string(got) != "x" {
				t.Errorf("%v, %s: Encrypt = %X, %v, want %v", f, name, got, err, want)
			}
			if v.c != c {
				continue
			}
			got, err = f.Append([]byte("x"), v.p, v.pan, Fill{})
			want := v.want
			if f.BlockSize() == format4Size {
				want = ErrFormat
			}
			if !errors.Is(err, want) || err != nil && string(got) != "x" {
				t.Errorf("%v, %s: Append = %X, %v, want %v", f, name, got, err, want)
			}
		}
	}
}

// TestReadNeeds does the same for reading: a PIN that was there before is gone.
func TestReadNeeds(t *testing.T) {
	t.Parallel()
	pan := mustPAN(t, "4111111111111111")
	for _, f := range everyFormat {
		c, block := testCipher(t, f, 9), make([]byte, f.BlockSize())
		wrong := testCipher(t, map[int]Format{8: Format4, 16: Format0}[f.BlockSize()], 9)
		noPAN := ErrBlock
		if f.HasPAN() {
			noPAN = ErrPAN
		}
		read := map[string]func(*Opened) error{
			"no cipher":    func(p *Opened) error { return f.Decrypt(p, nil, block, pan) },
			"wrong cipher": func(p *Opened) error { return f.Decrypt(p, wrong, block, pan) },
		}
		want := map[string]error{"no cipher": ErrFormat, "wrong cipher": ErrFormat}
		if f != Format2 {
			read["no PAN"], want["no PAN"] = func(p *Opened) error { return f.Decrypt(p, c, block, PAN{}) }, noPAN
		} else {
			read["not enciphered"], want["not enciphered"] = func(p *Opened) error { return f.Decrypt(p, c, block, pan) }, ErrFormat
		}
		if f.BlockSize() == fieldSize {
			block[0] = 0xFF // no format
			read["no PAN, clear"], want["no PAN, clear"] = func(p *Opened) error { return f.Decode(p, block, PAN{}) }, noPAN
		} else {
			read["clear"], want["clear"] = func(p *Opened) error { return f.Decode(p, block, pan) }, ErrFormat
		}
		for name, do := range read {
			for _, p := range []Opened{{}, NewOpened(), mustOpened(t, "1234")} {
				if err := do(&p); !errors.Is(err, want[name]) || !p.IsZero() || reveal(p) != "" {
					t.Errorf("%v, %s: %v, want %v", f, name, err, want[name])
				}
			}
		}
	}
}

func TestNoFormat(t *testing.T) {
	t.Parallel()
	p, pan := mustPIN(t, "1234"), mustPAN(t, "4111111111111111")
	for _, f := range []Format{0, Format4PAN12 + 1, 255} {
		if got, err := f.Append(nil, p, pan, Fill{}); !errors.Is(err, ErrFormat) || got != nil {
			t.Errorf("%v: Append = %X, %v", f, got, err)
		}
		if got, err := f.Encrypt(nil, testCipher(t, Format0, 1), p, pan, Fill{}); !errors.Is(err, ErrFormat) || got != nil {
			t.Errorf("%v: Encrypt = %X, %v", f, got, err)
		}
		q := mustOpened(t, "1234")
		if err := f.Decode(&q, make([]byte, 8), pan); !errors.Is(err, ErrFormat) || !q.IsZero() {
			t.Errorf("%v: Decode = %v", f, err)
		}
		if err := f.Decrypt(&q, testCipher(t, Format0, 1), make([]byte, 8), pan); !errors.Is(err, ErrFormat) {
			t.Errorf("%v: Decrypt = %v", f, err)
		}
	}
}

// TestReadIntoCopies shows that a PIN read into its memory is the PIN of every copy, and that nothing of a longer PIN before
// it stays behind, nor of the block.
func TestReadIntoCopies(t *testing.T) {
	t.Parallel()
	pan := mustPAN(t, "4111111111111111")
	p := mustOpened(t, "999999999999")
	seen := p
	for _, f := range []Format{Format0, Format1, Format3, Format4, Format4PAN12} {
		c := testCipher(t, f, 3)
		block, err := f.Encrypt(nil, c, mustPIN(t, "1234"), pan, GenerateFill())
		if err != nil {
			t.Fatal(err)
		}
		kept := bytes.Clone(block)
		if err := f.Decrypt(&p, c, block, pan); err != nil || reveal(seen) != "1234" {
			t.Errorf("%v: the copy reads %s, %v", f, reveal(seen), err)
		}
		if !bytes.Equal(block, kept) {
			t.Errorf("%v: the block was changed", f)
		}
		want := openedMemory{4, 1, 2, 3, 4}
		want[openedFormat] = byte(f)
		if f != Format1 {
			want[openedPAN] = 16
			copy(want[openedPAN+1:], "4111111111111111")
		}
		if got := p.bytes(); *got != want {
			t.Errorf("%v: the memory holds %X", f, *got)
		}
	}
	p.Clear()
	if !seen.IsZero() || p.bytes() == nil || *p.bytes() != (openedMemory{}) {
		t.Error("Clear leaves digits, or takes the memory")
	}
	p.Wipe()
	if seen.bytes() != nil {
		t.Error("Wipe keeps the memory")
	}
	p.Clear()
}
