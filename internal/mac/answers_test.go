package mac_test

import (
	"bytes"
	"crypto/aes"
	stdhmac "crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/mac"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wants compares the left bytes of a MAC with a published value.
func wants(t *testing.T, name string, s *mac.State, msg []byte, want string) {
	t.Helper()
	got, err := s.Append(nil, msg, s.Size())
	if err != nil || !strings.HasPrefix(hex.EncodeToString(got), want) {
		t.Errorf("%s: got %x, %v, want %s", name, got, err, want)
	}
}

// nist is the message of the examples of SP 800-38B and RFC 4493.
const nist = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"

func TestCMACAnswers(t *testing.T) {
	t.Parallel()
	msg := unhex(t, nist)
	for _, c := range []struct {
		source, key string
		macs        map[int]string // by length of the message in bytes
	}{
		{"RFC 4493, section 4", "2b7e151628aed2a6abf7158809cf4f3c", map[int]string{
			0: "bb1d6929e95937287fa37d129b756746", 16: "070a16b46b4d4144f79bdd9dd04a287c",
			40: "dfa66747de9ae63030ca32611497c827", 64: "51f0bebf7e3b9d92fc49741779363cfe",
		}},
		{"SP 800-38B, AES-192", "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b", map[int]string{
			0: "d17ddf46adaacde531cac483de7a9367", 16: "9e99a7bf31e710900662f65e617c5184",
			40: "8a1de5be2eb31aad089a82e6ee908b0e", 64: "a1d5df0eed790f794d77589659f39a11",
		}},
		{"SP 800-38B, AES-256", "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", map[int]string{
			0: "028962f61b7bf89efc6b551f4667d983", 16: "28a7023f452e8f82bd4bf28d8c37c35c",
			40: "aaf3d8f1de5640c232f5b169b9c911e6", 64: "e1992190549f6ed5696a2c056c315410",
		}},
	} {
		b, err := aes.NewCipher(unhex(t, c.key))
		if err != nil {
			t.Fatal(err)
		}
		var s mac.State
		if err := s.SetCMAC(b); err != nil {
			t.Fatal(err)
		}
		for n, want := range c.macs {
			wants(t, c.source, &s, msg[:n], want)
		}
	}
	for _, c := range []struct {
		source, key string
		macs        map[int]string
	}{
		{"SP 800-38B, three-key TDEA", "8aa83bf8cbda10620bc1bf19fbb6cd58bc313d4a371ca8b5", map[int]string{
			0: "b7a688e122ffaf95", 8: "8e8f293136283797", 20: "743ddbe0ce2dc2ed", 32: "33e6b1092400eae5",
		}},
		{"SP 800-38B, two-key TDEA", "4cf15134a2850dd58a3d10ba80570d38", map[int]string{
			0: "bd2ebf9a3ba00361", 8: "4ff2ab813c53ce83", 20: "62dd1b471902bd4e", 32: "31b1e431dabc4eb8",
		}},
	} {
		b, err := des.New(unhex(t, c.key))
		if err != nil {
			t.Fatal(err)
		}
		var s mac.State
		if err := s.SetCMAC(b); err != nil {
			t.Fatal(err)
		}
		for n, want := range c.macs {
			wants(t, c.source, &s, msg[:n], want)
		}
	}
}

// TestISO9797Answers: the samples of the annex for algorithm 1 under single DES, and of X9.19 in common test suites.
func TestISO9797Answers(t *testing.T) {
	t.Parallel()
	b, err := des.New(unhex(t, "0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	var s mac.State
	if err := s.SetCBC(b, mac.Padding1); err != nil {
		t.Fatal(err)
	}
	wants(t, "ISO 9797-1 algorithm 1", &s, []byte("Now is the time for all "), "70a30640cc76dd8b")
	if err := s.SetRetail(unhex(t, "0123456789abcdeffedcba9876543210"), mac.Padding1); err != nil {
		t.Fatal(err)
	}
	wants(t, "ISO 9797-1 algorithm 3", &s, []byte("Now is the time for all "), "a1c72e74ea3fa9b6")
	if err := s.SetRetail(unhex(t, "7ca110454a1a6e570131d9619dc1376e"), mac.Padding1); err != nil {
		t.Fatal(err)
	}
	wants(t, "X9.19", &s, []byte("Hello World !!!!"), "f09b856213bab83b")
}

var hashes = map[mac.Hash]func() hash.Hash{mac.SHA256: sha256.New, mac.SHA384: sha512.New384, mac.SHA512: sha512.New}

// TestHMACAnswers: RFC 4231, section 4.
func TestHMACAnswers(t *testing.T) {
	t.Parallel()
	repeat := func(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }
	for _, c := range []struct {
		name     string
		key, msg []byte
		macs     map[mac.Hash]string
	}{
		{"case 1", repeat(0x0b, 20), []byte("Hi There"), map[mac.Hash]string{
			mac.SHA256: "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
			mac.SHA384: "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6",
			mac.SHA512: "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
		}},
		{"case 2", []byte("Jefe"), []byte("what do ya want for nothing?"), map[mac.Hash]string{
			mac.SHA256: "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
			mac.SHA384: "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
			mac.SHA512: "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
		}},
		{"case 3", repeat(0xaa, 20), repeat(0xdd, 50), map[mac.Hash]string{
			mac.SHA256: "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
		}},
		{"case 5, cut to 128 bits", repeat(0x0c, 20), []byte("Test With Truncation"), map[mac.Hash]string{
			mac.SHA256: "a3b6167473100ee06e0c796c2955552b",
			mac.SHA384: "3abf34c3503b2a23a46efc619baef897",
			mac.SHA512: "415fad6271580a531d4179bc891d87a6",
		}},
		{"case 6", repeat(0xaa, 131), []byte("Test Using Larger Than Block-Size Key - Hash Key First"), map[mac.Hash]string{
			mac.SHA256: "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
			mac.SHA384: "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c60c2ef6ab4030fe8296248df163f44952",
			mac.SHA512: "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
		}},
	} {
		var s mac.State
		for h, want := range c.macs {
			if err := s.SetHMAC(h, c.key); err != nil {
				t.Fatal(err)
			}
			wants(t, c.name, &s, c.msg, want)
		}
	}
}

// TestHMACAgainstStandardLibrary goes through the lengths of key and message where blocks end.
func TestHMACAgainstStandardLibrary(t *testing.T) {
	t.Parallel()
	random := rand.NewChaCha8([32]byte{3})
	var s mac.State
	for h, newHash := range hashes {
		if h.Size() != newHash().Size() {
			t.Errorf("hash %d has %d bytes, want %d", h, h.Size(), newHash().Size())
		}
		for _, keyBytes := range []int{1, 15, 16, 24, 32, 63, 64, 65, 127, 128, 129, 255, 256, 257, 300} {
			key := make([]byte, keyBytes)
			_, _ = random.Read(key)
			if err := s.SetHMAC(h, key); err != nil {
				t.Fatal(err)
			}
			for _, n := range []int{0, 1, 55, 56, 63, 64, 65, 111, 112, 127, 128, 129, 256, 1000} {
				msg := make([]byte, n)
				_, _ = random.Read(msg)
				oracle := stdhmac.New(newHash, key)
				oracle.Write(msg)
				want := oracle.Sum(nil)
				if got, err := s.Append(nil, msg, s.Size()); err != nil || !bytes.Equal(got, want) {
					t.Fatalf("hash %d, key of %d bytes, message of %d: got %X, %v, want %X", h, keyBytes, n, got, err, want)
				}
			}
		}
	}
	if mac.Hash(0).Size() != 0 || mac.Hash(4).Size() != 0 {
		t.Error("an unknown hash has a size")
	}
}

func ExampleState() {
	key := []byte("0123456789abcdef")
	var s mac.State
	if err := s.SetHMAC(mac.SHA256, key); err != nil {
		fmt.Println(err)
		return
	}
	defer s.Wipe()
	sum, err := s.Append(nil, []byte("amount 12.34"), 16)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(sum), s.Verify([]byte("amount 12.34"), sum, 16))
	fmt.Println(s.Verify([]byte("amount 99.99"), sum, 16))
	fmt.Println(s.Verify([]byte("amount 12.34"), sum[:4], 16))
	// Output:
	// 16 <nil>
	// mac: does not verify
	// mac: does not verify
}
