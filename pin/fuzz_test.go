package pin

import (
	"bytes"
	"crypto/aes"
	"crypto/subtle"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// fuzzKey is the PIN key of a published vector, so that its block is a seed that decodes.
var fuzzKey = []byte{0xAF, 0x8C, 0xB1, 0x33, 0xA7, 0x8F, 0x8D, 0xC2, 0xD1, 0x35, 0x9F, 0x18, 0x52, 0x75, 0x93, 0xFB}

// FuzzPINBlock holds the decoders of all formats to a second reading of the standard, nibble by nibble, and to the encoders: a
// block that decodes is the only one its PIN, PAN and fill give, and decodes as no other format.
func FuzzPINBlock(f *testing.F) {
	for _, seed := range []struct {
		format     Format
		block, pan string
	}{
		{Format0, "041274EDCBA9876F", "4012345678909"}, {Format0, "0B01635753DF776F", "4012345678909"}, {Format0, "0412EDCBA9876F00", "12345678"},
		{Format1, "141234FFFFFFFFFF", "4012345678909"}, {Format1, "1C123456789012FF", "12345678"},
		{Format2, "241234FFFFFFFFFF", "4012345678909"}, {Format2, "2C123456789012FF", "12345678"},
		{Format3, "341215AB89EFCD23", "5432101234567890"}, {Format3, "3C1261032D8226A9", "5555555551234567"},
		{Format4, "A912150391AB65A67E52883D81CE2D15", "4111111111111111"},
		{Format4PAN12, "A912150391AB65A67E52883D81CE2D15", "4111111111111111"}, {Format4, "", ""}, {7, "", "12345678"},
	} {
		f.Add(uint8(seed.format), mustHex(f, seed.block), seed.pan)
	}
	f.Fuzz(func(t *testing.T, format uint8, block []byte, digits string) {
		pan, err := ParsePAN(digits)
		if err != nil {
			return
		}
		switch f := Format(format); {
		case !f.IsValid():
			var p Opened
			if err := f.Decode(&p, block, pan); !errors.Is(err, ErrFormat) || !p.IsZero() {
				t.Fatalf("%v: %v", f, err)
			}
		case f.BlockSize() == fieldSize:
			fuzzClear(t, f, block, pan, digits)
		default:
			fuzzFormat4(t, f, block, pan, digits)
		}
	})
}

func fuzzClear(t *testing.T, f Format, block []byte, pan PAN, digits string) {
	p := NewOpened()
	err := f.Decode(&p, block, pan)
	if len(block) != fieldSize {
		if err != ErrBlock || !p.IsZero() {
			t.Fatalf("%v: %X: %v", f, block, err)
		}
		return
	}
	field := bytes.Clone(block)
	for i, b := range mustHex(t, spelledPAN(f, digits)) {
		field[i] ^= b
	}
	if want := goodField(f, field); want != (err == nil) || !want && (err != ErrBlock || !p.IsZero()) {
		t.Fatalf("%v: Decode(%X, %s) = %v, want success %v", f, block, digits, err, want)
	}
	if err != nil {
		return
	}
	again, err := f.Append(nil, mustPIN(t, reveal(p)), pan, fillIn(f, field, reveal(p)))
	if err != nil || !bytes.Equal(again, block) {
		t.Fatalf("%v: %X with %s decodes to %s, which encodes to %X, %v", f, block, digits, reveal(p), again, err)
	}
	for _, other := range everyFormat[:4] {
		if err := other.Decode(&p, block, pan); other != f && err == nil {
			t.Fatalf("%X with %s decodes as %v and as %v", block, digits, f, other)
		}
	}
}

// fillIn returns the Fill that gives the fill of a PIN field.
func fillIn(f Format, field []byte, digits string) Fill {
	text := fmt.Sprintf("%X", field)
	switch f {
	case Format1:
		return transactionField(text, digits)
	case Format3:
		return fillOf3(text[2+len(digits):])
	}
	return Fill{}
}

func fuzzFormat4(t *testing.T, f Format, block []byte, pan PAN, digits string) {
	c, err := aes.NewCipher(fuzzKey)
	if err != nil {
		t.Fatal(err)
	}
	p := NewOpened()
	err = f.Decrypt(&p, c, block, pan)
	if len(block) != format4Size {
		if err != ErrBlock || !p.IsZero() {
			t.Fatalf("%v: %X: %v", f, block, err)
		}
		return
	}
	field := make([]byte, format4Size)
	c.Decrypt(field, block)
	subtle.XORBytes(field, field, mustHex(t, spelledPAN(f, digits)))
	c.Decrypt(field, field)
	if want := goodField(f, field[:fieldSize]); want != (err == nil) || !want && (err != ErrBlock || !p.IsZero()) {
		t.Fatalf("%v: Decrypt(%X) = %v, its PIN field is %X", f, block, err, field)
	}
	if err != nil {
		return
	}
	again, err := p.Encrypt(nil, Side{Format: f, PAN: pan, Cipher: c}, Fill(field[fieldSize:]))
	if err != nil || !bytes.Equal(again, block) {
		t.Fatalf("%v: %X decrypts to %s, which encrypts to %X, %v", f, block, reveal(p), again, err)
	}
}

// FuzzEncode makes a block of every format from any PIN, PAN and fill, and reads it back: the same PIN, from the only block
// that these give.
func FuzzEncode(f *testing.F) {
	f.Add([]byte("1234"), "4012345678909", []byte{1, 2, 3, 4, 5, 6, 7, 8})
	f.Add([]byte("987654321098"), "12345678", []byte{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF})
	f.Add([]byte("00000"), "6304000000000000000", make([]byte, 8))
	tdes, aes := testCipher(f, Format0, 3), testCipher(f, Format4, 4)
	f.Fuzz(func(t *testing.T, digits []byte, panDigits string, random []byte) {
		p, err := ParsePIN(digits)
		pan, panErr := ParsePAN(panDigits)
		if err != nil || panErr != nil || len(random) != len(Fill{}) {
			return
		}
		got := NewOpened()
		for _, f := range everyFormat {
			c := tdes
			if f.BlockSize() == format4Size {
				c = aes
			}
			if f == Format2 {
				block, err := f.Append(nil, p, pan, Fill(random))
				if err == nil {
					err = f.Decode(&got, block, pan)
				}
				if err != nil || reveal(got) != string(digits) {
					t.Fatalf("%v: %q came back as %s, %v", f, digits, reveal(got), err)
				}
				continue
			}
			block, err := f.Encrypt(nil, c, p, pan, Fill(random))
			if err == nil {
				err = f.Decrypt(&got, c, block, pan)
			}
			if err != nil || reveal(got) != string(digits) {
				t.Fatalf("%v: %q came back as %s, %v", f, digits, reveal(got), err)
			}
		}
	})
}

// goodField reads a PIN field of any format a second time.
func goodField(f Format, field []byte) bool {
	text := fmt.Sprintf("%X", field)
	n := strings.IndexByte("0123456789ABC", text[1])
	if text[0] != "012344"[f-Format0] || n < 4 {
		return false
	}
	fill := map[Format]string{Format0: "F", Format1: "0123456789ABCDEF", Format2: "F", Format3: "ABCDEF", Format4: "A", Format4PAN12: "A"}[f]
	return strings.Trim(text[2:2+n], "0123456789") == "" && strings.Trim(text[2+n:], fill) == ""
}

// FuzzParsePIN: what is a PIN has 4 to 12 ASCII digits and comes out of a block as it went in; all else is one error.
func FuzzParsePIN(f *testing.F) {
	for _, s := range []string{"", "123", "1234", "123456789012", "1234567890123", "12a4", "１２３４", "12 4", "12:4"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, digits []byte) {
		p, err := ParsePIN(digits)
		if good := regexp.MustCompile(`\A[0-9]{4,12}\z`).Match(digits); good != (err == nil) {
			t.Fatalf("ParsePIN(%q) = %v", digits, err)
		}
		if err != nil {
			if err != ErrPIN || !p.IsZero() {
				t.Fatalf("ParsePIN(%q) = %v, %v", digits, p, err)
			}
			return
		}
		block, err := Format2.Append(nil, p, PAN{}, Fill{})
		if want := spelled(Format2, string(digits), ""); err != nil || fmt.Sprintf("%X", block) != want {
			t.Fatalf("%q gives %X, %v, want %s", digits, block, err, want)
		}
	})
}

