package keyset

import "github.com/latchkey-pos/latchkey/dukpt"

// Profile names how a maker's readers use TDES DUKPT data keys. AES sets have none.
type Profile uint8

// The values of Profile.
const (
	// ProfileStandard is ANSI X9.24: data variant, then the one-way step.
	ProfileStandard Profile = iota + 1
	// ProfileMagTek uses the PIN variant for data.
	ProfileMagTek
	// ProfileIDTECH is the data variant with the one-way step, as ID TECH readers do.
	ProfileIDTECH
	// ProfileVerifone is the data variant with the one-way step, as Verifone readers do.
	ProfileVerifone
	// ProfileMask is the data variant without the one-way step.
	ProfileMask
	// ProfileBareKey uses the transaction key itself, without any variant. Its set holds nothing else and is not delivered.
	ProfileBareKey
)

var profileWords = words{"standard", "magtek", "idtech", "verifone", "mask", "bare-key"}

// ParseProfile reads one of the words of Profile.
func ParseProfile(s string) (Profile, error) { return parseWord[Profile](profileWords, "profile", s) }

// String returns the word of docs/protocol.md, or "invalid(n)".
func (p Profile) String() string { return profileWords.spell(uint8(p)) }

// MarshalText returns the word. An invalid value is an error.
func (p Profile) MarshalText() ([]byte, error) { return profileWords.marshal("profile", uint8(p)) }

// UnmarshalText reads the word; anything else is an error.
func (p *Profile) UnmarshalText(text []byte) error {
	return unmarshalWord(p, profileWords, "profile", text)
}

// DataProfile returns the derivation that the profile stands for, or zero for an invalid profile.
func (p Profile) DataProfile() dukpt.DataProfile {
	switch p {
	case ProfileStandard, ProfileIDTECH, ProfileVerifone:
		return dukpt.DataOneWay
	case ProfileMagTek:
		return dukpt.DataPINVariant
	case ProfileMask:
		return dukpt.DataMask
	case ProfileBareKey:
		return dukpt.DataBareKey
	}
	return 0
}

// SparesPIN reports whether someone who holds the data key of a transaction still does not know its PIN key. Where the
// data key equals the PIN key (MagTek), contains it (bare key) or differs from it by a public constant (mask), the set
// is for data only.
func (p Profile) SparesPIN() bool {
	switch p {
	case ProfileStandard, ProfileIDTECH, ProfileVerifone:
		return true
	}
	return false
}
