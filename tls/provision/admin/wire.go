package admin

import (
	"time"

	"github.com/latchkey-pos/latchkey/tls/feed"
)

// The endpoints. Paths have no trailing slash.
const (
	PathTerminals    = "/terminals"
	PathOperations   = "/operations"
	PathFleet        = "/fleet"
	PathCampaigns    = "/campaigns" // one of a key set is behind it: /campaigns/KEYSET
	PathApprovals    = "/approvals"
	PathCertificates = "/certificates"
	PathCRL          = "/crl"
	PathFeed         = feed.PathFeed
	PathObservations = feed.PathObservations
)

// Operation asks for a change of one terminal, or for leave to register a list of them. Which members an action takes stands behind them; others are left out.
type Operation struct {
	Action    string           `json:"Action"`              // register, code, block, unblock, compromised, revoke, rekey, drain, retire, label; register-fleet, import-fleet, code-fleet, compromise-set
	Terminal  string           `json:"Terminal,omitempty"`  // all but those of lists and compromise-set
	Slots     []SlotAssignment `json:"Slots,omitempty"`     // register; rekey: slots that get a key of this set
	Endpoints []string         `json:"Endpoints,omitempty"` // register: https://HOST:PORT of the acquirer
	Group     string           `json:"Group,omitempty"`     // register, label
	Labels    []Label          `json:"Labels,omitempty"`    // register, label: ascending by key
	Short     bool             `json:"Short,omitzero"`      // code, register-fleet, code-fleet: 12 characters and a check character
	Lifetime  int64            `json:"Lifetime,omitzero"`   // code, register-fleet, code-fleet: seconds
	Total     int              `json:"Total,omitzero"`      // of lists: terminals
	Parts     []string         `json:"Parts,omitempty"`     // of lists: provision.PartDigest of each part, in hex
	KeySet    string           `json:"KeySet,omitempty"`    // compromise-set
	Successor string           `json:"Successor,omitempty"` // compromise-set: what its slots are moved to
	Slot      uint8            `json:"Slot,omitzero"`       // rekey (0: every slot), drain
	KeyID     string           `json:"KeyId,omitempty"`     // drain: of the key that MACs the messages
	First     uint32           `json:"First,omitzero"`      // drain: ordinals, both included
	Last      uint32           `json:"Last,omitzero"`
	Count     uint32           `json:"Count,omitzero"`   // drain: messages at most
	Until     int64            `json:"Until,omitzero"`   // drain: Unix seconds
	Reason    string           `json:"Reason,omitempty"` // for the audit log; any action takes one, none needs it
}

// SlotAssignment puts a key set into a slot.
type SlotAssignment struct {
	Slot   uint8  `json:"Slot"`
	KeySet string `json:"KeySet"`
}

// Label is one thing that an operator noted about a terminal.
type Label struct {
	Key   string `json:"Key"`
	Value string `json:"Value"`
}

// Registration is one terminal of a list.
type Registration struct {
	Terminal  string           `json:"Terminal"`
	Slots     []SlotAssignment `json:"Slots,omitempty"`
	Endpoints []string         `json:"Endpoints,omitempty"`
	Group     string           `json:"Group,omitempty"`
	Labels    []Label          `json:"Labels,omitempty"`
	Keys      []InjectedKey    `json:"Keys,omitempty"` // of a terminal that is imported: one for each slot
}

// InjectedKey is an initial key that a terminal has from elsewhere, and how far it was used there.
type InjectedKey struct {
	Slot    uint8   `json:"Slot"`
	KeyID   string  `json:"KeyId"`
	Counter *uint32 `json:"Counter"` // the last one that was used, as it stands in a KSN; 0: none
}

// Part is a part of a list that is to be registered, of at most provision.MaxPart terminals.
type Part struct {
	Approval string         `json:"Approval,omitempty"` // of the list; not with Dry
	Seed     string         `json:"Seed,omitempty"`     // 64 digits of hex, one seed for the whole list; not with Dry, nor with keys. It is a secret
	Dry      bool           `json:"Dry,omitzero"`       // only say what would be refused
	Codes    bool           `json:"Codes,omitzero"`     // the terminals are registered, and get codes: they have names and nothing else
	All      []Registration `json:"Terminals"`
}

// Enlisted is what became of one terminal of a list.
type Enlisted struct {
	Terminal string `json:"Terminal"`
	Code     string `json:"Code,omitempty"`    // why not, or why there is no ticket
	Message  string `json:"Message,omitempty"` // to Code
	Ticket   string `json:"Ticket,omitempty"`
	Expires  int64  `json:"Expires,omitzero"` // Unix seconds: until when the code is good
}

// Outcome is what became of an operation: done, or waiting for a second person.
type Outcome struct {
	Approval *Approval `json:"Approval,omitempty"` // set while it waits
	Terminal *Terminal `json:"Terminal,omitempty"` // as it is afterwards
	Ticket   string    `json:"Ticket,omitempty"`   // code: what goes on the slip of paper. It is shown this once
	Granted  string    `json:"Granted,omitempty"`  // of lists: the id of the approval, once there is one
}

