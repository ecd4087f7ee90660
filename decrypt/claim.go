package decrypt

import (
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/message"
)

// Purpose is what a transaction key is used for. Claims of two purposes never meet. The zero value is none.
type Purpose uint8

// The purposes of docs/protocol.md.
const (
	PurposePIN          Purpose = iota + 1 // a PIN block of the terminal
	PurposeData                            // card data of the terminal
	PurposeMAC                             // the MAC of a message of the terminal
	PurposeSignIn                          // a MAC of a sign-in, which releases nothing
	PurposePINResponse                     // a PIN block for the terminal
	PurposeDataResponse                    // data for the terminal
	PurposeMACResponse                     // the MAC of an ack
)

var purposeNames = [...]string{
	PurposePIN: "pin", PurposeData: "data", PurposeMAC: "mac", PurposeSignIn: "sign-in",
	PurposePINResponse: "pin-response", PurposeDataResponse: "data-response", PurposeMACResponse: "mac-response",
}

// ParsePurpose reads the form of String.
func ParsePurpose(s string) (Purpose, error) {
	for p, name := range purposeNames {
		if p != 0 && s == name {
			return Purpose(p), nil
		}
	}
	return 0, fmt.Errorf("decrypt: unknown purpose %q", s)
}

// String returns the word of docs/protocol.md, such as "mac-response".
func (p Purpose) String() string {
	if p == 0 || int(p) >= len(purposeNames) {
		return fmt.Sprintf("decrypt.Purpose(%d)", uint8(p))
	}
	return purposeNames[p]
}

// The limits that hold for every key set.
const (
	// TriesCap is how often one content is answered again after the first time.
	TriesCap = 50
	// MaxSignIns is how many sign-ins one counter may carry: a terminal that was rolled back repeats counters.
	MaxSignIns = 8
	// MaxDataContents is the most that a key set may allow of different data under one counter.
	MaxDataContents = 8
)

// Claim asks to release one content under one transaction key. Nothing in it is secret.
type Claim struct {
	BaseKey         keys.Fingerprint // of the base key, as engine.KeyInfo gives it
	KSN             dukpt.KSN
	Purpose         Purpose
	Content         Content
	ClaimKeyVersion uint32 // of the key that made Content
	FillKeyVersion  uint32 // of the key that makes the fill of outgoing PIN blocks
	Treatment       []byte // Treatment.Encode; not kept by the caller
	// Authenticated says that a MAC covering the KSN has verified. Only then may the claim move the highest counter.
	Authenticated bool
	MACKSN        dukpt.KSN // the key of that MAC; the zero value without one
	// MaxContents is how many contents the counter may carry for this purpose: what the key set says for data, 1 for PIN
	// and message MACs, MaxSignIns for sign-ins.
	MaxContents int
	// Windowed says that the key set authenticates its counters, so that W and J apply.
	Windowed bool
	W        uint32 // how far below the highest counter a new claim may be, in ordinals
	J        uint32 // how far above it, in ordinals
	// Floor is the ordinal up to which the key was used before it came here, as the registry says: nothing new is accepted at or
	// below it, whatever the store knows of the counter. 0 for a key that was delivered here.
	Floor uint32
	// Fences are the ordinals of the fences of the store that judges, which sets it: a key that came here with a floor may have been used that
	// much further before something was lost, and the store that was restored need not know that it came.
	Fences uint32
	// Horizon is the time of the claim less R of its key set: a row that was first seen before it is spent.
	Horizon time.Time
}

// check reports a claim that our own code made wrongly.
func (c *Claim) check() error {
	switch {
	case c.BaseKey.IsZero():
		return fmt.Errorf("decrypt: a claim without base key")
	case c.KSN.IsZero():
		return fmt.Errorf("decrypt: a claim without KSN")
	case c.Purpose == 0 || int(c.Purpose) >= len(purposeNames):
		return fmt.Errorf("decrypt: a claim for %v", c.Purpose)
	case c.Content == Content{}:
		return fmt.Errorf("decrypt: a claim without content")
	case c.MaxContents < 1 || c.MaxContents > c.Purpose.maxContents():
		return fmt.Errorf("decrypt: a claim for %v with up to %d contents", c.Purpose, c.MaxContents)
	case c.Windowed && c.J == 0:
		return fmt.Errorf("decrypt: a claim with a window of no counters")
	case c.Floor > c.KSN.KeyID().Scheme().MaxOrdinal():
		return fmt.Errorf("decrypt: a claim above a floor of %d", c.Floor)
	case c.Horizon.IsZero():
		return fmt.Errorf("decrypt: a claim without horizon")
	case c.Authenticated == c.MACKSN.IsZero():
		return fmt.Errorf("decrypt: a claim must name the KSN of its MAC when there is one, and only then")
	}
	_, err := ParseTreatment(c.Treatment)
	return err
}

func (p Purpose) maxContents() int {
	switch p {
	case PurposeData:
		return MaxDataContents
	case PurposeSignIn:
		return MaxSignIns
	default:
		return 1
	}
}

// RowKey names the row that claims meet in: one transaction key and one purpose. It is comparable.
type RowKey struct {
	BaseKey keys.Fingerprint
	KSN     dukpt.KSN
	Purpose Purpose
}

// Row returns the key of the row that the claim falls into.
func (c *Claim) Row() RowKey { return RowKey{c.BaseKey, c.KSN, c.Purpose} }

// Counter names the counter that the row belongs to.
func (k RowKey) Counter() CounterKey { return CounterKey{k.BaseKey, k.KSN.KeyID()} }

// CounterKey names what has one counter: an initial key under a base key. It is comparable.
type CounterKey struct {
	BaseKey keys.Fingerprint
	KeyID   dukpt.KeyID
}

// Entry is one content that was released, in the row of its transaction key and purpose. A row whose message was reversed
// before it arrived holds one entry without content: a tombstone.
type Entry struct {
	Content         Content
	ClaimKeyVersion uint32
	FillKeyVersion  uint32
	Treatment       []byte // as first released, with the version of the outgoing key that was used
	Authenticated   bool
	MACKSN          dukpt.KSN
	ClosedBy        message.Digest // of the reversal that closed it; zero while it is open
	FirstSeen       time.Time      // UTC, in milliseconds
	Tries           int            // how often it was answered again
	// Collided is set for a sign-in on a counter that was used before.
	Collided bool
}

// Tombstone reports whether the entry stands for a message that never arrived.
func (e *Entry) Tombstone() bool { return e.Content == Content{} }

// Range is an interval of ordinals, both ends included.
type Range struct{ From, To uint32 }

// Contains reports whether the ordinal lies in the range.
func (r Range) Contains(ordinal uint32) bool { return r.From <= ordinal && ordinal <= r.To }

// KeyIDState is what is known about the counter of one initial key. Ordinals count from 1; 0 means none yet.
type KeyIDState struct {
	High      uint32  // highest that a verified MAC covers
	Seen      uint32  // highest that was claimed
	Floor     uint32  // at and below it nothing new is accepted; it never goes down
	Fences    []Range // closed by Fenced, as far as nothing was claimed there
	Released  []Range // of the fences, released by two persons; not written yet
	Spent     []Range // used and closed for good; not written yet
	Conflicts uint64  // other contents that were refused
	// Evidence is how many messages were refused for a content that was authenticated like the one first claimed: a clone or a
	// roll-back. It counts a message once, however often it comes.
	Evidence uint64
	Reported uint64 // of the evidence, how much the registration authority knows of
}