// FuzzParsePAN: what is a PAN has 8 to 19 ASCII digits, which it gives back, and prints at most ten of them.
func FuzzParsePAN(f *testing.F) {
	for _, s := range []string{"", "1234567", "12345678", "4111111111111111", "6304000000000000000", "12345678901234567890", "411111111111111A", "４１１１１１１１"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, digits string) {
		pan, err := ParsePAN(digits)
		if good := regexp.MustCompile(`\A[0-9]{8,19}\z`).MatchString(digits); good != (err == nil) {
			t.Fatalf("ParsePAN(%q) = %v", digits, err)
		}
		if err != nil {
			if err != ErrPAN || !pan.IsZero() {
				t.Fatalf("ParsePAN(%q) = %v, %v", digits, pan, err)
			}
			return
		}
		if got := string(pan.Digits().Expose()); got != digits {
			t.Fatalf("%q came back as %q", digits, got)
		}
		if got, want := string(pan.Canonical12().Expose()), spelledPAN(Format0, digits)[4:]; got != want {
			t.Fatalf("Canonical12(%s) = %s, want %s", digits, got, want)
		}
		if masked := pan.Masked(); len(masked) != len(digits) || strings.Count(masked, "*") < len(digits)-10 || strings.Count(masked, "*") < 3 {
			t.Fatalf("%s prints as %s", digits, masked)
		}
	})
}

