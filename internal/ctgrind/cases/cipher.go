package main

import (
	"bytes"

	"github.com/latchkey-pos/latchkey/internal/des"
)

var cipherCases = []oneCase{
	{"DES", caseDES},
	{"2TDEA", case2TDEA},
	{"3TDEA", case3TDEA},
}

var (
	desKey = []byte("\x01\x23\x45\x67\x89\xab\xcd\xef\xfe\xdc\xba\x98\x76\x54\x32\x10\x89\xab\xcd\xef\x01\x23\x45\x67")
	aesKey = []byte("\xfe\xdc\xba\x98\x76\x54\x32\x10\xf1\xf1\xf1\xf1\xf1\xf1\xf1\xf1")
	clear8 = []byte("Now is t")
)

func caseDES(m *marks) error   { return underDES(m, desKey[:8]) }
func case2TDEA(m *marks) error { return underDES(m, desKey[:16]) }
func case3TDEA(m *marks) error { return underDES(m, desKey) }

// underDES encrypts and decrypts a secret block under a secret key.
func underDES(m *marks, key []byte) error {
	c, err := des.New(m.secret(key))
	if err != nil {
		return err
	}
	defer c.Wipe()
	block := m.secret(clear8)
	c.Encrypt(block, block)
	if bytes.Equal(public(bytes.Clone(block)), clear8) {
		return errWrong
	}
	c.Decrypt(block, block)
	if err := want(block, clear8); err != nil {
		return err
	}
	return manyUnder(m, c)
}

// manyUnder works on as many blocks as go in lanes.
func manyUnder(m *marks, c *des.Cipher) error {
	plain := bytes.Repeat(clear8, 6)
	data := m.secret(plain)
	c.EncryptECB(data)
	if bytes.Equal(public(bytes.Clone(data)), plain) {
		return errWrong
	}
	c.DecryptECB(data)
	c.EncryptCBC(clear8, data)
	c.DecryptCBC(clear8, data)
	return want(data, plain)
}
