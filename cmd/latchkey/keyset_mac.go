package main

import (
	"errors"
	"fmt"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/exit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// macRequest is what keyset create asks about MACs. Nothing said is what the kind of set begins with.
type macRequest struct {
	algorithm, padding string
	length             int
}

const macForm = "TDES has ISO9797_ALGORITHM3 with method1 to method3, ISO9797_ALGORITHM1 with method3 and CMAC; AES has CMAC and HMAC_SHA256"

// apply changes the rule of a set. An algorithm that is named comes at its full length, and with the padding that is best for it.
func (r macRequest) apply(s *keyset.KeySet) error {
	rule := s.MAC
	if r.algorithm != "" {
		a, err := dukpt.ParseMACAlgorithm(r.algorithm)
		if err != nil {
			return exit.With(exit.Usage, fmt.Errorf("--mac: %w", err), macForm)
		}
		rule.Algorithm, rule.Padding, rule.Length = a, bestPadding(a), s.Scheme.DefaultMAC().Length
	}
	if r.padding != "" {
		p, err := dukpt.ParseMACPadding(r.padding)
		if err != nil {
			return exit.With(exit.Usage, fmt.Errorf("--mac-padding: %w", err), macForm)
		}
		rule.Padding = p
	}
	if r.length != 0 {
		rule.Length = r.length
	}
	spec := dukpt.MACSpec{Algorithm: rule.Algorithm, Padding: rule.Padding, Length: rule.Length}
	if err := keyset.CheckMAC(s.Scheme, spec); err != nil {
		return exit.With(exit.Usage, err, macForm)
	}
	if rule.Length < rule.Evidence {
		return exit.With(exit.Refused, errors.New("a MAC of fewer than 8 bytes authenticates no counter"), "give --mac-length 8 or more")
	}
	s.MAC = rule
	return nil
}

func bestPadding(a dukpt.MACAlgorithm) dukpt.MACPadding {
	switch a {
	case dukpt.MACRetail:
		return dukpt.MACPadding2
	case dukpt.MACCBC:
		return dukpt.MACPadding3
	}
	return 0
}

// spellMAC says a rule for people.
func spellMAC(s *keyset.KeySet) string {
	switch {
	case !s.Has(keyset.UsageMAC):
		return "none"
	case s.MAC.Padding == 0:
		return fmt.Sprintf("%v, %d bytes", s.MAC.Algorithm, s.MAC.Length)
	}
	return fmt.Sprintf("%v, %v, %d bytes", s.MAC.Algorithm, s.MAC.Padding, s.MAC.Length)
}
