package keyset

import (
	"errors"
	"fmt"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
)

// macTable restates which MACs sets have: scheme, algorithm, padding, and the least and most bytes.
var macTable = map[string][2]int{
	"TDES ISO9797_ALGORITHM3 1": {4, 8},
	"TDES ISO9797_ALGORITHM3 2": {4, 8},
	"TDES ISO9797_ALGORITHM3 3": {4, 8},
	"TDES ISO9797_ALGORITHM1 3": {4, 8},
	"TDES CMAC 0":               {4, 8},
	"AES CMAC 0":                {4, 16},
	"AES HMAC_SHA256 0":         {16, 16},
}

// TestMACRules tries every algorithm, padding and length against the table; what a set may say, package dukpt computes.
func TestMACRules(t *testing.T) {
	t.Parallel()
	good := map[string]int{}
	for scheme, s := range map[dukpt.Scheme]*KeySet{dukpt.TDES: tdes(NewTDESPIN(), "T"), dukpt.AES: aes(NewAESPIN(), "A")} {
		s.Counter, s.W, s.J = ClaimedOnly, 0, 0 // short MACs authenticate no counter
		for algorithm := range dukpt.MACHMACSHA512 + 2 {
			for padding := range dukpt.MACPadding3 + 2 {
				name := fmt.Sprintf("%v %v %d", scheme, algorithm, padding)
				bounds, known := macTable[name]
				for length := range 70 {
					s.MAC = MACRule{Algorithm: algorithm, Padding: padding, Length: length, Evidence: MinEvidenceLength}
					want := known && bounds[0] <= length && length <= bounds[1]
					err := s.Validate()
					if want != (err == nil) || err != nil && !errors.Is(err, ErrKeySet) {
						t.Errorf("%s, %d bytes: %v, want success %v", name, length, err, want)
					}
					if err != nil {
						continue
					}
					good[name]++
					if err := s.MACSpec().Validate(scheme); err != nil {
						t.Errorf("%s, %d bytes: %v", name, length, err)
					}
				}
			}
		}
	}
	for name, bounds := range macTable {
		if good[name] != bounds[1]-bounds[0]+1 {
			t.Errorf("%s: %d lengths, want %d to %d", name, good[name], bounds[0], bounds[1])
		}
	}
}

func TestCheckMACSays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		scheme dukpt.Scheme
		spec   dukpt.MACSpec
		want   error
	}{
		"CMAC":             {dukpt.AES, dukpt.AES.DefaultMAC(), nil},
		"no scheme":        {0, dukpt.AES.DefaultMAC(), dukpt.ErrUnsupported},
		"nothing":          {dukpt.TDES, dukpt.MACSpec{}, dukpt.ErrUnsupported},
		"retail under AES": {dukpt.AES, dukpt.TDES.DefaultMAC(), dukpt.ErrUnsupported},
		"HMAC at length":   {dukpt.AES, dukpt.MACSpec{Algorithm: dukpt.MACHMACSHA256, Key: dukpt.KeyHMAC128, Length: 17}, dukpt.ErrLength},
	} {
		if err := CheckMAC(c.scheme, c.spec); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestMACKey holds the key of a MAC to the strength of the base key.
func TestMACKey(t *testing.T) {
	t.Parallel()
	for algorithm, want := range map[keys.Algorithm][2]dukpt.WorkingKey{
		keys.TDES2: {}, keys.HMAC128: {},
		keys.AES128: {dukpt.KeyAES128, dukpt.KeyHMAC128},
		keys.AES192: {dukpt.KeyAES192, dukpt.KeyHMAC192},
		keys.AES256: {dukpt.KeyAES256, dukpt.KeyHMAC256},
	} {
		s := &KeySet{Algorithm: algorithm, MAC: MACRule{Algorithm: dukpt.MACCMAC}}
		cmac := s.MACKey()
		s.MAC.Algorithm = dukpt.MACHMACSHA256
		if hmac := s.MACKey(); cmac != want[0] || hmac != want[1] {
			t.Errorf("%v: %v and %v, want %v", algorithm, cmac, hmac, want)
		}
	}
}
