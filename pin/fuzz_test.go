package pin

import (
	"bytes"
	"crypto/aes"
	"crypto/subtle"
	"slices"
	"testing"
)

// FuzzPINBlock holds both decoders to a second reading of the standard, nibble by nibble, and to the encoders: a block that
// decodes is the only one its PIN, PAN and fill give.
func FuzzPINBlock(f *testing.F) {
	f.Add(mustHex(f, "041274EDCBA9876F"), "4012345678909")
	f.Add(mustHex(f, "0B01635753DF776F"), "4012345678909")
	f.Add(mustHex(f, "0412EDCBA9876F00"), "12345678")
	f.Add(mustHex(f, "A912150391AB65A67E52883D81CE2D15"), "4111111111111111")
	f.Add([]byte{}, "")
	f.Fuzz(func(t *testing.T, block []byte, digits string) {
		pan, err := ParsePAN(digits)
		if err != nil {
			return
		}
		if len(block) == format4Size {
			checkFormat4(t, block, pan)
			return
		}
		p, err := DecodeFormat0(block, pan)
		if want := len(block) == fieldSize && goodField(xored0(block, digits), 0, 0xF); want != (err == nil) {
			t.Fatalf("DecodeFormat0(%X, %s) = %v, want success %v", block, digits, err, want)
		}
		if err != nil {
			return
		}
		again, err := AppendFormat0(nil, p, pan)
		if err != nil || !bytes.Equal(again, block) {
			t.Fatalf("%X with %s decodes to %s, which encodes to %X, %v", block, digits, reveal(p), again, err)
		}
	})
}

// fuzzKey is the PIN key of a published vector, so that its block is a seed that decodes.
var fuzzKey = []byte{0xAF, 0x8C, 0xB1, 0x33, 0xA7, 0x8F, 0x8D, 0xC2, 0xD1, 0x35, 0x9F, 0x18, 0x52, 0x75, 0x93, 0xFB}

func checkFormat4(t *testing.T, block []byte, pan PAN) {
	c, err := aes.NewCipher(fuzzKey)
	if err != nil {
		t.Fatal(err)
	}
	var field, panField [format4Size]byte
	putPANField4(&panField, pan.digits.Expose())
	c.Decrypt(field[:], block)
	subtle.XORBytes(field[:], field[:], panField[:])
	c.Decrypt(field[:], field[:])

	p, err := DecryptFormat4(c, block, pan)
	if want := goodField(field[:fieldSize], 4, 0xA); want != (err == nil) {
		t.Fatalf("DecryptFormat4(%X) = %v, its PIN field is %X", block, err, field)
	}
	if err != nil {
		return
	}
	again, err := EncryptFormat4(nil, c, p, pan, [8]byte(field[fieldSize:]))
	if err != nil || !bytes.Equal(again, block) {
		t.Fatalf("%X decrypts to %s, which encrypts to %X, %v", block, reveal(p), again, err)
	}
}

// xored0 removes the PAN field of format 0, found digit by digit from the right.
func xored0(block []byte, digits string) []byte {
	field := bytes.Clone(block)
	for i := range canonicalPAN {
		if at := len(digits) - 2 - i; at >= 0 {
			nibble := len(field)*2 - 1 - i
			field[nibble/2] ^= (digits[at] - '0') << (4 * (1 - nibble%2))
		}
	}
	return field
}

func goodField(field []byte, control, fill byte) bool {
	n := int(field[0] & 0xF)
	if field[0]>>4 != control || n < 4 || n > 12 {
		return false
	}
	for i := 2; i < 16; i++ {
		v := field[i/2] >> (4 * (1 - i%2)) & 0xF
		if i < 2+n && v > 9 || i >= 2+n && v != fill {
			return false
		}
	}
	return true
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
