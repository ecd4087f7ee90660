package api

// CounterStatus says what the claim of a message's counters found.
type CounterStatus string

// The counter statuses.
const (
	Fresh  CounterStatus = "FRESH"  // never claimed before
	Resend CounterStatus = "RESEND" // this very message was claimed before; the answer is the same
	None   CounterStatus = "NONE"   // nothing was claimed, because the service decided by itself: see Code
)

// TransactionResponse is what a message held; of a message inside a resend, what that one held. When Ack is set the service decided by itself: send Ack to the terminal and
// record no answer.
type TransactionResponse struct {
	RequestDigest        string        `json:"RequestDigest"`           // SHA-256 of the message as received, lower-case hexadecimal
	OriginalDigest       string        `json:"OriginalDigest,omitzero"` // of the message inside, when it came in a resend
	Type                 string        `json:"Type"`                    // "sale", "reversal", "void", "advice", "sign-in", "resend"
	Tenant               string        `json:"Tenant"`
	Terminal             string        `json:"Terminal"`
	BootCounter          uint64        `json:"BootCounter"`
	Sequence             uint64        `json:"Sequence"`
	Time                 int64         `json:"Time,omitzero"` // terminal clock, Unix seconds; not trusted
	Offline              bool          `json:"Offline,omitzero"`
	Queued               bool          `json:"Queued,omitzero"`
	Amount               *Amount       `json:"Amount,omitzero"`
	Original             *Original     `json:"Original,omitzero"`
	Body                 []byte        `json:"Body,omitempty"` // opaque, in JSON base64
	CounterStatus        CounterStatus `json:"CounterStatus"`
	CounterAuthenticated bool          `json:"CounterAuthenticated"` // the MAC of the message covers its counters
	Fields               []Field       `json:"Fields,omitempty"`
	Labels               Labels        `json:"Labels,omitzero"`
	Held                 bool          `json:"Held,omitzero"`     // nothing released: the terminal or its key set is blocked
	Reversed             bool          `json:"Reversed,omitzero"` // nothing released: a reversal came first
	Code                 string        `json:"Code,omitzero"`     // why the service decided by itself
	Ack                  []byte        `json:"Ack,omitempty"`     // acknowledgement of the service's own, in JSON base64
	RecordedResult       *Recorded     `json:"RecordedResult,omitzero"`
}

// BatchResponse has one result for each message of a batch, in their order.
type BatchResponse struct {
	Results []BatchResult `json:"Results"`
}

// BatchResult is what became of one message of a batch: one of its members is set.
type BatchResult struct {
	Response *TransactionResponse `json:"Response,omitzero"`
	Error    *Error               `json:"Error,omitzero"` // its Status is zero: it has none of its own
}

// Amount is money in minor units.
type Amount struct {
	Minor    int64  `json:"Minor"`    // such as cents
	Currency string `json:"Currency"` // ISO 4217, three letters or digits
	Exponent uint8  `json:"Exponent"` // decimal digits of the minor unit
}

// Original names the message that a reversal or void is about.
type Original struct {
	Sequence uint64 `json:"Sequence"`
	KSN      string `json:"KSN"`
	Digest   string `json:"Digest"`
}

// Recorded is the answer that the host gave earlier to the same message.
type Recorded struct {
	Result Result `json:"Result"`
	Body   []byte `json:"Body,omitempty"`
	Ack    []byte `json:"Ack,omitempty"` // the acknowledgement as it was sent
}

// Labels say how the keys of an answer are held.
type Labels struct {
	KeyMode     string `json:"KeyMode"`     // "token", "bdk-in-token", "software"
	PINExposure string `json:"PINExposure"` // "none", "host-memory"
	Environment string `json:"Environment"` // "production", "test"
}

// Field is one decrypted or translated field of a message.
type Field struct {
	Slot      uint8  `json:"Slot"`
	KSN       string `json:"KSN"`    // upper-case hexadecimal
	Usage     string `json:"Usage"`  // "pin", "data"
	KeySet    string `json:"KeySet"` // its id
	KCV       string `json:"KCV"`    // check value of the base key
	MaskedPAN string `json:"MaskedPAN,omitzero"`
	// ClearData is the decrypted card data, where the key set releases it. In JSON: base64. Do not log it.
	ClearData []byte `json:"ClearData,omitempty"`
	// PINBlock is the PIN under PINKey, upper-case hexadecimal.
	PINBlock  string `json:"PINBlock,omitzero"`
	PINFormat string `json:"PINFormat,omitzero"` // of PINBlock
	PINKey    string `json:"PINKey,omitzero"`    // reference of the zone key
	PINKeyKCV string `json:"PINKeyKCV,omitzero"`
	Labels    Labels `json:"Labels"`
}

// Recording says whether an answer was new.
type Recording string

// The recordings.
const (
	First Recording = "FIRST" // this answer was recorded now
	Again Recording = "AGAIN" // the same answer had been recorded before
)

// AnswerResponse carries the acknowledgement for the terminal.
type AnswerResponse struct {
	Ack      []byte    `json:"Ack"` // message bytes to send to the terminal, in JSON base64
	Recorded Recording `json:"Recorded"`
	Labels   Labels    `json:"Labels,omitzero"` // of the key that Ack is MACed under
}

// CountersResponse says where the counters of a terminal stand.
type CountersResponse struct {
	Tenant   string         `json:"Tenant"`
	Terminal string         `json:"Terminal"`
	Status   string         `json:"Status"` // of the terminal, such as "active"
	Slots    []SlotCounters `json:"Slots,omitempty"`
}

// SlotCounters says where the counter of one key stands. Positions are ordinals: they count valid counters from 1.
type SlotCounters struct {
	Slot      uint8  `json:"Slot"`
	KeySet    string `json:"KeySet"`
	KeyID     string `json:"KeyID"`
	High      uint32 `json:"High"`      // highest whose MAC was verified
	Seen      uint32 `json:"Seen"`      // highest claimed
	Floor     uint32 `json:"Floor"`     // at and below this nothing new is accepted
	Remaining uint32 `json:"Remaining"` // keys left above Seen
	Conflicts uint64 `json:"Conflicts"` // refused second contents
	Labels    Labels `json:"Labels,omitzero"`
}
