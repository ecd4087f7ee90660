package decrypt

import (
	"context"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

const (
	// MaxContext is how many bytes a ClaimSet may keep for the answer to its message.
	MaxContext = 4 << 10
	// MaxGrantID is how many bytes the id of a drain grant may have.
	MaxGrantID = 64
)

// Store keeps claims, answers and the audit log. It is safe for concurrent use.
//
// What a method returns without error, and every *Refusal for a rule of the claims, is durable before it returns: it
// survives a kill and a power cut. A call that ends by its context while it waits has done nothing, or has done all of it
// durably; either way nothing may be released. Errors that are not about a rule are a *Refusal with CodeStoreUnavailable,
// CodeStoreFull or CodeStoreDamaged, or the error of the context, and then nothing was changed; or, of a database on another
// machine, it could not be found out in time whether it was: that is as when the context ends.
type Store interface {
	// Claim judges every claim of one message against the state before the message, and stores all of them or none. When
	// one is refused it returns that *Refusal, and only conflict counts and the audit log have changed. So it does when some
	// claims of a message that is no sign-in are fresh and others are not, not counting the MAC outside of a resend. A fresh
	// message that has drain grants is counted under one of them, together with its claims, or is CodeDrainGrantSpent. With a
	// refusal the outcome has Evidence and nothing else.
	Claim(ctx context.Context, set ClaimSet) (ClaimOutcome, error)
	// RecordAnswer stores the first answer to a message. The same answer again, by Result and Body, is returned with Again
	// set and the ack that was recorded for that digest; another one is CodeAnswerConflict. A digest that was never claimed
	// is CodeRequestUnknown.
	RecordAnswer(ctx context.Context, a Answer) (Answer, error)
	// LookupAnswer returns the answer to the message with this digest, or to the message that a resend with this digest
	// carries. Its Ack is the one that was recorded for this very digest, and empty when that has none yet.
	LookupAnswer(ctx context.Context, digest message.Digest) (Answer, bool, error)
	// LookupRequest returns what was claimed under a digest.
	LookupRequest(ctx context.Context, digest message.Digest) (Request, bool, error)
	// Counters returns the state of a counter; when nothing was ever claimed the zero state, behind the fence if there is one.
	Counters(ctx context.Context, base keys.Fingerprint, id dukpt.KeyID) (KeyIDState, error)
	// EachCounter calls f for every counter that something is known about, in any order. An error of f ends it and is returned.
	EachCounter(ctx context.Context, f func(CounterKey, KeyIDState) error) error
	// EachUnreported calls f for every counter with more evidence than was reported, as EachCounter does. It is asked often.
	EachUnreported(ctx context.Context, f func(CounterKey, KeyIDState) error) error
	// EvidenceReported notes that the registration authority knows of so much of the evidence about a counter. What is
	// noted never goes down and never beyond the evidence that there is.
	EvidenceReported(ctx context.Context, key CounterKey, evidence uint64) error
	// Fence puts every counter behind a fence, as KeyIDState.Fenced does: those that something is known about, and, from here on,
	// those that nothing is. It returns how many were known. The record is stored with it.
	Fence(ctx context.Context, n uint32, r audit.Record) (known int, err error)
	// Raise raises the floors of counters, as KeyIDState.Raised does: of those that something is known about, and of others, about
	// which something is known then. It returns how many have moved; when none has, nothing is stored, the record neither. None
	// goes down. Floors that CheckFloors refuses are an error.
	Raise(ctx context.Context, floors []Floor, r audit.Record) (moved int, err error)
	// Audit appends a record. Its Sequence is set by the store.
	Audit(ctx context.Context, r audit.Record) error
	// Check reports whether the store can write: it does, and what it writes is no claim.
	Check(ctx context.Context) error
	// Close waits for what was accepted and releases the files. Calls after it fail with CodeStoreUnavailable.
	Close() error
}

// ClaimSet is everything that one message claims.
type ClaimSet struct {
	Digest   message.Digest  // of the message as received
	Original message.Digest  // of the message that is answered: the inner one of a resend, else equal to Digest
	Tenant   keyset.TenantID // of the caller and of the terminal, which are the same
	Context  []byte          // what Answer needs later, opaque here; at most MaxContext bytes
	Time     time.Time       // of the host
	// Claims are those of the message that is answered, its MAC first, and last, in a resend, the one of the MAC outside.
	// No content stands there twice.
	Claims []Claim
	// Closes names the message that a reversal reverses; nil for every other message. It is closed also when it never
	// arrived, so that it cannot be released later.
	Closes *Closes
	// Grants are the drain grants that let a message of a blocked terminal through, in the order to try them in: while it is
	// fresh it needs room in one. None for every other message.
	Grants []Grant
	// Audit is the record of this message. The store sets its Sequence, its Result to "FRESH", "RESEND" or "REFUSED", and
	// its Reason to the code of a refusal, or to Settlement.Remark.
	Audit audit.Record
}

// Grant is a drain grant, as far as a store counts it. It is comparable.
type Grant struct {
	ID    string // names the grant for ever; at most MaxGrantID bytes
	Count uint32 // how many fresh messages it lets through, in all
}

// Closes names the message MAC of a message that is reversed.
type Closes struct {
	BaseKey keys.Fingerprint
	MACKSN  dukpt.KSN
}

// row is the row of the message MAC.
func (c *Closes) row() RowKey { return RowKey{c.BaseKey, c.MACKSN, PurposeMAC} }

// ClaimOutcome says that everything claimed may be released, or, with a refusal, what that is evidence of.
type ClaimOutcome struct {
	// Verdict is Resend when any claim is one, else Fresh. In a resend of a message that had arrived the claims of the inner
	// message are Resend and that of the outer MAC is Fresh.
	Verdict Verdict
	Claims  []ClaimResult // in the order of ClaimSet.Claims
	Answer  *Answer       // what was answered to Original before; nil when nothing was. Ack as in LookupAnswer
	// Evidence is the counter whose KeyIDState.Evidence has grown with the refusal; the zero value of any other outcome.
	Evidence CounterKey
}

// ClaimResult is what became of one claim.
type ClaimResult struct {
	Verdict         Verdict // Fresh or Resend
	Treatment       []byte  // as first released: a resend uses its Resolved
	ClaimKeyVersion uint32  // as first released
	FillKeyVersion  uint32  // as first released: a resend uses it
	Tries           int     // how often it was answered again, this time included
	// Collision is set for a sign-in that came first on a counter that had been used, for a message or for another sign-in:
	// the terminal was rolled back or cloned. It is as it was, when the same sign-in comes again.
	Collision bool
}

// Request is what the store remembers of a message whose claims it accepted.
type Request struct {
	Digest   message.Digest
	Original message.Digest
	Tenant   keyset.TenantID
	Context  []byte // of the first ClaimSet with this digest
}

// Answer is the decision on a message and the ack that tells it.
type Answer struct {
	Digest   message.Digest // of the message that Ack is for
	Original message.Digest // of the message that is decided; one decision each
	Tenant   keyset.TenantID
	Result   message.Result
	Body     []byte
	Ack      []byte
	KSN      dukpt.KSN // that the ack is MACed under
	Content  Content   // of the ack's MAC, for PurposeMACResponse; may be zero
	Time     time.Time
	Again    bool         // set by the store: the decision had been recorded before
	Audit    audit.Record // stored with a first decision or a first ack; never returned
}
