package mac_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	stddes "crypto/des"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/mac"
)

// pad is ISO/IEC 9797-1, 6.3, written down a second time: the whole message is padded first, to at least one block.
func pad(msg []byte, size int, p mac.Padding) []byte {
	out := bytes.Clone(msg)
	if p == mac.Padding2 {
		out = append(out, 0x80)
	}
	for len(out)%size != 0 || len(out) == 0 {
		out = append(out, 0)
	}
	if p == mac.Padding3 {
		front := make([]byte, size, size+len(out))
		binary.BigEndian.PutUint64(front[size-8:], uint64(8*len(msg)))
		out = append(front, out...)
	}
	return out
}

// cbcLast is the last block of the standard library's CBC.
func cbcLast(b cipher.Block, padded []byte) []byte {
	out := make([]byte, len(padded))
	cipher.NewCBCEncrypter(b, make([]byte, b.BlockSize())).CryptBlocks(out, padded)
	return out[len(out)-b.BlockSize():]
}

// cmac is NIST SP 800-38B, 6.2 with the subkeys by big integers.
func cmac(b cipher.Block, msg []byte) []byte {
	size := b.BlockSize()
	constant := map[int]int64{8: 0x1b, 16: 0x87}[size]
	zero := make([]byte, size)
	b.Encrypt(zero, zero)
	subkey := new(big.Int).SetBytes(zero)
	double := func() {
		subkey.Lsh(subkey, 1)
		if subkey.Bit(8*size) == 1 {
			subkey.SetBit(subkey, 8*size, 0)
			subkey.Xor(subkey, big.NewInt(constant))
		}
	}
	double()
	padded := bytes.Clone(msg)
	if len(msg) == 0 || len(msg)%size != 0 {
		double()
		padded = pad(msg, size, mac.Padding2)
	}
	mask := make([]byte, size)
	subkey.FillBytes(mask)
	last := padded[len(padded)-size:]
	for i := range last {
		last[i] ^= mask[i]
	}
	return cbcLast(b, padded)
}

func TestAgainstStandardLibrary(t *testing.T) {
	t.Parallel()
	random := rand.NewChaCha8([32]byte{2})
	key, data := make([]byte, 32), make([]byte, 100)
	for length := range data {
		_, _ = random.Read(key)
		_, _ = random.Read(data)
		msg := data[:length:length]
		kept := bytes.Clone(msg)
		long, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		short, err := stddes.NewTripleDESCipher(key[:24])
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range []cipher.Block{long, short} {
			if got, want := mac.CMAC(nil, b, msg), cmac(b, msg); !bytes.Equal(got, want) {
				t.Fatalf("CMAC with blocks of %d of %X: got %X, want %X", b.BlockSize(), msg, got, want)
			}
			for p := mac.Padding1; p <= mac.Padding3; p++ {
				got, err := mac.CBC(nil, b, msg, p)
				if want := cbcLast(b, pad(msg, b.BlockSize(), p)); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("CBC with blocks of %d, padding %d, of %X: got %X, %v, want %X", b.BlockSize(), p, msg, got, err, want)
				}
			}
		}
		for p := mac.Padding1; p <= mac.Padding3; p++ {
			for _, key := range [][]byte{key[:16], key[:24]} {
				got, err := mac.Retail(nil, key, msg, p)
				if want := retail(t, key, msg, p); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("retail MAC, padding %d, of %X: got %X, %v, want %X", p, msg, got, err, want)
				}
			}
		}
		if !bytes.Equal(msg, kept) {
			t.Fatalf("the message became %X, was %X", msg, kept)
		}
	}
}

// retail is ISO/IEC 9797-1 algorithm 3 on crypto/des.
func retail(t *testing.T, key, msg []byte, p mac.Padding) []byte {
	t.Helper()
	left, err := stddes.NewCipher(key[:8])
	if err != nil {
		t.Fatal(err)
	}
	right, err := stddes.NewCipher(key[8:16])
	if err != nil {
		t.Fatal(err)
	}
	end, err := stddes.NewCipher(append(bytes.Clone(key), key[:8]...)[16:24])
	if err != nil {
		t.Fatal(err)
	}
	out := cbcLast(left, pad(msg, 8, p))
	right.Decrypt(out, out)
	end.Encrypt(out, out)
	return out
}

// TestEveryByteCounts: with any bit of key or message changed, the MAC is another one.
func TestEveryByteCounts(t *testing.T) {
	t.Parallel()
	key, msg := []byte("0123456789abcdef"), []byte("a message of forty bytes, give or take..")
	sums := func(key, msg []byte) [][]byte {
		b, err := aes.NewCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		one, err := mac.Retail(nil, key, msg, mac.Padding2)
		if err != nil {
			t.Fatal(err)
		}
		two, err := mac.CBC(nil, b, msg, mac.Padding2)
		if err != nil {
			t.Fatal(err)
		}
		return [][]byte{one, two, mac.CMAC(nil, b, msg)}
	}
	want := sums(key, msg)
	for i := range len(key) + len(msg) {
		k, m := bytes.Clone(key), bytes.Clone(msg)
		if i < len(key) {
			k[i] ^= 0x10
		} else {
			m[i-len(key)] ^= 0x01
		}
		for j, got := range sums(k, m) {
			if bytes.Equal(got, want[j]) {
				t.Errorf("byte %d does not count in MAC %d", i, j)
			}
		}
	}
}

func TestUnknownPadding(t *testing.T) {
	t.Parallel()
	b, err := des.New(make([]byte, 8))
	if err != nil {
		t.Fatal(err)
	}
	for _, length := range []int{0, 7, 8, 16} {
		for _, p := range []mac.Padding{0, 4, 255} {
			if got, err := mac.CBC(nil, b, make([]byte, length), p); !errors.Is(err, mac.ErrPadding) || got != nil {
				t.Errorf("CBC of %d bytes with padding %d: %X, %v", length, p, got, err)
			}
			if got, err := mac.Retail(nil, []byte("0123456789abcdef"), make([]byte, length), p); !errors.Is(err, mac.ErrPadding) || got != nil {
				t.Errorf("retail MAC of %d bytes with padding %d: %X, %v", length, p, got, err)
			}
		}
	}
	for length := range 40 {
		_, err := mac.Retail(nil, make([]byte, length), nil, mac.Padding1)
		if (err == nil) != (length == 16 || length == 24) || err != nil && !errors.Is(err, mac.ErrKey) {
			t.Errorf("retail MAC under %d bytes: %v", length, err)
		}
	}
}

func ExampleCMAC() {
	block, err := aes.NewCipher([]byte("0123456789abcdef"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(mac.CMAC(nil, block, []byte("4012345678909D987"))))
	// Output: 16
}

// The sample of ISO/IEC 9797-1:2011, annex B.4.
func ExampleRetail() {
	key := []byte("\x01\x23\x45\x67\x89\xab\xcd\xef\xfe\xdc\xba\x98\x76\x54\x32\x10")
	sum, err := mac.Retail(nil, key, []byte("Now is the time for all "), mac.Padding1)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%X\n", sum)
	// Output: A1C72E74EA3FA9B6
}
