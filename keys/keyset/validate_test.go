package keyset

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
)

// TestValidateRefuses breaks one rule at a time of a set that stands in memory; those that bytes can break are vectors.
func TestValidateRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(s *KeySet)
		want   string
	}{
		{"environment zero", func(s *KeySet) { s.Environment = 0 }, "environment"},
		{"state zero", func(s *KeySet) { s.State = 0 }, "state"},
		{"state 4", func(s *KeySet) { s.State = 4 }, "state"},
		{"scheme zero", func(s *KeySet) { s.Scheme = 0 }, "scheme"},
		{"HMAC base key", func(s *KeySet) { s.Algorithm = keys.HMAC128 }, "double-length"},
		{"triple-length base key", func(s *KeySet) { s.Algorithm = keys.TDES3 }, "double-length"},
		{"no base key", func(s *KeySet) { s.BaseKey = KeyRef{} }, "no base key"},
		{"no fingerprint", func(s *KeySet) { s.BaseKeyFingerprint = keys.Fingerprint{} }, "fingerprint"},
		{"no first id", func(s *KeySet) { s.FirstID = dukpt.KeyID{} }, "no first"},
		{"no last id", func(s *KeySet) { s.LastID = dukpt.KeyID{} }, "no last"},
		{"descriptor of 2", func(s *KeySet) { s.KSNDescriptor = "60" }, "2 digits"},
		{"descriptor in lower case", func(s *KeySet) { s.KSNDescriptor = "a05" }, "no upper-case"},
		{"usage 9", func(s *KeySet) { s.Usages = []Usage{UsagePIN, 9} }, "unknown usage"},
		{"contents nil", func(s *KeySet) { s.Contents = nil }, "contents"},
		{"treatments zero", func(s *KeySet) { s.Treatments = 0 }, "treatments"},
		{"release 9", func(s *KeySet) { s.Release = 9 }, "release"},
		{"profile 9", func(s *KeySet) { s.Profile = 9 }, "profile"},
		{"counter zero", func(s *KeySet) { s.Counter = 0 }, "counter trust"},
		{"W one below", func(s *KeySet) { s.W = minWindow - 1 }, "window W"},
		{"J one below", func(s *KeySet) { s.J = minJump - 1 }, "jump J"},
		{"R of a fraction", func(s *KeySet) { s.R = DefaultHorizon + time.Millisecond }, "whole seconds"},
		{"R negative", func(s *KeySet) { s.R = -time.Second }, "horizon"},
		{"MAC algorithm 9", func(s *KeySet) { s.MAC.Algorithm = 9 }, "MAC algorithm"},
		{"MAC of algorithm 1, padding 1", func(s *KeySet) { s.MAC.Algorithm, s.MAC.Padding = dukpt.MACCBC, dukpt.MACPadding1 }, "padding"},
		{"MAC of algorithm 1, padding 2", func(s *KeySet) { s.MAC.Algorithm = dukpt.MACCBC }, "padding"},
		{"HMAC", func(s *KeySet) { s.MAC.Algorithm, s.MAC.Padding = dukpt.MACHMACSHA256, 0 }, "MAC algorithm"},
		{"CMAC with a padding", func(s *KeySet) { s.MAC.Algorithm = dukpt.MACCMAC }, "padding"},
		{"CMAC longer than a TDES block", func(s *KeySet) { s.MAC = MACRule{Algorithm: dukpt.MACCMAC, Length: 9, Evidence: 8} }, "MAC of 9"},
		{"retail MAC without padding", func(s *KeySet) { s.MAC.Padding = 0 }, "padding"},
		{"MAC padding 4", func(s *KeySet) { s.MAC.Padding = dukpt.MACPadding3 + 1 }, "padding"},
		{"evidence beyond the block", func(s *KeySet) { s.MAC.Evidence = 9 }, "evidence"},
		{"a MAC rule without MACs", func(s *KeySet) {
			rule := s.MAC
			dataAlone(s)
			s.MAC = rule
		}, "no MAC rule"},
		{"paths zero", func(s *KeySet) { s.Paths = 0 }, "paths"},
		{"delivery zero", func(s *KeySet) { s.Delivery = 0 }, "delivery"},
		{"unknown zero", func(s *KeySet) { s.Unknown = 0 }, "unknown key ids"},
		{"registering on a first MAC", func(s *KeySet) { s.Unknown = RegisterOnFirstMAC }, "not in use yet"},
		{"registering on first use", func(s *KeySet) {
			dataAlone(s)
			s.Unknown = RegisterOnFirstUse
		}, "not in use yet"},
		{"bare key with MACs", func(s *KeySet) { s.Profile = ProfileBareKey }, "no MACs"},
		{"bare key with MACs, not delivered", func(s *KeySet) { s.Profile, s.Delivery = ProfileBareKey, DeliveryNone }, "no MACs"},
		{"bare key, delivered", func(s *KeySet) {
			dataAlone(s)
			s.Profile, s.Delivery = ProfileBareKey, Attested
		}, "not delivered"},
	} {
		s := tdes(NewTDESData(), "A")
		c.change(s)
		if err := s.Validate(); !errors.Is(err, ErrKeySet) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an ErrKeySet about %q", c.name, err, c.want)
		}
	}
}

