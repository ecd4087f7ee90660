// Command bare is what the program dukpt is measured against: a terminal that has the ciphers of the standard library and
// no key management.
package main

import (
	"crypto/aes"
	"crypto/des"
	"os"
)

func main() {
	key := make([]byte, 24)
	if _, err := os.Stdin.Read(key); err != nil {
		os.Exit(1)
	}
	one, err := aes.NewCipher(key[:16])
	if err != nil {
		os.Exit(1)
	}
	two, err := des.NewTripleDESCipher(key)
	if err != nil {
		os.Exit(1)
	}
	one.Encrypt(key, key)
	two.Encrypt(key, key)
	_, _ = os.Stdout.Write(key)
}
