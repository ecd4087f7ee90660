package main

import (
	"encoding/hex"
	"strings"
	"testing"
)

// TestJudge says of clear data whether it is card data, and shows nothing of it but a masked number.
func TestJudge(t *testing.T) {
	t.Parallel()
	emv := "5A0841111111111111115F2403301231" // PAN, expiry date
	for _, c := range []struct {
		name, clear string // hexadecimal where it starts with 0x
		block       int
		fits        bool
		pan         string
		evidence    string // one of them
	}{
		{"track 1", "%B4111111111111111^DOE/JOHN^30121010000?", 8, true, "411111******1111", "track 1: %B, two ^, ?"},
		{"track 2", ";4111111111111111=30121010000?", 8, true, "411111******1111", "track 2: ;, =, ?"},
		{"track 2, padded", ";4111111111111111=30121010000?\x02\x02", 8, true, "411111******1111", "track 2: ;, =, ?"},
		{"track 2, padded with 80", ";4111111111111111=30121010000?\x80\x00\x00", 8, true, "411111******1111", "all text"},
		{"track without end", "%B4111111111111111^DOE/JOHN^3012101000", 8, true, "411111******1111", "begins with a card number"},
		{"digits alone", "4111111111111111", 8, true, "411111******1111", "begins with a card number"},
		{"text", "no card data, words", 8, true, "", "all text"},
		{"text of 16", "0.2.4.6.8.0.2.4.", 8, true, "", "all text"},
		{"short text", "0.2.4.6.8.0.2.4", 8, false, "", "100 % printable"},
		{"another IV", "\x01\x02345678no card, words..", 8, false, "", "all text but the first block: another initialization vector"},
		{"another IV, short", "\x01\x02345678no card, words.", 8, false, "", "91 % printable"},
		{"nothing", "0x0000000000000000", 8, false, "", "0 % printable"},
		{"text in PKCS #7 padding of a block", "no card, words..\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10\x10", 16, true, "", "; 100 % printable"},
		{"ends in no padding", "no card, words..\x02", 8, false, "", "94 % printable"},
		{"noise", "0x8628E664C59BBAA232BA90BFB3E6B41D", 8, false, "", "18 % printable"},
		{"EMV", "0x" + emv, 8, true, "411111******1111", "EMV data in BER-TLV, 2 elements"},
		{"EMV, padded", "0x" + emv + "80000000", 8, true, "411111******1111", "EMV data in BER-TLV, 2 elements"},
		{"EMV in a template", "0x7010" + emv, 8, true, "411111******1111", "EMV data in BER-TLV, 2 elements"},
		{"EMV, track 2", "0x57114111111111111111D301210100000000009F3602001A", 8, true, "411111******1111", "EMV data in BER-TLV, 2 elements"},
		{"EMV, long lengths", "0x7081105A0841111111111111115F2403301231", 8, true, "411111******1111", "EMV data in BER-TLV, 2 elements"},
		{"EMV, two bytes of length", "0x708200105A0841111111111111115F2403301231", 8, true, "411111******1111", "EMV data in BER-TLV, 2 elements"},
		{"EMV, number too short", "0x5A0241119F3602001A", 8, true, "", "EMV data in BER-TLV, 2 elements"},
		{"one element", "0x5A084111111111111111", 8, false, "", "20 % printable"},
		{"no card's elements", "0xC10111C20122", 8, false, "", ""},
		{"cut short", "0x5A0841111111111111115F24033012", 8, false, "", ""},
		{"three bytes of length", "0x70830000105A0841111111111111115F2403301231", 8, false, "", ""},
		{"length missing", "0x9F36", 8, false, "", ""},
		{"length cut", "0x9F368201", 8, false, "", ""},
		{"length of no size", "0x70805A0841111111111111115F2403301231", 8, false, "", ""},
		{"long tag", "0xDFDF40015F9C0101", 8, true, "", "EMV data in BER-TLV, 2 elements"},
		{"tag of five bytes", "0xDFDFFFFF40015F9C0101", 8, false, "", ""},
		{"deep enough", "0x" + nest(emv, 8), 8, true, "411111******1111", "EMV data in BER-TLV, 2 elements"},
		{"too deep", "0x" + nest(emv, 9), 8, false, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			clear := []byte(c.clear)
			if digits, ok := strings.CutPrefix(c.clear, "0x"); ok {
				var err error
				if clear, err = hex.DecodeString(digits); err != nil {
					t.Fatal(err)
				}
			}
			a := judge(clear, c.block)
			if a.Fits != c.fits || a.MaskedPAN != c.pan {
				t.Errorf("fits %v, number %q: %q", a.Fits, a.MaskedPAN, a.Evidence)
			}
			if all := strings.Join(a.Evidence, "; ") + ";"; !strings.Contains(all, c.evidence) || strings.Contains(all, "4111111111111111") {
				t.Errorf("evidence %s", all)
			}
		})
	}
}

// nest puts BER-TLV into templates, one in the other.
func nest(digits string, templates int) string {
	for range templates {
		digits = "70" + strings.ToUpper(hex.EncodeToString([]byte{byte(len(digits) / 2)})) + digits
	}
	return digits
}

// FuzzJudge wants no panic, and no clear text: nothing but the fixed words and a masked number is in the evidence.
func FuzzJudge(f *testing.F) {
	f.Add([]byte("%B4111111111111111^DOE/JOHN^30121010000?"))
	f.Add([]byte(";4111111111111111=30121010000?\x00"))
	f.Add([]byte("\x5A\x08\x41\x11\x11\x11\x11\x11\x11\x11\x5F\x24\x03\x30\x12\x31"))
	f.Add([]byte("\x70\x82\x00\x05\x9F\x36\x02\x00\x01\x9A"))
	f.Fuzz(func(t *testing.T, clear []byte) {
		if len(clear) == 0 {
			return // dukpt decrypts whole blocks only
		}
		a := judge(clear, 8)
		if a.MaskedPAN != "" && (!a.Fits || !strings.Contains(a.MaskedPAN, "*")) {
			t.Errorf("fits %v, number %q", a.Fits, a.MaskedPAN)
		}
		if a.Printable < 0 || a.Printable > 100 {
			t.Errorf("%d %% printable", a.Printable)
		}
		for _, e := range a.Evidence {
			if len(e) > 80 {
				t.Errorf("evidence %q", e)
			}
		}
	})
}
