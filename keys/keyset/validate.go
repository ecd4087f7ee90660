package keyset

import (
	"slices"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
)

// Validate reports the first rule of docs/protocol.md, section 2, that the set breaks by itself. The error wraps
// ErrKeySet. Rules between sets are those of DisjointRanges and CheckSuccessor.
func (s *KeySet) Validate() error {
	for _, check := range []func() error{
		s.checkNames, s.checkBaseKey, s.checkRange, s.checkDescriptor, s.checkUsages, s.checkContents,
		s.checkData, s.checkCounter, s.checkMAC, s.checkPolicy, s.checkOutgoing,
	} {
		err := check()
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *KeySet) checkNames() error {
	if s.Version != FormatVersion {
		return broken("format version %d, want %d", s.Version, FormatVersion)
	}
	if s.Revision < 1 {
		return broken("revision 0, want 1 or more")
	}
	if err := checkName("key set", string(s.ID)); err != nil {
		return broken("%v", err)
	}
	if err := checkName("tenant", string(s.Tenant)); err != nil {
		return broken("%v", err)
	}
	if !environmentWords.known(uint8(s.Environment)) {
		return broken("environment is neither production nor test")
	}
	if !stateWords.known(uint8(s.State)) {
		return broken("state is not set")
	}
	return nil
}

func (s *KeySet) checkBaseKey() error {
	switch s.Scheme {
	case dukpt.TDES:
		if s.Algorithm != keys.TDES2 {
			return broken("a TDES set has a double-length base key, not %v", s.Algorithm)
		}
	case dukpt.AES:
		if s.WorkingKey() == 0 {
			return broken("an AES set has an AES base key, not %v", s.Algorithm)
		}
	default:
		return broken("scheme is neither TDES nor AES")
	}
	if s.BaseKey.IsZero() {
		return broken("no base key is named")
	}
	if s.BaseKeyFingerprint == (keys.Fingerprint{}) {
		return broken("the base key has no fingerprint")
	}
	return nil
}

func (s *KeySet) checkRange() error {
	if s.FirstID.IsZero() || s.LastID.IsZero() {
		return broken("the range of key ids has no first or no last one")
	}
	if s.FirstID.Scheme() != s.Scheme || s.LastID.Scheme() != s.Scheme {
		return broken("key ids %v to %v are not of scheme %v", s.FirstID, s.LastID, s.Scheme)
	}
	if s.FirstID.Compare(s.LastID) > 0 {
		return broken("first key id %v is above the last, %v", s.FirstID, s.LastID)
	}
	return nil
}

// checkDescriptor checks the three hex digits in which makers write how many hex digits of a KSN are key-set id, sub-key
// id and device id (TDES: together with five counter digits 16 or 20; AES: 16).
func (s *KeySet) checkDescriptor() error {
	if s.KSNDescriptor == "" {
		return nil
	}
	if len(s.KSNDescriptor) != maxDescriptorDigits {
		return broken("KSN descriptor has %d digits, want %d", len(s.KSNDescriptor), maxDescriptorDigits)
	}
	sum := 0
	for i := range len(s.KSNDescriptor) {
		d := strings.IndexByte("0123456789ABCDEF", s.KSNDescriptor[i])
		if d < 0 {
			return broken("KSN descriptor has a character that is no upper-case hex digit")
		}
		sum += d
	}
	if s.Scheme == dukpt.TDES && sum != 11 && sum != 15 || s.Scheme == dukpt.AES && sum != 16 {
		return broken("KSN descriptor %s adds up to %d digits, want 11 or 15 (TDES), 16 (AES)", s.KSNDescriptor, sum)
	}
	return nil
}

func (s *KeySet) checkUsages() error {
	if len(s.Usages) == 0 {
		return broken("no usage is named")
	}
	for i, u := range s.Usages {
		if !usageWords.known(uint8(u)) {
			return broken("unknown usage %d", uint8(u))
		}
		if i > 0 && s.Usages[i-1] >= u {
			return broken("usages are not ascending, each once")
		}
	}
	return nil
}

func (s *KeySet) checkContents() error {
	if len(s.Contents) != len(s.Usages) {
		return broken("contents are given for %d usages, the set has %d", len(s.Contents), len(s.Usages))
	}
	for _, u := range s.Usages {
		n, ok := s.Contents[u]
		switch {
		case !ok:
			return broken("no contents are given for usage %v", u)
		case u == UsageData && (n < 1 || n > maxDataContents):
			return broken("%d data contents per key, want 1 to %d", n, maxDataContents)
		case u != UsageData && n != 1:
			return broken("%d %v contents per key, want 1", n, u)
		}
	}
	if s.Treatments != 1 {
		return broken("%d treatments per content, want 1", s.Treatments)
	}
	return nil
}

func (s *KeySet) checkData() error {
	profiled := s.Has(UsageData) && s.Scheme == dukpt.TDES
	if !profiled && s.Profile != 0 {
		return broken("only TDES sets with data keys have a maker profile")
	}
	if profiled && !profileWords.known(uint8(s.Profile)) {
		return broken("a TDES set with data keys needs a maker profile")
	}
	if profiled && s.Has(UsagePIN) && !s.Profile.SparesPIN() {
		return broken("under profile %v the data key gives the PIN key: the set is for data only", s.Profile)
	}
	if profiled && s.Profile == ProfileBareKey && s.Has(UsageMAC) {
		return broken("under profile %v the data key gives the MAC keys: the set has no MACs", s.Profile)
	}
	if !s.Has(UsageData) && s.Release != 0 {
		return broken("a set without data keys releases none")
	}
	if s.Has(UsageData) && s.Release == ReEncrypt {
		return broken("release re-encrypt is not in use yet")
	}
	if s.Has(UsageData) && s.Release != Clear {
		return broken("release of data is not set")
	}
	return nil
}

func (s *KeySet) checkCounter() error {
	switch s.Counter {
	case Authenticated:
		if !s.Has(UsageMAC) {
			return broken("counters are authenticated by MACs, and the set has none")
		}
		if s.W < minWindow || s.W > maxWindow {
			return broken("window W %d, want %d to %d", s.W, minWindow, maxWindow)
		}
		if s.J < minJump || s.J > maxJump {
			return broken("jump J %d, want %d to %d", s.J, minJump, maxJump)
		}
	case ClaimedOnly:
		if s.W != 0 || s.J != 0 {
			return broken("windows W and J apply to authenticated counters only")
		}
	default:
		return broken("counter trust is not set")
	}
	return s.checkHorizon()
}

func (s *KeySet) checkHorizon() error {
	least := time.Second
	if s.Environment == Production {
		least = minHorizon
	}
	if s.R < least || s.R > maxHorizon || s.R%time.Second != 0 {
		return broken("horizon R %v, want whole seconds from %v to %v", s.R, least, maxHorizon)
	}
	return nil
}

func (s *KeySet) checkPolicy() error {
	if !pathsWords.known(uint8(s.Paths)) {
		return broken("paths are not set")
	}
	if !deliveryWords.known(uint8(s.Delivery)) {
		return broken("delivery is not set")
	}
	if s.Delivery == Code && s.Environment != Test {
		return broken("delivery by code is for test sets")
	}
	if s.Delivery != DeliveryNone && s.Profile == ProfileBareKey {
		return broken("a delivered set includes MACs, which a set of profile %v may not have: it is not delivered", s.Profile)
	}
	if s.Delivery != DeliveryNone && !s.Has(UsageMAC) {
		return broken("a delivered set includes MACs")
	}
	switch s.Unknown {
	case Refuse:
	case RegisterOnFirstMAC, RegisterOnFirstUse:
		return broken("%v is not in use yet: unknown key ids are refused", s.Unknown)
	default:
		return broken("what happens to unknown key ids is not set")
	}
	return nil
}

func (s *KeySet) checkOutgoing() error {
	if len(s.OutgoingPINKeys) > 0 && !s.Has(UsagePIN) {
		return broken("a set without PIN keys has no outgoing ones")
	}
	if len(s.OutgoingPINKeys) > maxOutgoingPINKeys {
		return broken("%d outgoing PIN keys, want at most %d", len(s.OutgoingPINKeys), maxOutgoingPINKeys)
	}
	for i, k := range s.OutgoingPINKeys {
		switch {
		case k.IsZero():
			return broken("an outgoing PIN key has no name")
		case k == s.BaseKey:
			return broken("the base key is no outgoing PIN key")
		case slices.Contains(s.OutgoingPINKeys[:i], k):
			return broken("outgoing PIN key %v is named twice", k)
		}
	}
	return nil
}
