package des_test

import (
	"bytes"
	"crypto/cipher"
	stdes "crypto/des"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/des"
)

var _ cipher.Block = (*des.Cipher)(nil)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestKnownAnswers are published: NIST SP 800-17 (variable plaintext, single DES), ANSI X9.24-1 annex A (2TDEA check value
// of the sample base key) and NIST SP 800-67 appendix B (3TDEA).
func TestKnownAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, key, clear, encrypted string }{
		{"SP 800-17 table A.1", "0101010101010101", "8000000000000000", "95F8A5E5DD31D900"},
		{"SP 800-17 table A.2", "8001010101010101", "0000000000000000", "95A8D72813DAA94D"},
		{"X9.24 base key", "0123456789ABCDEFFEDCBA9876543210", "0000000000000000", "08D7B4FB629D0885"},
		{"SP 800-67 B.1 block 1", "0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123", "5468652071756663", "A826FD8CE53B855F"},
		{"SP 800-67 B.1 block 2", "0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123", "6B2062726F776E20", "CCE21C8112256FE6"},
		{"SP 800-67 B.1 block 3", "0123456789ABCDEF23456789ABCDEF01456789ABCDEF0123", "666F78206A756D70", "68D5C05DD9B6B900"},
	} {
		block, err := des.New(unhex(t, c.key))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		got := make([]byte, des.BlockSize)
		block.Encrypt(got, unhex(t, c.clear))
		if fmt.Sprintf("%X", got) != c.encrypted {
			t.Errorf("%s: got %X, want %s", c.name, got, c.encrypted)
		}
		block.Decrypt(got, got)
		if fmt.Sprintf("%X", got) != c.clear {
			t.Errorf("%s: decrypts to %X, want %s", c.name, got, c.clear)
		}
	}
}

// oracle is crypto/des, with 2TDEA put together from single DES.
func oracle(t *testing.T, key, src []byte) []byte {
	t.Helper()
	part := func(i int) cipher.Block {
		i %= len(key) / 8
		b, err := stdes.NewCipher(key[8*i : 8*i+8])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	out := make([]byte, 8)
	part(0).Encrypt(out, src)
	if len(key) > 8 {
		part(1).Decrypt(out, out)
		part(2).Encrypt(out, out)
	}
	return out
}

func TestAgainstSingleDES(t *testing.T) {
	t.Parallel()
	random := rand.NewChaCha8([32]byte{1})
	for range 300 {
		for _, size := range []int{8, 16, 24} {
			key, src := make([]byte, size), make([]byte, 8)
			_, _ = random.Read(key)
			_, _ = random.Read(src)
			kept := bytes.Clone(key)
			block, err := des.New(key)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 8)
			block.Encrypt(got, src)
			if want := oracle(t, key, src); !bytes.Equal(got, want) {
				t.Fatalf("key %X, block %X: got %X, want %X", key, src, got, want)
			}
			block.Decrypt(got, got)
			if !bytes.Equal(got, src) {
				t.Fatalf("key %X: %X decrypts to %X", key, src, got)
			}
			for i := range key {
				key[i] ^= 1
			}
			other, err := des.New(key)
			if err != nil {
				t.Fatal(err)
			}
			other.Encrypt(got, src)
			if want := oracle(t, kept, src); !bytes.Equal(got, want) {
				t.Fatalf("parity bits of %X count", kept)
			}
		}
	}
}

func TestKeyIsNotKept(t *testing.T) {
	t.Parallel()
	for _, size := range []int{8, 16, 24} {
		key := bytes.Repeat([]byte{0x13, 0x9b, 0x25}, 8)[:size]
		want := oracle(t, key, make([]byte, 8))
		block, err := des.New(key)
		if err != nil {
			t.Fatal(err)
		}
		clear(key)
		got := make([]byte, 8)
		block.Encrypt(got, got)
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes: the cipher changed with the caller's key", size)
		}
		if block.BlockSize() != 8 {
			t.Errorf("block size %d", block.BlockSize())
		}
	}
}

func TestKeyLengths(t *testing.T) {
	t.Parallel()
	for size := range 40 {
		c, err := des.New(make([]byte, size))
		if valid := size == 8 || size == 16 || size == 24; valid != (err == nil) || valid != (c != nil) {
			t.Errorf("%d bytes: %v, %v", size, c != nil, err)
		}
	}
}

func TestWipedCipherPanics(t *testing.T) {
	t.Parallel()
	for _, size := range []int{8, 16, 24} {
		block, err := des.New(bytes.Repeat([]byte{0x13, 0x9b, 0x25}, 8)[:size])
		if err != nil {
			t.Fatal(err)
		}
		block.Wipe()
		block.Wipe()
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%d bytes: a wiped cipher encrypts", size)
				}
			}()
			block.Encrypt(make([]byte, 8), make([]byte, 8))
		}()
	}
	(*des.Cipher)(nil).Wipe()
}

