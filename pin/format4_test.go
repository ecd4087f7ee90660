package pin

import (
	"bytes"
	"crypto/aes"
	"encoding/hex"
	"errors"
	"testing"
)

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

// TestXORPANField undoes a block in the steps that a device has, and finds the PIN field without its PAN.
func TestXORPANField(t *testing.T) {
	t.Parallel()
	c, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	pan := mustPAN(t, "4111111111111111")
	for _, f := range []Format{Format4, Format4PAN12} {
		block, err := f.Encrypt(nil, c, mustPIN(t, "1234"), pan, Fill{1, 2, 3, 4, 5, 6, 7, 8})
		if err != nil {
			t.Fatal(err)
		}
		c.Decrypt(block, block)
		if err := f.XORPANField(block, pan); err != nil {
			t.Fatal(err)
		}
		c.Decrypt(block, block)
		if got := hex.EncodeToString(block); got != "441234aaaaaaaaaa0102030405060708" {
			t.Errorf("%v: the PIN field is %s", f, got)
		}
	}
	for name, err := range map[string]error{
		"another format": Format0.XORPANField(make([]byte, 16), pan), "a short block": Format4.XORPANField(make([]byte, 15), pan),
		"no PAN": Format4.XORPANField(make([]byte, 16), PAN{}), "no format": Format(0).XORPANField(make([]byte, 16), pan),
	} {
		if err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
