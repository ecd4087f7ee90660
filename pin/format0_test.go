package pin

import (
	"testing"
)

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
