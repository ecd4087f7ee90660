//go:build planted

package pin

import (
	"crypto/aes"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/planted"
)

// TestPlantedFormat4PAN shows that the fault does what the demonstration is to notice: another PAN still gives a PIN.
func TestPlantedFormat4PAN(t *testing.T) {
	planted.Set(planted.GuardFormat4PAN)
	t.Cleanup(func() { planted.Set() })
	c, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	block, err := EncryptFormat4(nil, c, mustPIN(t, "1234"), mustPAN(t, "4111111111111111"), [8]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	p, err := DecryptFormat4(c, block, mustPAN(t, "4012345678909"))
	if err != nil || p.IsZero() {
		t.Errorf("with the guard off another PAN gives %v, %v", p, err)
	}
	if p, err := DecryptFormat4(c, block, mustPAN(t, "4111111111111111")); err != nil || reveal(p) != "1234" {
		t.Errorf("with the guard off the right PAN gives %v", err)
	}
}