// dataAlone makes a set of data keys that were injected elsewhere.
func dataAlone(s *KeySet) {
	s.Usages, s.Contents, s.MAC = []Usage{UsageData}, map[Usage]int{UsageData: 1}, MACRule{}
	s.Counter, s.W, s.J, s.Delivery = ClaimedOnly, 0, 0, DeliveryNone
}

func TestValidateOutgoing(t *testing.T) {
	t.Parallel()
	s := tdes(NewTDESPIN(), "A")
	for i := range maxOutgoingPINKeys {
		s.OutgoingPINKeys = append(s.OutgoingPINKeys, ref(fmt.Sprintf("alias/zone-%d", i)))
	}
	if err := s.Validate(); err != nil {
		t.Errorf("%d outgoing keys: %v", len(s.OutgoingPINKeys), err)
	}
	s.OutgoingPINKeys = append(s.OutgoingPINKeys, ref("alias/zone-more"))
	if err := s.Validate(); !errors.Is(err, ErrKeySet) {
		t.Errorf("%d outgoing keys: %v, want an ErrKeySet", len(s.OutgoingPINKeys), err)
	}
	s.OutgoingPINKeys = []KeyRef{{}}
	if err := s.Validate(); !errors.Is(err, ErrKeySet) {
		t.Errorf("an outgoing key without name: %v, want an ErrKeySet", err)
	}
}

// TestValidateAccepts holds every bound to its last good value.
func TestValidateAccepts(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(s *KeySet){
		"W and J least":      func(s *KeySet) { s.W, s.J = minWindow, minJump },
		"W and J most":       func(s *KeySet) { s.W, s.J = maxWindow, maxJump },
		"R least in test":    func(s *KeySet) { s.R = time.Second },
		"R most":             func(s *KeySet) { s.R = maxHorizon },
		"R least":            func(s *KeySet) { s.R, s.Environment, s.Delivery = minHorizon, Production, Attested },
		"data 8":             func(s *KeySet) { s.Contents[UsageData] = 8 },
		"one key id":         func(s *KeySet) { s.LastID = s.FirstID },
		"descriptor":         func(s *KeySet) { s.KSNDescriptor = "A05" },
		"padding 1":          func(s *KeySet) { s.MAC.Padding = dukpt.MACPadding1 },
		"padding 3":          func(s *KeySet) { s.MAC.Padding = dukpt.MACPadding3 },
		"magtek without PIN": func(s *KeySet) { s.Profile = ProfileMagTek },
		"bare key, data alone": func(s *KeySet) {
			dataAlone(s)
			s.Profile = ProfileBareKey
		},
		"short MAC, claimed": func(s *KeySet) { s.Counter, s.W, s.J, s.MAC.Length = ClaimedOnly, 0, 0, MinMACLength },
		"retired":            func(s *KeySet) { s.State = Retired },
	} {
		s := tdes(NewTDESData(), "A")
		change(s)
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnmarshalBoundsItsInput(t *testing.T) {
	t.Parallel()
	if _, err := Unmarshal(make([]byte, maxDocument+1)); !errors.Is(err, ErrFormat) {
		t.Errorf("a set of 64 KiB and a byte: %v, want an ErrFormat", err)
	}
	if _, err := ParseSigned(make([]byte, MaxSigned+1)); !errors.Is(err, ErrFormat) {
		t.Errorf("a document of 4 MiB and a byte: %v, want an ErrFormat", err)
	}
}