// Terminal is one terminal of the registry.
type Terminal struct {
	Terminal       string       `json:"Terminal"`
	Status         string       `json:"Status"`
	Reason         string       `json:"StatusReason,omitempty"`
	Generation     uint64       `json:"Generation"`
	Slots          []Slot       `json:"Slots"`
	Endpoints      []string     `json:"Endpoints"`
	Group          string       `json:"Group,omitempty"`
	Labels         []Label      `json:"Labels,omitempty"`
	Serial         string       `json:"CertificateSerial,omitempty"`
	NotAfter       int64        `json:"CertificateNotAfter,omitzero"` // Unix seconds
	PreviousSerial string       `json:"PreviousSerial,omitempty"`
	PreviousUntil  int64        `json:"PreviousUntil,omitzero"` // Unix seconds
	Agreement      string       `json:"AgreementSerial,omitempty"`
	CodeExpires    int64        `json:"CodeExpires,omitzero"` // Unix seconds: until when its one-time code is good; of one terminal, not of lists
	Grants         []DrainGrant `json:"DrainGrants,omitempty"`
}

// DrainGrant lets a part of a blocked terminal's queue through.
type DrainGrant struct {
	ID    string `json:"Id"`
	Slot  uint8  `json:"Slot"`
	KeyID string `json:"KeyId"`
	First uint32 `json:"First"`
	Last  uint32 `json:"Last"`
	Count uint32 `json:"Count"`
	Until int64  `json:"Until"` // Unix seconds
}

// Slot is a slot with the keys in it.
type Slot struct {
	Slot   uint8  `json:"Slot"`
	KeySet string `json:"KeySet"`
	Wanted bool   `json:"Wanted"` // the terminal is to fetch a key
	Keys   []Key  `json:"Keys"`
}

// Key is one initial key of a slot: its name and state, nothing secret.
type Key struct {
	KeyID     string `json:"KeyId"`
	State     string `json:"State"`              // pending, active, draining, retired
	Delivered int64  `json:"Delivered,omitzero"` // Unix seconds
	FirstSeen int64  `json:"FirstSeen,omitzero"`
	High      uint32 `json:"High,omitzero"`     // highest ordinal that the host has reported
	Imported  bool   `json:"Imported,omitzero"` // the terminal has it from elsewhere
	Floor     uint32 `json:"Floor,omitzero"`    // of one that is imported: ordinal up to which it was used elsewhere
}

// Campaign says how far a key set is from being out of use, whether or not it is compromised.
type Campaign struct {
	KeySet    string         `json:"KeySet"`
	Stopped   bool           `json:"Stopped"`             // no key of it is delivered any more
	Told      bool           `json:"Told"`                // the key-distribution host knows of that
	Successor string         `json:"Successor,omitempty"` // what its slots are moved to
	Since     int64          `json:"Since,omitzero"`      // Unix seconds
	Names     []string       `json:"Names,omitempty"`     // who stands behind it
	Ordering  bool           `json:"Ordering"`            // orders to rekey are still being given
	Slots     map[string]int `json:"Slots"`               // how many are waiting, ordered, delivered, rekeyed, out
	Hit       []HitSlot      `json:"Hit"`                 // a page of them
	More      bool           `json:"More,omitzero"`       // there are more behind the last one
}

// HitSlot is a slot that a compromised key set is or was in.
type HitSlot struct {
	Terminal string `json:"Terminal"`
	Status   string `json:"Status"`
	Slot     uint8  `json:"Slot"`
	KeySet   string `json:"KeySet"`   // that it is for now
	Progress string `json:"Progress"` // waiting, ordered, delivered, rekeyed, out
}

// Approval is an operation that waits for a second person.
type Approval struct {
	ID        string    `json:"Id"`
	Operation Operation `json:"Operation"`
	By        string    `json:"By"`      // who asked
	At        int64     `json:"At"`      // Unix seconds
	Expires   int64     `json:"Expires"` // Unix seconds
}

// Certificate is one certificate that was issued to a terminal.
type Certificate struct {
	Serial   string `json:"Serial"`
	Terminal string `json:"Terminal"`
	Role     string `json:"Role"` // terminal or agreement
	Issued   int64  `json:"Issued"`
	NotAfter int64  `json:"NotAfter"`
	State    string `json:"State"` // current, previous, replaced, revoked
}

// Lists, as they travel. More says that there is more behind the last one: ask again with its name as after.
type (
	terminalList struct {
		Terminals []Terminal
		More      bool `json:"More,omitzero"`
	}
	approvalList    struct{ Approvals []Approval }
	enlistedList    struct{ Terminals []Enlisted }
	certificateList struct {
		Certificates []Certificate
		More         bool `json:"More,omitzero"`
	}
)

// unix is the time on the wire: seconds, 0 for none.
func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}
