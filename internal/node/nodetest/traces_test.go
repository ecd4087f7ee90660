package nodetest

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
)

// TestTheSearchFinds plants each form that the search looks for.
func TestTheSearchFinds(t *testing.T) {
	t.Parallel()
	const canary = "4761739001010119>?k"
	texts := map[string]string{
		"as it is": "a " + canary + " b", "in capitals": strings.ToUpper(canary), "hex": hex.EncodeToString([]byte(canary)),
		"hex in capitals": "0x" + strings.ToUpper(hex.EncodeToString([]byte(canary))),
	}
	for n := range 6 {
		long := []byte(strings.Repeat("x", n) + canary + "and more")
		texts["base64 after "+strings.Repeat("x", n)] = base64.StdEncoding.EncodeToString(long)
		texts["base64url after "+strings.Repeat("x", n)] = base64.RawURLEncoding.EncodeToString(long)
	}
	for name, text := range texts {
		if !holds([]byte(text), []byte(canary)) {
			t.Errorf("%s: not found in %s", name, text)
		}
	}
	for _, text := range []string{"", "something else altogether", base64.StdEncoding.EncodeToString([]byte("something else altogether"))} {
		if holds([]byte(text), []byte(canary)) {
			t.Errorf("found in %q, where it is not", text)
		}
	}
}
