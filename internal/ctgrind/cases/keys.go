package main

import (
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/internal/ctgrind"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
)

var keyCases = []oneCase{
	{"KCV, 2TDEA", caseKCVTDES},
	{"KCV, AES", caseKCVAES},
	{"KCV, HMAC", caseKCVHMAC},
	{"check values of all kinds", caseCheckValues},
	{"key imported, TDES", caseImport},
	{"key split and combined", caseComponents},
	{"component typed", caseTyped},
	{"fingerprint", caseFingerprint},
	{"secrets compared", caseEqual},
}

func newKey(m *marks, a keys.Algorithm, u keys.Usage, mode keys.Mode, raw []byte) (keys.Key, error) {
	return keys.NewKey(keys.Attributes{Algorithm: a, Usage: u, Mode: mode, Exportability: keys.Exportable}, m.secret(raw))
}

func caseKCVTDES(m *marks) error {
	return kcv(m, keys.TDES2, keys.UsageBDK, keys.ModeDerive, desKey[:16], "08D7B4")
}

func caseKCVAES(m *marks) error {
	return kcv(m, keys.AES128, keys.UsageBDK, keys.ModeDerive, aesKey, "FF0BD7C455")
}

func caseKCVHMAC(m *marks) error {
	return kcv(m, keys.HMAC128, keys.UsageHMAC, keys.ModeGenVerify, aesKey, "5C71DB")
}

func kcv(m *marks, a keys.Algorithm, u keys.Usage, mode keys.Mode, raw []byte, expected string) error {
	k, err := newKey(m, a, u, mode, raw)
	if err != nil {
		return err
	}
	defer k.Wipe()
	value := k.KCV()
	ctgrind.PublicValue(&value)
	if text := value.String(); text != expected {
		return fmt.Errorf("%w: %s, not %s", errWrong, text, expected)
	}
	return nil
}

func caseCheckValues(m *marks) error {
	for _, c := range []struct {
		a     keys.Algorithm
		raw   []byte
		value string
	}{
		{keys.TDES2, desKey[:16], "legacy:08D7B4"}, {keys.TDES2, desKey[:16], "cmac:0A82458664"},
		{keys.AES128, aesKey, "legacy:ED6429"}, {keys.AES128, aesKey, "cmac:FF0BD7C455"}, {keys.AES128, aesKey, "cmac-short:FF0BD7"},
	} {
		part, err := keys.NewComponent(c.a, m.secret(c.raw))
		if err != nil {
			return err
		}
		expected, err := keys.ParseCheckValue(c.value)
		if err != nil {
			return err
		}
		if err := part.Verify(expected); err != nil {
			return fmt.Errorf("%v: %w", expected, err)
		}
	}
	return nil
}

func caseImport(m *marks) error {
	a := keys.Attributes{Algorithm: keys.TDES2, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.Exportable}
	for _, p := range []keys.Parity{keys.ParityAdjusted, keys.ParityRequired, keys.ParityIgnored} {
		k, err := keys.ImportKey(a, p, m.secret(desKey[:16]))
		if err != nil {
			return err
		}
		if err := want(k.Material().Expose(), desKey[:16]); err != nil {
			return err
		}
	}
	if _, err := keys.ImportKey(a, keys.ParityIgnored, m.secret(append(desKey[:8:8], desKey[:8]...))); !errors.Is(err, keys.ErrWeak) {
		return errWrong
	}
	return nil
}

func caseComponents(m *marks) error {
	for _, a := range []keys.Algorithm{keys.TDES2, keys.AES128} {
		raw := desKey[:16]
		if a.IsAES() {
			raw = aesKey
		}
		k, err := newKey(m, a, keys.UsageBDK, keys.ModeDerive, raw)
		if err != nil {
			return err
		}
		sheets, err := keys.Split(k, keys.ParityAdjusted, 3)
		if err != nil {
			return err
		}
		back, err := keys.Combine(k.Attributes(), keys.ParityRequired, sheets)
		if err != nil {
			return err
		}
		if err := want(back.Material().Expose(), raw); err != nil {
			return err
		}
	}
	return nil
}

func caseTyped(m *marks) error {
	for _, digits := range []string{"0123456789abcdefFEDCBA9876543210", "0123 4567 89AB CDEF fedc ba98 7654 3210"} {
		part, err := keys.ParseComponent(keys.TDES2, m.secret([]byte(digits)))
		if err != nil {
			return err
		}
		s := keys.Sheet{Number: 1, Of: 2, Component: part}
		if s.CheckValue, err = part.CheckValue(keys.KCVLegacy); err != nil {
			return err
		}
		text, err := s.Text()
		if err != nil {
			return err
		}
		expected := "component: 1 of 2\nalgorithm: 2TDEA\nvalue: 0123 4567 89AB CDEF FEDC BA98 7654 3210\nkcv: legacy:08D7B4\n"
		if err := want(text.Expose(), []byte(expected)); err != nil {
			return err
		}
	}
	return nil
}

func caseFingerprint(m *marks) error {
	fpKey := secret.From(m.secret(aesKey))
	var prints [2]keys.Fingerprint
	for i, raw := range [][]byte{desKey[:16], append(desKey[:16:16], desKey[:8]...)} {
		k, err := newKey(m, []keys.Algorithm{keys.TDES2, keys.TDES3}[i], keys.UsageBDK, keys.ModeDerive, raw)
		if err != nil {
			return err
		}
		prints[i] = k.Fingerprint(fpKey)
		ctgrind.PublicValue(&prints[i])
	}
	if prints[0] != prints[1] || prints[0].IsZero() {
		return errWrong
	}
	return nil
}

func caseEqual(m *marks) error {
	other := m.secret(aesKey)
	other[3] ^= 1
	a, b, c := secret.From(m.secret(aesKey)), secret.From(m.secret(aesKey)), secret.From(other)
	if !a.Equal(b) || a.Equal(c) {
		return errWrong
	}
	return nil
}
