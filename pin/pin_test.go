package pin

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func mustPIN(t testing.TB, digits string) PIN {
	t.Helper()
	p, err := ParsePIN([]byte(digits))
	if err != nil {
		t.Fatalf("ParsePIN(%q): %v", digits, err)
	}
	return p
}

func mustPAN(t testing.TB, digits string) PAN {
	t.Helper()
	p, err := ParsePAN(digits)
	if err != nil {
		t.Fatalf("ParsePAN(%q): %v", digits, err)
	}
	return p
}

func mustHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// reveal returns the digits in ASCII. Only tests may.
func reveal(p PIN) string {
	var s strings.Builder
	for _, d := range p.digits.Expose() {
		s.WriteByte('0' + d)
	}
	return s.String()
}

func TestParsePINRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "1", "123", "1234567890123", "12a4", "12 4", "12:4", "12/4", "１２３４", "123\x00", "-123"} {
		if p, err := ParsePIN([]byte(s)); err == nil || !p.IsZero() {
			t.Errorf("ParsePIN(%q) = %v, %v, want an error", s, p, err)
		}
	}
}

func TestParsePINCopies(t *testing.T) {
	t.Parallel()
	digits := []byte("4711")
	p, err := ParsePIN(digits)
	if err != nil {
		t.Fatal(err)
	}
	clear(digits)
	if got := reveal(p); got != "4711" {
		t.Errorf("the PIN changed to %s with its source", got)
	}
	q := p
	p.Wipe()
	if !q.IsZero() {
		t.Error("Wipe left a copy")
	}
	if _, err := AppendFormat0(nil, q, mustPAN(t, "4111111111111111")); err == nil {
		t.Error("a wiped PIN went into a block")
	}
}

func TestParsePANRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "1234567", "12345678901234567890", "411111111111111A", "4111 1111 1111 1111", "４１１１１１１１", "-4111111111"} {
		if p, err := ParsePAN(s); !errors.Is(err, ErrPAN) || !p.IsZero() {
			t.Errorf("ParsePAN(%q) = %v, %v, want ErrPAN", s, p, err)
		}
	}
}

func TestPANMasked(t *testing.T) {
	t.Parallel()
	for pan, want := range map[string]string{
		"4111111111111111":    "411111******1111",
		"4012345678909":       "401234***8909",
		"123456789012":        "********9012",
		"12345678":            "****5678",
		"6304000000000000000": "630400*********0000",
	} {
		if got := mustPAN(t, pan).Masked(); got != want {
			t.Errorf("Masked(%s) = %s, want %s", pan, got, want)
		}
	}
	if got := (PAN{}).Masked(); got != "[no PAN]" {
		t.Errorf("zero PAN prints %q", got)
	}
}

func TestCanonical12(t *testing.T) {
	t.Parallel()
	for pan, want := range map[string]string{
		"4111111111111111":    "111111111111",
		"4012345678909":       "401234567890",
		"123456789012":        "012345678901",
		"12345678":            "000001234567",
		"1234567890123456789": "789012345678",
	} {
		if got := string(mustPAN(t, pan).Canonical12().Expose()); got != want {
			t.Errorf("Canonical12(%s) = %s, want %s", pan, got, want)
		}
	}
}

func TestPANEqual(t *testing.T) {
	t.Parallel()
	a := mustPAN(t, "4111111111111111")
	if !a.Equal(mustPAN(t, "4111111111111111")) {
		t.Error("a PAN does not equal itself")
	}
	for _, b := range []PAN{mustPAN(t, "4111111111111112"), mustPAN(t, "411111111111111"), {}} {
		if a.Equal(b) || b.Equal(a) {
			t.Errorf("%v equals %v", a, b)
		}
	}
	if (PAN{}).Equal(PAN{}) {
		t.Error("no PAN equals no PAN")
	}
}

func TestFindPAN(t *testing.T) {
	t.Parallel()
	const pan = "5452300551227189"
	for _, track := range []string{
		"%B5452300551227189^HOGAN/PAUL      ^08043210000000725000000?\x00\x00\x00\x00",
		"B5452300551227189^HOGAN/PAUL^0804",
		";5452300551227189=080910110000046?0",
		"5452300551227189=080910110000046",
		"5452300551227189D080910110000046",
		"%B5452300551227189^HOGAN/PAUL^0804?!;5452300551227189=080910110000046?0",
		pan, pan + "\x00\x00", pan + "\x80\x00",
	} {
		got, err := FindPAN([]byte(track))
		if err != nil || !got.Equal(mustPAN(t, pan)) {
			t.Errorf("FindPAN(%q) = %v, %v, want %s", track, got, err, mustPAN(t, pan))
		}
	}
	for _, track := range []string{
		"", "%", "%B", ";", "B", "%A5452300551227189^X", "%B5452300551227189", ";5452300551227189", ";5452300551227189^", "%B5452300551227189=",
		"%B545230055122718 9^", "5452300551227189 ", "x5452300551227189", "1234567=", ";12345678901234567890=", "=", "\x00",
	} {
		if got, err := FindPAN([]byte(track)); !errors.Is(err, ErrPAN) {
			t.Errorf("FindPAN(%q) = %v, %v, want ErrPAN", track, got, err)
		}
	}
}

