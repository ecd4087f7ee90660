package terminal

import (
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/pin"
)

// TestSlotKnowsWhatMessagesKnow: what package dukpt can compute beyond key sets and messages is refused in a slot, built or saved.
func TestSlotKnowsWhatMessagesKnow(t *testing.T) {
	t.Parallel()
	slots := map[dukpt.Scheme]Slot{}
	for _, hex := range []string{"FFFF9876543210E00001", "123456789012345600000001"} {
		ksn, err := dukpt.ParseKSNHex(hex)
		if err != nil {
			t.Fatal(err)
		}
		s := Slot{Number: 1, KeySet: "CARDS", Revision: 1, KeyID: ksn.KeyID()}
		s.MAC, s.Data, s.PINFormat = s.Scheme().DefaultMAC(), s.Scheme().DefaultData(), pinFormat(s.Scheme())
		slots[s.Scheme()] = s
		back, err := s.record().slot()
		if err != nil || back.MAC != s.MAC || back.PINFormat != s.PINFormat {
			t.Fatalf("%v: %+v, %v", s.Scheme(), back, err)
		}
	}
	for _, known := range []struct {
		scheme dukpt.Scheme
		mac    dukpt.MACSpec
	}{
		{dukpt.TDES, dukpt.MACSpec{Algorithm: dukpt.MACRetail, Padding: dukpt.MACPadding3, Length: 8}},
		{dukpt.TDES, dukpt.MACSpec{Algorithm: dukpt.MACCBC, Padding: dukpt.MACPadding3, Length: 4}},
		{dukpt.TDES, dukpt.MACSpec{Algorithm: dukpt.MACCMAC, Length: 8}},
		{dukpt.AES, dukpt.MACSpec{Algorithm: dukpt.MACHMACSHA256, Key: dukpt.KeyHMAC256, Length: 16}},
	} {
		s := slots[known.scheme]
		s.MAC = known.mac
		if back, err := s.record().slot(); s.validate() != nil || err != nil || back.MAC != s.MAC {
			t.Errorf("%+v: %v, read back as %+v, %v", s.MAC, s.validate(), back.MAC, err)
		}
	}
	for name, c := range map[string]struct {
		scheme dukpt.Scheme
		change func(*Slot)
		saved  bool // whether the stored form can say it
	}{
		"HMAC under TDES": {dukpt.TDES, func(s *Slot) { s.MAC.Algorithm, s.MAC.Padding = dukpt.MACHMACSHA256, 0 }, true},
		"algorithm 1":     {dukpt.TDES, func(s *Slot) { s.MAC.Algorithm = dukpt.MACCBC }, true},
		"padding 4":       {dukpt.TDES, func(s *Slot) { s.MAC.Padding = dukpt.MACPadding3 + 1 }, true},
		"padded data":     {dukpt.TDES, func(s *Slot) { s.Data.Padding = dukpt.PKCS7Padding }, false},
		"whole HMAC": {dukpt.AES, func(s *Slot) {
			s.MAC = dukpt.MACSpec{Algorithm: dukpt.MACHMACSHA256, Key: dukpt.KeyHMAC128, Length: 32}
		}, true},
		"HMAC, AES key":  {dukpt.AES, func(s *Slot) { s.MAC.Algorithm = dukpt.MACHMACSHA256 }, true},
		"TDES MAC key":   {dukpt.AES, func(s *Slot) { s.MAC.Key, s.MAC.Length = dukpt.KeyTDES2, 8 }, true},
		"3TDEA MAC key":  {dukpt.AES, func(s *Slot) { s.MAC.Key, s.MAC.Length = dukpt.KeyTDES3, 8 }, true},
		"TDES data key":  {dukpt.AES, func(s *Slot) { s.Data.Key = dukpt.KeyTDES2 }, true},
		"3TDEA data key": {dukpt.AES, func(s *Slot) { s.Data.Key = dukpt.KeyTDES3 }, true},
		"retail MAC": {dukpt.AES, func(s *Slot) {
			s.MAC = dukpt.MACSpec{Algorithm: dukpt.MACRetail, Key: dukpt.KeyTDES2, Padding: dukpt.MACPadding2, Length: 8}
		}, true},
		"padded data of AES": {dukpt.AES, func(s *Slot) { s.Data.Padding = dukpt.ZeroPadding }, false},
		"PIN block format 0": {dukpt.AES, func(s *Slot) { s.PINFormat = pin.Format0 }, true},
	} {
		s := slots[c.scheme]
		c.change(&s)
		if s.validate() == nil {
			t.Errorf("%s is valid", name)
		}
		if _, err := s.record().slot(); c.saved && err == nil {
			t.Errorf("%s is read back", name)
		}
	}
}
