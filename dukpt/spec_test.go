package dukpt

import (
	"fmt"
	"testing"
)

func TestNames(t *testing.T) {
	t.Parallel()
	checkNames(t, ParseDirection, Request, Response, Both)
	checkNames(t, ParseDataProfile, DataOneWay, DataMask, DataPINVariant, DataBareKey)
	checkNames(t, ParseCipherMode, CBC, ECB)
	checkNames(t, ParseMACAlgorithm, MACRetail, MACCMAC)
	checkNames(t, ParseMACPadding, MACPadding1, MACPadding2)
	checkNames(t, ParseWorkingKey, KeyTDES2, KeyTDES3, KeyAES128, KeyAES192, KeyAES256, KeyHMAC128, KeyHMAC192, KeyHMAC256)
	checkNames(t, ParseScheme, TDES, AES)
	if got := MACRetail.String() + " " + MACCMAC.String(); got != "ISO9797_ALGORITHM3 CMAC" {
		t.Errorf("MAC algorithms are called %s", got)
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
