package des_test

import (
	"bytes"
	stddes "crypto/des"
	"crypto/rand"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/des"
)

// TestDifferential compares with the standard library's cipher on random keys and blocks.
func TestDifferential(t *testing.T) {
	t.Parallel()
	for _, size := range []int{8, 16, 24} {
		for range 200 {
			key := make([]byte, size)
			_, _ = rand.Read(key)
			c, err := des.New(key)
			if err != nil {
				t.Fatal(err)
			}
			long := append(append(bytes.Clone(key), key...), key...)[:24]
			want, err := stddes.NewTripleDESCipher(long)
			if err != nil {
				t.Fatal(err)
			}
			block := make([]byte, 8)
			_, _ = rand.Read(block)
			var got, expected, back [8]byte
			c.Encrypt(got[:], block)
			want.Encrypt(expected[:], block)
			c.Decrypt(back[:], got[:])
			if got != expected || !bytes.Equal(back[:], block) {
				t.Fatalf("key of %d bytes: got %x, want %x; back %x", size, got, expected, back)
			}
		}
	}
}

func TestRefusesOtherLengths(t *testing.T) {
	t.Parallel()
	for n := range 40 {
		if _, err := des.New(make([]byte, n)); (err == nil) != (n == 8 || n == 16 || n == 24) {
			t.Errorf("key of %d bytes: %v", n, err)
		}
	}
}

func TestWipe(t *testing.T) {
	t.Parallel()
	c, err := des.New([]byte("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	c.Wipe()
	c.Wipe()
	defer func() {
		if recover() == nil {
			t.Error("a wiped cipher encrypts")
		}
	}()
	c.Encrypt(make([]byte, 8), make([]byte, 8))
}
