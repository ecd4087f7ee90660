package main

import (
	"bytes"
	"crypto/aes"

	"github.com/latchkey-pos/latchkey/internal/mac"
)

var macCases = []oneCase{
	{"CMAC, AES", caseCMAC},
	{"retail MAC", caseRetail},
}

var message = []byte("a message of some more than two blocks of AES")

func caseCMAC(m *marks) error {
	c, err := aes.NewCipher(m.secret(aesKey))
	if err != nil {
		return err
	}
	for _, n := range []int{0, 15, 16, len(message)} {
		if sum := mac.CMAC(nil, c, m.secret(message[:n])); len(sum) != 16 || bytes.Equal(public(sum), message[:16]) {
			return errWrong
		}
	}
	return nil
}

func caseRetail(m *marks) error {
	for _, p := range []mac.Padding{mac.Padding1, mac.Padding2, mac.Padding3} {
		sum, err := mac.Retail(nil, m.secret(desKey[:16]), m.secret(message), p)
		if err != nil {
			return err
		}
		if bytes.Equal(public(sum), message[:8]) {
			return errWrong
		}
	}
	return nil
}