// FuzzParseFormat: a name that is read is the one that is printed.
func FuzzParseFormat(f *testing.F) {
	for _, s := range []string{"ISO_FORMAT_0", "ISO_FORMAT_4_PAN_12", "ISO_FORMAT_5", "iso_format_1", "Format(0)", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseFormat(s)
		if err == nil && (!got.IsValid() || got.String() != s) || err != nil && (got != 0 || !errors.Is(err, ErrFormat)) {
			t.Fatalf("ParseFormat(%q) = %v, %v", s, got, err)
		}
	})
}

// FuzzFindPAN: what is found stands in the track behind at most a start sentinel, runs to its last digit, and is found again
// when written as track 1, as track 2 and alone.
func FuzzFindPAN(f *testing.F) {
	for _, track := range []string{"%B5452300551227189^HOGAN/PAUL^0804?", ";5452300551227189=0804?0", "5452300551227189", "5452300551227189D0804", "12345678\x80\x00"} {
		f.Add([]byte(track))
	}
	f.Fuzz(func(t *testing.T, track []byte) {
		pan, err := FindPAN(track)
		if err != nil {
			if err != ErrPAN || !pan.IsZero() {
				t.Fatalf("FindPAN(%q) = %v, %v", track, pan, err)
			}
			return
		}
		digits := string(pan.Digits().Expose())
		at := bytes.Index(track, []byte(digits))
		if at < 0 || !slices.Contains([]string{"", "%B", "B", ";"}, string(track[:at])) {
			t.Fatalf("FindPAN(%q) = %s", track, digits)
		}
		if rest := track[at+len(digits):]; len(rest) > 0 && '0' <= rest[0] && rest[0] <= '9' {
			t.Fatalf("FindPAN(%q) = %s, which is cut short", track, digits)
		}
		for _, form := range []string{"%B" + digits + "^A/B^", ";" + digits + "=", digits} {
			if again, err := FindPAN([]byte(form)); err != nil || !again.Equal(pan) {
				t.Fatalf("FindPAN(%q) = %v, %v", form, again, err)
			}
		}
	})
}
