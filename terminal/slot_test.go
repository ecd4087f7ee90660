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
	for name, c := range map[string]struct {
		scheme dukpt.Scheme
		change func(*Slot)
		saved  bool // whether the stored form can say it
	}{
		"CMAC under TDES": {dukpt.TDES, func(s *Slot) { s.MAC.Algorithm, s.MAC.Padding = dukpt.MACCMAC, 0 }, true},
		"algorithm 1":     {dukpt.TDES, func(s *Slot) { s.MAC.Algorithm = dukpt.MACCBC }, true},
		"padding 3":       {dukpt.TDES, func(s *Slot) { s.MAC.Padding = dukpt.MACPadding3 }, true},
		"padded data":     {dukpt.TDES, func(s *Slot) { s.Data.Padding = dukpt.PKCS7Padding }, false},
		"HMAC":            {dukpt.AES, func(s *Slot) { s.MAC.Algorithm, s.MAC.Key = dukpt.MACHMACSHA256, dukpt.KeyHMAC128 }, true},
		"TDES MAC key":    {dukpt.AES, func(s *Slot) { s.MAC.Key, s.MAC.Length = dukpt.KeyTDES2, 8 }, true},
		"3TDEA MAC key":   {dukpt.AES, func(s *Slot) { s.MAC.Key, s.MAC.Length = dukpt.KeyTDES3, 8 }, true},
		"TDES data key":   {dukpt.AES, func(s *Slot) { s.Data.Key = dukpt.KeyTDES2 }, true},
		"3TDEA data key":  {dukpt.AES, func(s *Slot) { s.Data.Key = dukpt.KeyTDES3 }, true},
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
