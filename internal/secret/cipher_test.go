package secret_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"reflect"
	"testing"
	"unsafe"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// TestWipeCipher looks into the memory of the standard library's ciphers before and after.
func TestWipeCipher(t *testing.T) {
	t.Parallel()
	block := func(c cipher.Block, err error) cipher.Block {
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	key := bytes.Repeat([]byte{0x13, 0x9b, 0x25, 0xc4}, 8)
	for name, c := range map[string]any{
		"AES-128": block(aes.NewCipher(key[:16])), "AES-192": block(aes.NewCipher(key[:24])), "AES-256": block(aes.NewCipher(key)),
		"CBC encryption": cipher.NewCBCEncrypter(block(aes.NewCipher(key)), key[:16]),
		"CBC decryption": cipher.NewCBCDecrypter(block(aes.NewCipher(key)), key[:16]),
		"GCM":            gcm(t, block(aes.NewCipher(key))),
		"DES":            block(des.NewCipher(key[:8])), "TDES": block(des.NewTripleDESCipher(key[:24])),
	} {
		v := reflect.ValueOf(c)
		if v.Kind() != reflect.Pointer {
			t.Fatalf("%s: the standard library's cipher is a %v: WipeCipher does not reach it", name, v.Kind())
		}
		memory := unsafe.Slice((*byte)(v.UnsafePointer()), v.Type().Elem().Size())
		if len(memory) < 16*8 || bytes.Count(memory, []byte{0}) > len(memory)*3/4 {
			t.Fatalf("%s: no key schedule in %d bytes before", name, len(memory))
		}
		secret.WipeCipher(c)
		if !bytes.Equal(memory, make([]byte, len(memory))) {
			t.Errorf("%s: WipeCipher left some of the schedule", name)
		}
	}
}

// gcm holds a copy of the schedule, and the multiples of the hash key.
func gcm(t *testing.T, c cipher.Block) cipher.AEAD {
	t.Helper()
	aead, err := cipher.NewGCM(c)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

func TestWipeNoCipher(t *testing.T) {
	t.Parallel()
	secret.WipeCipher(nil)
	secret.WipeCipher((*int)(nil))
	secret.WipeCipher(struct{ cipher.Block }{}) // not a pointer: nothing that could be reached
}

func TestPublic(t *testing.T) {
	t.Parallel()
	if secret.Public(7) != 7 || secret.Public(byte(0xff)) != 0xff || secret.Public(uint16(0x102)) != 0x102 {
		t.Error("Public changes its argument")
	}
}
