package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"

	"github.com/latchkey-pos/latchkey/pin"
)

var pinCases = []oneCase{
	{"PIN parsed", caseParsePIN},
	{"PIN of other than digits refused", caseBadPIN},
	{"blocks of formats 0 to 3", caseClearBlocks},
	{"blocks of formats 0 to 3 refused", caseBadClearBlocks},
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

// clearFormats are those whose blocks are put together without a cipher.
var clearFormats = []pin.Format{pin.Format0, pin.Format1, pin.Format2, pin.Format3}

// clearBlock returns a clear block, made of a marked PIN.
func clearBlock(m *marks, f pin.Format) ([]byte, pin.PAN, error) {
	pan, err := samplePAN()
	if err != nil {
		return nil, pan, err
	}
	p, err := pin.ParsePIN(m.secret(digits))
	if err != nil {
		return nil, pan, err
	}
	block, err := f.Append(nil, p, pan, pin.Fill{})
	return block, pan, err
}

func caseClearBlocks(m *marks) error {
	for _, f := range clearFormats {
		block, pan, err := clearBlock(m, f)
		if err != nil {
			return err
		}
		o := pin.NewOpened()
		if err := f.Decode(&o, m.secret(public(block)), pan); err != nil {
			return err
		}
		if f == pin.Format2 { // goes nowhere
			continue
		}
		if err := moved(m, o, pan); err != nil {
			return err
		}
	}
	return nil
}

// moved puts a PIN that came out of a block into one of format 4, which must be that of the digits.
func moved(m *marks, o pin.Opened, pan pin.PAN) error {
	c, err := aes.NewCipher(m.secret(aesKey))
	if err != nil {
		return err
	}
	got, err := o.Encrypt(nil, pin.Side{Format: pin.Format4, PAN: pan, Cipher: c}, pin.Fill{})
	if err != nil {
		return err
	}
	p, err := pin.ParsePIN(m.secret(digits))
	if err != nil {
		return err
	}
	block, err := pin.EncryptFormat4(nil, c, p, pan, pin.Fill{})
	if err != nil {
		return err
	}
	return want(got, public(block))
}

// caseBadClearBlocks spoils the control nibble, and where a format has them the digits under the PAN and the fill.
func caseBadClearBlocks(m *marks) error {
	for _, f := range clearFormats {
		block, pan, err := clearBlock(m, f)
		if err != nil {
			return err
		}
		places := []int{0, 4, 7}
		if f == pin.Format1 { // its fill may be anything
			places = places[:1]
		}
		for _, i := range places {
			bad := public(bytes.Clone(block))
			bad[i] ^= 0xCC
			o := pin.NewOpened()
			if err := f.Decode(&o, m.secret(bad), pan); !errors.Is(err, pin.ErrBlock) {
				return errWrong
			}
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
	o, err := pin.DecryptFormat4(c, block, pan)
	if err != nil {
		return err
	}
	return moved(m, o, pan)
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
