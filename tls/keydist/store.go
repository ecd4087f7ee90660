package keydist

import (
	"context"
	"errors"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// ErrConflict is wrapped when what is to be written contradicts what the store holds: a key id that was given out before,
// a highest id that would not rise, a state that would go back. The host never asks for that; a store refuses it all the
// same, so that no defect gives out an id twice.
var ErrConflict = errors.New("keydist: the store holds something else")

// Store keeps what one host gave out, and its audit log. It is safe for concurrent use.
//
// An error that does not come from f is a *Refusal with CodeStoreUnavailable, CodeStoreFull or CodeStoreDamaged, or the
// error of the context.
type Store interface {
	// Update runs f as one transaction, as if no other ran at the same time. What f wrote is durable before Update returns
	// nil: it survives a kill and a power cut. When f fails, nothing was written and its error is returned. f may run more
	// than once, and only its last run counts. After any other error the transaction has happened as a whole or not at all.
	Update(ctx context.Context, f func(Tx) error) error
	// View runs f over one state of the store. The methods of Tx that write fail in it.
	View(ctx context.Context, f func(Tx) error) error
	// Check reports whether the store can write: it does, and what it writes means nothing.
	Check(ctx context.Context) error
	// Close waits for transactions under way and releases the files. Calls after it fail with CodeStoreUnavailable.
	Close() error
}

// Tx is one transaction. It is good until the function that got it returns, and not safe for concurrent use. After an error
// of a method the function returns an error too. Times are kept in milliseconds, UTC.
type Tx interface {
	// Last returns the highest key id of a set that was ever given out, and the zero value when none was.
	Last(set keyset.ID) (dukpt.KeyID, error)
	// SetLast stores it. It must be above Last by its bytes, else the error wraps ErrConflict.
	SetLast(set keyset.ID, id dukpt.KeyID) error

	// Issue records a key id that is given out, in state pending. The key set and the key id together are there once for
	// ever: the error wraps ErrConflict when they are there already.
	Issue(i Issued) error
	// Issued returns what was given out under a key id of a set.
	Issued(set keyset.ID, id dukpt.KeyID) (Issued, bool, error)
	// Pending returns the key ids of a slot that are in state pending, of all key sets, in the order of Issue.
	Pending(terminal keyset.TerminalID, slot uint8) ([]Issued, error)
	// Settle moves a key id on: from pending to active or retired, or from active to retired, and stores when. Any other
	// move, and an id that was not given out, is an error that wraps ErrConflict.
	Settle(set keyset.ID, id dukpt.KeyID, state keyset.SlotState, at time.Time) error

	// Certify records a certificate for an agreement key. An earlier one for the same terminal and public key gives way.
	Certify(c Certified) error
	// Certified returns the certificate for a public key of a terminal.
	Certified(terminal keyset.TerminalID, spki [32]byte) (Certified, bool, error)
	// AgreementKeys returns how many agreement keys of a terminal were certified.
	AgreementKeys(terminal keyset.TerminalID) (int, error)

	// Audit appends a record to the audit log of the store, which sets its Sequence.
	Audit(r audit.Record) error
}

// Issued is a key id that was given out.
type Issued struct {
	KeySet    keyset.ID
	KeyID     dukpt.KeyID
	Terminal  keyset.TerminalID
	Slot      uint8            // 1 to keyset.MaxSlots
	Replaces  dukpt.KeyID      // the key that the terminal had in the slot; zero for none
	Delivery  keyset.Delivery  // how: Attested or Code; DeliveryNone for one that the terminal has from elsewhere
	Agreement [32]byte         // SHA-256 of the agreement certificate that the key was wrapped for; zeros with DeliveryNone
	State     keyset.SlotState // SlotPending, SlotActive or SlotRetired
	IssuedAt  time.Time
	SettledAt time.Time // of the last Settle; zero before
}

// Certified is the certificate of an agreement key.
type Certified struct {
	Terminal keyset.TerminalID
	SPKI     [32]byte // SHA-256 of the subject public key info, DER
	Serial   string   // as spelled by identity.Serial
	Chain    [][]byte // DER: the leaf, then the issuing certificates without the root
	IssuedAt time.Time
}