// translationCells restates PCI PIN requirement 3-3 cell by cell, apart from the table of the code. Upper case: whatever the
// PAN; lower case: only while it stays.
var translationCells = map[Format]string{ // towards formats 0 1 2 3 4; y or Y permitted, n never, c to a chip only
	Format0: "yncyy",
	Format1: "YYcYY",
	Format2: "nncnn",
	Format3: "yncyy",
	Format4: "yncyy",
}

func TestCheckTranslation(t *testing.T) {
	t.Parallel()
	for from := Format0; from <= Format4; from++ {
		for to := Format0; to <= Format4; to++ {
			cell := translationCells[from][to-Format0]
			for _, changed := range []bool{false, true} {
				want := cell == 'Y' || cell == 'y' && !changed
				err := CheckTranslation(from, to, changed)
				if (err == nil) != want || err != nil && !errors.Is(err, ErrTranslation) {
					t.Errorf("CheckTranslation(%v, %v, %v) = %v, want permitted %v", from, to, changed, err, want)
				}
			}
		}
	}
	for _, pair := range [][2]Format{{0, Format0}, {Format0, 0}, {Format4 + 1, Format0}, {Format0, 255}} {
		if err := CheckTranslation(pair[0], pair[1], false); !errors.Is(err, ErrTranslation) {
			t.Errorf("CheckTranslation(%v) = %v, want ErrTranslation", pair, err)
		}
	}
}

func TestFormatNames(t *testing.T) {
	t.Parallel()
	for f := Format0; f <= Format4; f++ {
		got, err := ParseFormat(f.String())
		if err != nil || got != f {
			t.Errorf("ParseFormat(%q) = %v, %v", f.String(), got, err)
		}
	}
	for _, s := range []string{"", "ISO_FORMAT_5", "iso_format_0", "Format(0)", "0"} {
		if f, err := ParseFormat(s); !errors.Is(err, ErrFormat) {
			t.Errorf("ParseFormat(%q) = %v, %v, want ErrFormat", s, f, err)
		}
	}
	for f, want := range map[Format]bool{0: false, Format0: true, Format1: false, Format2: false, Format3: false, Format4: true, 6: false} {
		if err := f.Supported(); (err == nil) != want {
			t.Errorf("%v supported: %v", f, err)
		}
	}
}

// TestDecodeFormat0Faults breaks each rule of the block alone.
func TestDecodeFormat0Faults(t *testing.T) {
	t.Parallel()
	pan := mustPAN(t, "4012345678909")
	panField := mustHex(t, "0000401234567890")
	for name, field := range map[string]string{
		"control":        "141234FFFFFFFFFF",
		"length 3":       "03123FFFFFFFFFFF",
		"length 13":      "0D1234567890123F",
		"length 0":       "00FFFFFFFFFFFFFF",
		"digit A":        "04123AFFFFFFFFFF",
		"digit F":        "04123FFFFFFFFFFF",
		"first digit":    "04B234FFFFFFFFFF",
		"fill digit":     "0412341FFFFFFFFF",
		"fill E":         "041234FFFFFFFFFE",
		"fill of format": "041234AAAAAAAAAA",
		"length wrong":   "051234FFFFFFFFFF",
		"length short":   "0412345FFFFFFFFF",
		"seven bytes":    "041234FFFFFFFF",
		"nine bytes":     "041234FFFFFFFFFFFF",
		"empty":          "",
	} {
		block := mustHex(t, field)
		for i := range min(len(block), len(panField)) {
			block[i] ^= panField[i]
		}
		if p, err := DecodeFormat0(block, pan); err != ErrBlock || !p.IsZero() {
			t.Errorf("%s: DecodeFormat0(%X) = %v, %v, want ErrBlock itself", name, block, p, err)
		}
	}
	if _, err := DecodeFormat0(mustHex(t, "041274EDCBA9876F"), PAN{}); err == nil {
		t.Error("no PAN was accepted")
	}
}

