package dukpt

import (
	"errors"
	"fmt"
	"testing"
)

func TestNames(t *testing.T) {
	t.Parallel()
	checkNames(t, ParseDirection, Request, Response, Both)
	checkNames(t, ParseDataProfile, DataOneWay, DataMask, DataPINVariant, DataBareKey)
	checkNames(t, ParseCipherMode, CBC, ECB)
	checkNames(t, ParseMACAlgorithm, MACRetail, MACCMAC, MACCBC, MACHMACSHA256, MACHMACSHA384, MACHMACSHA512)
	checkNames(t, ParseMACPadding, MACPadding1, MACPadding2, MACPadding3)
	checkNames(t, ParseWorkingKey, KeyTDES2, KeyTDES3, KeyAES128, KeyAES192, KeyAES256, KeyHMAC128, KeyHMAC192, KeyHMAC256)
	checkNames(t, ParseScheme, TDES, AES)
	if got := fmt.Sprint(MACRetail, MACCMAC, MACCBC, MACHMACSHA256); got != "ISO9797_ALGORITHM3 CMAC ISO9797_ALGORITHM1 HMAC_SHA256" {
		t.Errorf("MAC algorithms are called %s", got)
	}
	for p := NoPadding; p <= PKCS7Padding; p++ {
		if got, err := ParseDataPadding(p.String()); err != nil || got != p {
			t.Errorf("padding %d is called %q, which reads as %d, %v", p, p.String(), got, err)
		}
	}
	if got := fmt.Sprint(NoPadding, ZeroPadding, ISO9797M2Padding, PKCS7Padding); got != "none zero iso9797-method2 pkcs7" {
		t.Errorf("data paddings are called %s", got)
	}
	for _, s := range []string{"", "None", "DataPadding(4)", (PKCS7Padding + 1).String()} {
		if got, err := ParseDataPadding(s); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%q reads as %v, %v", s, got, err)
		}
	}
}

// checkNames takes each value through its name. The value 0 has one too, which nothing reads.
func checkNames[T interface {
	~uint8
	fmt.Stringer
}](t *testing.T, parse func(string) (T, error), values ...T) {
	t.Helper()
	for i, v := range values {
		if got, err := parse(v.String()); err != nil || got != v || int(v) != i+1 {
			t.Errorf("%T %d is called %q, which reads as %d, %v", v, v, v.String(), got, err)
		}
	}
	for _, s := range []string{"", T(0).String(), T(len(values) + 1).String(), "x"} {
		if got, err := parse(s); err == nil {
			t.Errorf("%q reads as %v", s, got)
		}
	}
}

func TestDefaultsAreValid(t *testing.T) {
	t.Parallel()
	for _, s := range []Scheme{TDES, AES} {
		if err := s.DefaultMAC().Validate(s); err != nil {
			t.Error(err)
		}
		if err := s.DefaultData().Validate(s); err != nil {
			t.Error(err)
		}
	}
	var none Scheme
	if none.DefaultMAC().Validate(none) == nil || none.DefaultData().Validate(none) == nil || none.MaxOrdinal() != 0 {
		t.Error("no scheme has defaults")
	}
}

// TestValidateRefuses: Validate itself refuses what the methods would refuse later.
func TestValidateRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		scheme Scheme
		change func(*DataSpec)
	}{
		"direction 0": {TDES, func(s *DataSpec) { s.Direction = 0 }}, "direction 4": {AES, func(s *DataSpec) { s.Direction = Both + 1 }},
		"profile 0": {TDES, func(s *DataSpec) { s.Profile = 0 }}, "profile 5": {TDES, func(s *DataSpec) { s.Profile = DataBareKey + 1 }},
		"profile under AES": {AES, func(s *DataSpec) { s.Profile = DataOneWay }}, "padding 4": {AES, func(s *DataSpec) { s.Padding = PKCS7Padding + 1 }},
	} {
		s := c.scheme.DefaultData()
		c.change(&s)
		if err := s.Validate(c.scheme); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v, want ErrUnsupported", name, err)
		}
	}
}
