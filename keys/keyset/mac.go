package keyset

import (
	"fmt"
	"slices"

	"github.com/latchkey-pos/latchkey/dukpt"
)

const (
	// MinMACLength is the least length in bytes of a MAC that is checked at all.
	MinMACLength = 4
	// MaxMACLength is the most that a MAC of a message has, in bytes.
	MaxMACLength = 16
	// MinEvidenceLength is the least length in bytes of a MAC that proves anything beyond its own message: that moves
	// a counter or convicts a clone.
	MinEvidenceLength = 8
)

// MACRule says which MACs a set makes and accepts. [CheckMAC] says which there are.
type MACRule struct {
	Algorithm dukpt.MACAlgorithm
	Padding   dukpt.MACPadding // of MACRetail and MACCBC; zero for the others
	Length    int              // bytes kept: MinMACLength to the block size, or MaxMACLength of an HMAC
	Evidence  int              // bytes from which a MAC counts as evidence, MinEvidenceLength to the block size or MaxMACLength
}

// macPaddings are the MACs of key sets, messages and saved slots, each with its paddings. Algorithm 1 has method 3 alone: under
// the others it protects messages of one length only, and those of terminals have many. HMACs of longer hashes than SHA-256
// do not fit into MaxMACLength, which is half of that one, the least that RFC 2104 leaves of it.
var macPaddings = map[dukpt.Scheme]map[dukpt.MACAlgorithm][]dukpt.MACPadding{
	dukpt.TDES: {
		dukpt.MACRetail: {dukpt.MACPadding1, dukpt.MACPadding2, dukpt.MACPadding3},
		dukpt.MACCBC:    {dukpt.MACPadding3},
		dukpt.MACCMAC:   {0},
	},
	dukpt.AES: {
		dukpt.MACCMAC:       {0},
		dukpt.MACHMACSHA256: {0},
	},
}

// CheckMAC reports why key sets, messages and saved slots of a scheme do not know a MAC, which package dukpt may well compute.
// It looks at algorithm, padding and the longest MAC. The error wraps [dukpt.ErrUnsupported] or [dukpt.ErrLength].
func CheckMAC(scheme dukpt.Scheme, s dukpt.MACSpec) error {
	paddings, ok := macPaddings[scheme][s.Algorithm]
	if !ok {
		return fmt.Errorf("%w: MAC algorithm %v is not of key sets and messages under %v", dukpt.ErrUnsupported, s.Algorithm, scheme)
	}
	if !slices.Contains(paddings, s.Padding) {
		return fmt.Errorf("%w: %v with padding %v is not of key sets and messages", dukpt.ErrUnsupported, s.Algorithm, s.Padding)
	}
	if s.Length > MaxMACLength {
		return fmt.Errorf("%w: MAC of %d bytes, want at most %d", dukpt.ErrLength, s.Length, MaxMACLength)
	}
	return nil
}

// MACKey returns the type of key that MACs of an AES set are made with, as strong as its base key, and zero for TDES.
func (s *KeySet) MACKey() dukpt.WorkingKey {
	w := s.WorkingKey()
	if s.MAC.Algorithm != dukpt.MACHMACSHA256 {
		return w
	}
	switch w {
	case dukpt.KeyAES128:
		return dukpt.KeyHMAC128
	case dukpt.KeyAES192:
		return dukpt.KeyHMAC192
	case dukpt.KeyAES256:
		return dukpt.KeyHMAC256
	}
	return 0
}

// MACSpec returns how MACs of the set are computed.
func (s *KeySet) MACSpec() dukpt.MACSpec {
	return dukpt.MACSpec{Algorithm: s.MAC.Algorithm, Key: s.MACKey(), Padding: s.MAC.Padding, Length: s.MAC.Length}
}

func (s *KeySet) checkMAC() error {
	if !s.Has(UsageMAC) {
		if s.MAC != (MACRule{}) {
			return broken("a set without MACs has no MAC rule")
		}
		return nil
	}
	spec := s.MACSpec()
	if err := CheckMAC(s.Scheme, spec); err != nil {
		return broken("%v", err)
	}
	least, most := MinMACLength, MaxMACLength
	switch {
	case spec.Algorithm == dukpt.MACHMACSHA256:
		least = most
	case s.Scheme == dukpt.TDES:
		most = 8
	}
	return s.checkMACLength(least, most)
}

func (s *KeySet) checkMACLength(least, most int) error {
	if s.MAC.Length < least || s.MAC.Length > most {
		return broken("MAC of %d bytes, want %d to %d", s.MAC.Length, least, most)
	}
	if s.MAC.Evidence < MinEvidenceLength || s.MAC.Evidence > most {
		return broken("evidence from %d bytes, want %d to %d", s.MAC.Evidence, MinEvidenceLength, most)
	}
	if s.Counter == Authenticated && s.MAC.Length < s.MAC.Evidence {
		return broken("a MAC of %d bytes authenticates no counter, evidence starts at %d", s.MAC.Length, s.MAC.Evidence)
	}
	return nil
}