func TestFormat0RoundTrip(t *testing.T) {
	t.Parallel()
	for _, pan := range []string{"12345678", "4111111111111111", "6304000000000000000"} {
		for n := minPIN; n <= maxPIN; n++ {
			want := "987654321098"[:n]
			block, err := AppendFormat0([]byte("x"), mustPIN(t, want), mustPAN(t, pan))
			if err != nil || len(block) != 9 || block[0] != 'x' {
				t.Fatalf("AppendFormat0(%s, %s) = %X, %v", want, pan, block, err)
			}
			got, err := DecodeFormat0(block[1:], mustPAN(t, pan))
			if err != nil || reveal(got) != want {
				t.Errorf("%s with %s came back as %s, %v", want, pan, reveal(got), err)
			}
		}
	}
}

func TestFormat4RefusesOtherPAN(t *testing.T) {
	t.Parallel()
	for _, size := range []int{16, 24, 32} {
		c, err := aes.NewCipher(bytes.Repeat([]byte{0x5A}, size))
		if err != nil {
			t.Fatal(err)
		}
		block, err := EncryptFormat4([]byte("x"), c, mustPIN(t, "123456"), mustPAN(t, "4111111111111111"), [8]byte{1, 2, 3})
		if err != nil || len(block) != 17 {
			t.Fatalf("EncryptFormat4 = %X, %v", block, err)
		}
		block = block[1:]
		got, err := DecryptFormat4(c, block, mustPAN(t, "4111111111111111"))
		if err != nil || reveal(got) != "123456" {
			t.Errorf("came back as %s, %v", reveal(got), err)
		}
		for _, pan := range []string{"4111111111111112", "411111111111111", "41111111111111110", "111111111111"} {
			if p, err := DecryptFormat4(c, block, mustPAN(t, pan)); err != ErrBlock || !p.IsZero() {
				t.Errorf("with PAN %s: %v, %v, want ErrBlock itself", pan, p, err)
			}
		}
		for i := range block {
			block[i] ^= 0x10
			if p, err := DecryptFormat4(c, block, mustPAN(t, "4111111111111111")); err != ErrBlock {
				t.Errorf("byte %d changed: %v, %v, want ErrBlock", i, p, err)
			}
			block[i] ^= 0x10
		}
		for _, n := range []int{0, 8, 15} {
			if _, err := DecryptFormat4(c, block[:n], mustPAN(t, "4111111111111111")); err != ErrBlock {
				t.Errorf("%d bytes: %v, want ErrBlock", n, err)
			}
		}
	}
}

func TestFormat4NeedsAES(t *testing.T) {
	t.Parallel()
	p, pan := mustPIN(t, "1234"), mustPAN(t, "4111111111111111")
	if _, err := EncryptFormat4(nil, nil, p, pan, [8]byte{}); !errors.Is(err, ErrFormat) {
		t.Errorf("no cipher: %v", err)
	}
	if _, err := DecryptFormat4(nil, make([]byte, 16), pan); !errors.Is(err, ErrFormat) {
		t.Errorf("no cipher: %v", err)
	}
	c, _ := aes.NewCipher(make([]byte, 16))
	if _, err := EncryptFormat4(nil, c, PIN{}, pan, [8]byte{}); err == nil {
		t.Error("no PIN was accepted")
	}
	if _, err := EncryptFormat4(nil, c, p, PAN{}, [8]byte{}); err == nil {
		t.Error("no PAN was accepted")
	}
	if _, err := DecryptFormat4(c, make([]byte, 16), PAN{}); err == nil {
		t.Error("no PAN was accepted")
	}
}

// TestNothingPrints looks for the digits, as characters and as bytes, in every way a value is likely to be printed.
func TestNothingPrints(t *testing.T) {
	t.Parallel()
	type holder struct {
		Exported PIN
		hidden   PIN
		PAN      PAN
		pan      PAN
	}
	p, pan := mustPIN(t, "937261"), mustPAN(t, "4929123458769871")
	h := holder{p, p, pan, pan}
	var printed []string
	for _, v := range []any{p, &p, pan, &pan, h, &h, []PIN{p}, map[string]PAN{"a": pan}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%o", "%b", "%c", "%U", "%t"} {
			printed = append(printed, fmt.Sprintf(verb, v))
		}
		var text, js bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&js, nil)).Info("x", "v", v)
		j, err := json.Marshal(v)
		printed = append(printed, text.String(), js.String(), string(j), fmt.Sprint(err))
	}
	secrets := []string{"937261", "\x09\x03\x07\x02\x06\x01", "090307020601", "9 3 7 2 6 1", "912345", "1234587", "31323334", "49 50 51 52"}
	for _, s := range printed {
		for _, secret := range secrets {
			if strings.Contains(s, secret) {
				t.Errorf("%q shows %q", s, secret)
			}
		}
	}
	if got := fmt.Sprintf("%v %s", p, pan); got != "[PIN] 492912******9871" {
		t.Errorf("prints %q", got)
	}
}
