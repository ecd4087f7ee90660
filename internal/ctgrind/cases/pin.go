package main

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"

	"github.com/latchkey-pos/latchkey/pin"
)

var pinCases = []oneCase{
	{"PIN parsed", caseParsePIN},
	{"PIN of other than digits refused", caseBadPIN},
	{"format 0 block", caseFormat0},
	{"format 0 block refused", caseBadFormat0},
	{"format 4 block", caseFormat4},
	{"format 4 block refused", caseBadFormat4},
}

var digits = []byte("92631")

func samplePAN() (pin.PAN, error) { return pin.ParsePAN("4111111111111111") }

func caseParsePIN(m *marks) error {
	p, err := pin.ParsePIN(m.secret(digits))
	if err != nil {
		return err
	}
	p.Wipe()
	return nil
}

func caseBadPIN(m *marks) error {
	if _, err := pin.ParsePIN(m.secret([]byte("12x45"))); err == nil {
		return errWrong
	}
	return nil
}

// format0 returns a clear block of format 0, made of a marked PIN.
func format0(m *marks) ([]byte, pin.PAN, error) {
	pan, err := samplePAN()
	if err != nil {
		return nil, pan, err
	}
	p, err := pin.ParsePIN(m.secret(digits))
	if err != nil {
		return nil, pan, err
	}
	block, err := pin.AppendFormat0(nil, p, pan)
	return block, pan, err
}

func caseFormat0(m *marks) error {
	block, pan, err := format0(m)
	if err != nil {
		return err
	}
	p, err := pin.DecodeFormat0(m.secret(public(block)), pan)
	if err != nil {
		return err
	}
	again, err := pin.AppendFormat0(nil, p, pan)
	if err != nil {
		return err
	}
	return want(again, block)
}

// caseBadFormat0 spoils each byte of a block but those that hold the PIN.
func caseBadFormat0(m *marks) error {
	block, pan, err := format0(m)
	if err != nil {
		return err
	}
	for _, i := range []int{0, 4, 7} {
		bad := public(block)
		bad[i] ^= 0x33
		if _, err := pin.DecodeFormat0(m.secret(bad), pan); !errors.Is(err, pin.ErrBlock) {
			return errWrong
		}
	}
	return nil
}

// format4 returns an encrypted block of format 4, made of a marked PIN under a marked key.
func format4(m *marks) ([]byte, cipher.Block, pin.PAN, error) {
	pan, err := samplePAN()
	if err != nil {
		return nil, nil, pan, err
	}
	c, err := aes.NewCipher(m.secret(aesKey))
	if err != nil {
		return nil, nil, pan, err
	}
	p, err := pin.ParsePIN(m.secret(digits))
	if err != nil {
		return nil, nil, pan, err
	}
	block, err := pin.EncryptFormat4(nil, c, p, pan, [8]byte{})
	return public(block), c, pan, err
}

func caseFormat4(m *marks) error {
	block, c, pan, err := format4(m)
	if err != nil {
		return err
	}
	p, err := pin.DecryptFormat4(c, block, pan)
	if err != nil {
		return err
	}
	again, err := pin.EncryptFormat4(nil, c, p, pan, [8]byte{})
	if err != nil {
		return err
	}
	return want(again, block)
}

func caseBadFormat4(m *marks) error {
	block, c, pan, err := format4(m)
	if err != nil {
		return err
	}
	for i := range block {
		block[i] ^= 1
		if _, err := pin.DecryptFormat4(c, block, pan); !errors.Is(err, pin.ErrBlock) {
			return errWrong
		}
		block[i] ^= 1
	}
	return nil
}
