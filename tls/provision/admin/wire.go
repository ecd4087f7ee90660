package admin

import (
	"time"

	"github.com/latchkey-pos/latchkey/tls/feed"
)

// The endpoints. Paths have no trailing slash.
const (
	PathTerminals    = "/terminals"
	PathOperations   = "/operations"
	PathApprovals    = "/approvals"
	PathCertificates = "/certificates"
	PathCRL          = "/crl"
	PathFeed         = feed.PathFeed
	PathObservations = feed.PathObservations
)

// Operation asks for a change of one terminal. Which members an action takes stands behind them; others are left out.
type Operation struct {
	Action    string           `json:"Action"` // register, code, block, unblock, compromised, revoke, rekey, drain, retire
	Terminal  string           `json:"Terminal"`
	Slots     []SlotAssignment `json:"Slots,omitempty"`     // register; rekey: slots that get a key of this set
	Endpoints []string         `json:"Endpoints,omitempty"` // register: https://HOST:PORT of the acquirer
	Short     bool             `json:"Short,omitzero"`      // code: 12 characters and a check character
	Lifetime  int64            `json:"Lifetime,omitzero"`   // code: seconds
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

// Outcome is what became of an operation: done, or waiting for a second person.
type Outcome struct {
	Approval *Approval `json:"Approval,omitempty"` // set while it waits
	Terminal *Terminal `json:"Terminal,omitempty"` // as it is afterwards
	Ticket   string    `json:"Ticket,omitempty"`   // code: what goes on the slip of paper. It is shown this once
}

// Terminal is one terminal of the registry.
type Terminal struct {
	Terminal       string       `json:"Terminal"`
	Status         string       `json:"Status"`
	Reason         string       `json:"StatusReason,omitempty"`
	Generation     uint64       `json:"Generation"`
	Slots          []Slot       `json:"Slots"`
	Endpoints      []string     `json:"Endpoints"`
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
	High      uint32 `json:"High,omitzero"` // highest ordinal that the host has reported
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
