package pin

import (
	"encoding/hex"
	"errors"
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

// mustOpened returns a PIN that came out of a block of format 0.
func mustOpened(t testing.TB, digits string) Opened {
	t.Helper()
	pan := mustPAN(t, "4111111111111111")
	block, err := AppendFormat0(nil, mustPIN(t, digits), pan)
	if err != nil {
		t.Fatal(err)
	}
	o, err := DecodeFormat0(block, pan)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// reveal returns the digits of a PIN or an Opened in ASCII. Only tests may.
func reveal(p any) string {
	var s strings.Builder
	var m *[pinSize]byte
	switch p := p.(type) {
	case PIN:
		m = p.bytes()
	case Opened:
		if o := p.bytes(); o != nil {
			m = o.pin()
		}
	}
	if m == nil {
		return ""
	}
	for _, d := range m[pinDigits : pinDigits+int(m[0])] {
		s.WriteByte('0' + d)
	}
	return s.String()
}

func TestParsePINRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "1", "123", "1234567890123", "12a4", "12 4", "12:4", "12/4", "１２３４", "123\x00", "-123"} {
		if p, err := ParsePIN([]byte(s)); err != ErrPIN || !p.IsZero() {
			t.Errorf("ParsePIN(%q) = %v, %v, want ErrPIN itself", s, p, err)
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
		if got := mustPAN(t, pan); got.Masked() != want || got.String() != want {
			t.Errorf("Masked(%s) = %s, String %s, want %s", pan, got.Masked(), got.String(), want)
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
	if got := string((PAN{}).Canonical12().Expose()); got != "000000000000" {
		t.Errorf("Canonical12 of no PAN = %s", got)
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
