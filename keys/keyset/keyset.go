package keyset

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
)

// FormatVersion is the version of the stored forms of this package.
const FormatVersion = 1

// Defaults of new sets and bounds that Validate holds every set to. Windows count ordinals.
const (
	DefaultWindow  = 4096                // W
	DefaultJump    = 10000               // J
	DefaultHorizon = 30 * 24 * time.Hour // R
	DefaultData    = 1                   // contents of one data key

	minWindow, maxWindow   = 128, 1_000_000
	minJump, maxJump       = 128, 1_000_000
	minHorizon, maxHorizon = 30 * 24 * time.Hour, 3650 * 24 * time.Hour
	maxDataContents        = 8
	maxOutgoingPINKeys     = 32
	maxDescriptorDigits    = 3
)

// ErrKeySet is wrapped by every error about a key set that breaks a rule.
var ErrKeySet = errors.New("keyset: set breaks a rule")

// KeySet says everything about a family of keys. It is plain data: whoever fills it in calls Validate before using it,
// and Marshal and Unmarshal do so by themselves. It is not safe for concurrent change.
type KeySet struct {
	Version            uint             // FormatVersion
	ID                 ID               // the same in every revision
	Revision           uint             // 1, 2, 3 …; every change is a new one
	Tenant             TenantID         // whose it is
	Environment        Environment      // must be that of the base key
	Scheme             dukpt.Scheme     // of every KSN in the range
	Algorithm          keys.Algorithm   // of the base key: TDES2, or AES128 to AES256
	BaseKey            KeyRef           // name of the base key in the engine
	BaseKeyFingerprint keys.Fingerprint // keyed fingerprint of the base key: who it is, whatever its name
	KSNDescriptor      string           // how makers read the KSN, as in "605" or "A05"; empty when nobody does
	FirstID, LastID    dukpt.KeyID      // range of key ids, both ends included
	Usages             []Usage          // purposes, ascending
	Profile            Profile          // TDES sets with data keys; zero otherwise
	Counter            CounterTrust     // authenticated or claimed only
	W                  uint32           // ordinals below the highest that are still accepted; zero when claimed only
	J                  uint32           // ordinals above the highest that are accepted; zero when claimed only
	R                  time.Duration    // age from which a row is closed, whole seconds
	Contents           map[Usage]int    // contents per KSN, an entry for every usage: PIN and MAC 1, data 1 to 8
	Treatments         int              // ways one content may be treated: 1
	MAC                MACRule          // zero without UsageMAC
	Paths              Paths            // which host calls may use the set
	Unknown            Unknown          // what to do with unregistered key ids of the range
	Delivery           Delivery         // how initial keys reach terminals
	Release            Release          // how card data leaves; zero without UsageData
	OutgoingPINKeys    []KeyRef         // zone keys that PINs may be translated to; only with UsagePIN
	State              State            // active, blocked, retired
}

// NewDefaults returns a set of revision 1 with the defaults of docs/protocol.md for these usages. It is not valid yet:
// the caller names it (ID, Tenant, Environment) and its keys (BaseKey, BaseKeyFingerprint, FirstID, LastID).
func NewDefaults(scheme dukpt.Scheme, usages ...Usage) *KeySet {
	usages = slices.Clone(usages)
	slices.Sort(usages)
	s := &KeySet{
		Version: FormatVersion, Revision: 1,
		Scheme: scheme, Algorithm: defaultAlgorithm(scheme),
		Usages: usages, Contents: make(map[Usage]int),
		Counter: ClaimedOnly, R: DefaultHorizon, Treatments: 1,
		Paths: Both, Unknown: Refuse, Delivery: Code, State: Active,
	}
	for _, u := range usages {
		s.Contents[u] = 1
	}
	if s.Has(UsageData) {
		s.Release = Clear
		s.Contents[UsageData] = DefaultData
		if scheme == dukpt.TDES {
			s.Profile = ProfileStandard
		}
	}
	if s.Has(UsageMAC) {
		s.Counter, s.W, s.J = Authenticated, DefaultWindow, DefaultJump
		s.MAC = defaultMAC(scheme)
	}
	return s
}

// NewTDESPIN returns the defaults of a set for PIN blocks and MACs under TDES.
func NewTDESPIN() *KeySet { return NewDefaults(dukpt.TDES, UsagePIN, UsageMAC) }

// NewTDESData returns the defaults of a set for card data and MACs under TDES.
func NewTDESData() *KeySet { return NewDefaults(dukpt.TDES, UsageData, UsageMAC) }

// NewAESPIN returns the defaults of a set for PIN blocks and MACs under AES-128.
func NewAESPIN() *KeySet { return NewDefaults(dukpt.AES, UsagePIN, UsageMAC) }

// NewAESData returns the defaults of a set for card data and MACs under AES-128.
func NewAESData() *KeySet { return NewDefaults(dukpt.AES, UsageData, UsageMAC) }

func defaultAlgorithm(scheme dukpt.Scheme) keys.Algorithm {
	if scheme == dukpt.TDES {
		return keys.TDES2
	}
	return keys.AES128
}

func defaultMAC(scheme dukpt.Scheme) MACRule {
	d := scheme.DefaultMAC()
	return MACRule{Algorithm: d.Algorithm, Padding: d.Padding, Length: d.Length, Evidence: MinEvidenceLength}
}

// Has reports whether the set serves a purpose.
func (s *KeySet) Has(u Usage) bool { return slices.Contains(s.Usages, u) }

// Contains reports whether a key id lies in the range of the set.
func (s *KeySet) Contains(id dukpt.KeyID) bool {
	return !id.IsZero() && id.Scheme() == s.Scheme && s.FirstID.Compare(id) <= 0 && id.Compare(s.LastID) <= 0
}

// WorkingKey returns the type of working key of an AES set, as strong as its base key, and zero for TDES.
func (s *KeySet) WorkingKey() dukpt.WorkingKey {
	switch s.Algorithm {
	case keys.AES128:
		return dukpt.KeyAES128
	case keys.AES192:
		return dukpt.KeyAES192
	case keys.AES256:
		return dukpt.KeyAES256
	}
	return 0
}

// DataSpec returns how card data of the set is encrypted in a direction, mode and IV. The IV is kept, not copied.
func (s *KeySet) DataSpec(d dukpt.Direction, mode dukpt.CipherMode, iv []byte) dukpt.DataSpec {
	return dukpt.DataSpec{Direction: d, Profile: s.Profile.DataProfile(), Key: s.WorkingKey(), Mode: mode, IV: iv}
}

// Clone returns a deep copy.
func (s *KeySet) Clone() *KeySet {
	c := *s
	c.Usages = slices.Clone(s.Usages)
	c.OutgoingPINKeys = slices.Clone(s.OutgoingPINKeys)
	c.Contents = maps.Clone(s.Contents)
	return &c
}

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrKeySet, fmt.Sprintf(format, args...))
}