// TestPrintsNothing looks for the key schedule: a cipher must print none of it.
func TestPrintsNothing(t *testing.T) {
	t.Parallel()
	block, err := des.New(bytes.Repeat([]byte{0x13, 0x9b, 0x25}, 8))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{block, *block, []*des.Cipher{block}, struct{ c *des.Cipher }{block}, struct{ c des.Cipher }{*block}, struct{ b cipher.Block }{block}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d", "%t", "%p"} {
			if out := fmt.Sprintf(verb, v); len(out) > 200 || strings.Count(out, " ") > 8 {
				t.Errorf("%s of %T prints %d characters: %.80s", verb, v, len(out), out)
			}
		}
	}
}

func ExampleNew() {
	block, err := des.New([]byte("0123456789abcdef"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer block.Wipe()
	out := make([]byte, des.BlockSize)
	block.Encrypt(out, out)
	fmt.Printf("%X\n", out)
	// Output: 761FD098576A0E80
}

// TestManyBlocks holds the modes against crypto/cipher over single blocks, at lengths around the number of lanes.
func TestManyBlocks(t *testing.T) {
	t.Parallel()
	random := rand.NewChaCha8([32]byte{2})
	for _, size := range []int{8, 16, 24} {
		for _, blocks := range []int{0, 1, 2, 3, des.Lanes - 1, des.Lanes, des.Lanes + 1, 2*des.Lanes + 2} {
			key, iv, plain := make([]byte, size), make([]byte, 8), make([]byte, 8*blocks)
			_, _ = random.Read(key)
			_, _ = random.Read(iv)
			_, _ = random.Read(plain)
			c, err := des.New(key)
			if err != nil {
				t.Fatal(err)
			}
			var ecb, cbc []byte
			before := iv
			for i := range blocks {
				ecb = append(ecb, oracle(t, key, plain[8*i:8*i+8])...)
				x := make([]byte, 8)
				subtle.XORBytes(x, plain[8*i:8*i+8], before)
				before = oracle(t, key, x)
				cbc = append(cbc, before...)
			}
			data := bytes.Clone(plain)
			check := func(how string, want []byte) {
				t.Helper()
				if !bytes.Equal(data, want) {
					t.Fatalf("%s of %d blocks under %d bytes: %X, want %X", how, blocks, size, data, want)
				}
			}
			c.EncryptECB(data)
			check("EncryptECB", ecb)
			c.DecryptECB(data)
			check("DecryptECB", plain)
			c.EncryptCBC(iv, data)
			check("EncryptCBC", cbc)
			c.DecryptCBC(iv, data)
			check("DecryptCBC", plain)
		}
	}
}

// TestEncryptFirst uses the first part of a key alone, and the same cipher for whole TDES.
func TestEncryptFirst(t *testing.T) {
	t.Parallel()
	key, src, got := unhex(t, "0123456789ABCDEFFEDCBA9876543210"), unhex(t, "4E6F772069732074"), make([]byte, 8)
	c, err := des.New(key)
	if err != nil {
		t.Fatal(err)
	}
	c.EncryptFirst(got, src)
	if want := oracle(t, key[:8], src); !bytes.Equal(got, want) {
		t.Errorf("got %X, want %X", got, want)
	}
	c.DecryptEncrypt(got, got)
	if want := oracle(t, key, src); !bytes.Equal(got, want) {
		t.Errorf("both parts: got %X, want %X", got, want)
	}
	if err := c.Reset(key[:8]); err != nil {
		t.Fatal(err)
	}
	if c.DecryptEncrypt(got, src); !bytes.Equal(got, src) {
		t.Errorf("single DES has second and third parts: %X", got)
	}
}

// TestReset gives one cipher keys of all lengths, good and bad, one after the other.
func TestReset(t *testing.T) {
	t.Parallel()
	c, err := des.New(make([]byte, 24))
	if err != nil {
		t.Fatal(err)
	}
	src, got := unhex(t, "4E6F772069732074"), make([]byte, 8)
	for _, size := range []int{16, 8, 24, 16, 8} {
		key := bytes.Repeat([]byte{0x13, 0x9b, 0x25, 0xc4, byte(size)}, 5)[:size]
		if err := c.Reset(key); err != nil {
			t.Fatal(err)
		}
		c.Encrypt(got, src)
		if want := oracle(t, key, src); !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got %X, want %X", size, got, want)
		}
	}
	if err := c.Reset(make([]byte, 9)); err == nil {
		t.Fatal("a key of 9 bytes is taken")
	}
	defer func() {
		if recover() == nil {
			t.Error("the key before lives on after one that was refused")
		}
	}()
	c.Encrypt(got, src)
}
