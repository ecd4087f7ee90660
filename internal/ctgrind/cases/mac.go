package main

import (
	"bytes"
	"crypto/aes"
	"errors"

	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/mac"
	"github.com/latchkey-pos/latchkey/internal/padding"
)

var macCases = []oneCase{
	{"CMAC, AES", caseCMAC},
	{"retail MAC", caseRetail},
	{"CMAC, 2TDEA", caseCMACTDES},
	{"HMAC", caseHMAC},
	{"MACs verified and refused", caseVerify},
	{"paddings taken off and refused", caseUnpad},
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

func caseCMACTDES(m *marks) error {
	c, err := des.New(m.secret(desKey[:16]))
	if err != nil {
		return err
	}
	for _, n := range []int{0, 7, 8, len(message)} {
		if sum := mac.CMAC(nil, c, m.secret(message[:n])); len(sum) != 8 || bytes.Equal(public(sum), message[:8]) {
			return errWrong
		}
	}
	return nil
}

func caseHMAC(m *marks) error {
	var s mac.State
	for _, h := range []mac.Hash{mac.SHA256, mac.SHA384, mac.SHA512} {
		if err := s.SetHMAC(h, m.secret(aesKey)); err != nil {
			return err
		}
		sum, err := s.Append(nil, m.secret(message), h.Size())
		if err != nil {
			return err
		}
		if bytes.Equal(public(sum), make([]byte, len(sum))) {
			return errWrong
		}
	}
	s.Wipe()
	return nil
}

// caseVerify holds MACs that are right, and that are wrong in each of their bytes, against what is computed.
func caseVerify(m *marks) error {
	var s mac.State
	for _, set := range []func() error{
		func() error { return s.SetRetail(m.secret(desKey[:16]), mac.Padding2) },
		func() error { return s.SetHMAC(mac.SHA256, m.secret(aesKey)) },
	} {
		if err := set(); err != nil {
			return err
		}
		sum, err := s.Append(nil, m.secret(message), s.Size())
		if err != nil {
			return err
		}
		good := public(sum)
		if err := s.Verify(m.secret(message), m.secret(good), len(good)); err != nil {
			return err
		}
		for i := range good {
			bad := bytes.Clone(good)
			bad[i] ^= 1
			if !errors.Is(s.Verify(m.secret(message), m.secret(bad), len(bad)), mac.ErrVerify) {
				return errWrong
			}
		}
	}
	s.Wipe()
	return nil
}

// caseUnpad takes paddings off that are right, and refuses those that are wrong in each of their bytes.
func caseUnpad(m *marks) error {
	for _, how := range []padding.Method{padding.ISO9797M2, padding.PKCS7} {
		for n := range 9 {
			padded, err := how.Pad(nil, message[:n], 8)
			if err != nil {
				return err
			}
			plain, err := how.Unpad(m.secret(padded), 8)
			if err != nil {
				return err
			}
			if err := want(bytes.Clone(plain), message[:n]); err != nil { // comparing reads beyond the end
				return err
			}
			bad := bytes.Clone(padded)
			bad[len(bad)-1] ^= 0x55
			if _, err := how.Unpad(m.secret(bad), 8); !errors.Is(err, padding.ErrPadding) {
				return errWrong
			}
		}
	}
	return nil
}
