package provision

import (
	"context"
	"errors"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

var (
	// ErrReadOnly is returned by everything that writes inside of View.
	ErrReadOnly = errors.New("provision: a view does not write")
	// ErrExists is wrapped when a record that is unique is there already: a feed record of that sequence, a certificate of
	// that serial number for another terminal.
	ErrExists = errors.New("provision: the record exists already")
)

// Store keeps the registry: terminals, one-time codes, certificates, approvals, tasks, the feed and the audit log, of one
// tenant. It is safe for concurrent use.
type Store interface {
	// Update runs f as one transaction, which sees every one that was committed before: it is durable before Update
	// returns nil, and all or nothing. f may run more than once, each time in a new transaction, and only its last run
	// counts; an error of f comes back as it is, and then nothing was changed. Any other error is a *Refusal with
	// CodeStoreUnavailable, CodeStoreFull or CodeStoreDamaged, or the error of the context; after it the transaction has
	// happened as a whole or not at all. A panic of f passes, and nothing was changed.
	Update(ctx context.Context, f func(Tx) error) error
	// View runs f over one unchanging state.
	View(ctx context.Context, f func(Tx) error) error
	// Check reports whether the store can write.
	Check(ctx context.Context) error
	// Close waits for what runs and releases the files. Calls after it fail.
	Close() error
}

// Tx is a transaction. It is for one goroutine and unusable when the function that got it returns. Records that it
// returns belong to the caller, and it keeps none that it is given. Functions named yield must not use the transaction;
// iteration stops at the first error of yield, which is returned.
type Tx interface {
	// Meta returns what the store says about itself: the zero Meta before the first PutMeta.
	Meta() (Meta, error)
	PutMeta(Meta) error

	// Terminal returns the row of a terminal, and false when there is none.
	Terminal(id keyset.TerminalID) (*Terminal, bool, error)
	// PutTerminal inserts or replaces the row of t.ID.
	PutTerminal(t *Terminal) error
	// Terminals calls yield for every row whose id comes after one, by id; for all of them when that is empty. It reads at most
	// limit rows, and all when that is 0: whoever wants a part says so, because what is not read in the end is read all the same.
	Terminals(after keyset.TerminalID, limit int, yield func(*Terminal) error) error

	// OneTimeCode returns the one-time code of a terminal: the newest, whatever its state.
	OneTimeCode(id keyset.TerminalID) (*OneTimeCode, bool, error)
	// PutOneTimeCode inserts or replaces the code of c.Terminal: a terminal has one.
	PutOneTimeCode(c *OneTimeCode) error
	// OverdueCodes returns codes that are open or reserved and expired at or before a time (Unix seconds), at most limit, in
	// any order.
	OverdueCodes(unix int64, limit int) ([]*OneTimeCode, error)

	// Certificate returns a certificate of a role by its serial number, as identity.Serial spells it.
	Certificate(role identity.Role, serial string) (*Certificate, bool, error)
	// PutCertificate inserts or replaces the certificate of its role and serial number. One that is there for another
	// terminal is ErrExists.
	PutCertificate(c *Certificate) error
	// Certificates calls yield for what was issued to a terminal, or to all when id is empty: the last inserted first, from
	// behind the certificate of a serial number, whatever its role, and from the last when that is empty. Behind a serial
	// number that is not there, there is nothing; of two that share one, it goes on behind the first inserted. It reads at most
	// limit, and all when that is 0. It does not read chains. State is not set.
	Certificates(id keyset.TerminalID, after string, limit int, yield func(Issuance) error) error

	// CertificatesOfKey calls yield for every certificate of a public key that ends after a time (Unix seconds), whoever has
	// it and whatever its role, in any order. State is not set.
	CertificatesOfKey(key KeyHash, unix int64, yield func(Issuance) error) error

	// Approval returns an operation that waits, or waited, for a second person.
	Approval(id string) (*Approval, bool, error)
	PutApproval(a *Approval) error
	// Approvals calls yield for every approval, by the time it was asked for.
	Approvals(yield func(*Approval) error) error
	// PruneApprovals removes approvals that were asked for before a time (Unix seconds) and returns how many.
	PruneApprovals(unix int64) (int, error)

	// Highest returns the highest key id that was ever seen of a key set, and the zero id when there is none. Ids of one
	// set have one length and compare as bytes.
	Highest(set keyset.ID) (dukpt.KeyID, error)
	// RaiseHighest stores id unless a higher one is stored.
	RaiseHighest(set keyset.ID, id dukpt.KeyID) error

	// AppendFeed appends a record. Its epoch and sequence are unique: ErrExists.
	AppendFeed(r FeedRecord) error
	// FeedHead returns the record of the highest sequence of an epoch, and false when there is none.
	FeedHead(epoch uint64) (FeedRecord, bool, error)
	// FeedAfter returns the records of an epoch after a sequence, ascending, at most limit.
	FeedAfter(epoch, after uint64, limit int) ([]FeedRecord, error)
	// FeedLatest calls yield for the newest record of each object in an epoch, by sequence.
	FeedLatest(epoch uint64, yield func(FeedRecord) error) error
	// PruneFeed removes every record of another epoch, and those of the epoch up to a sequence, included, that have a newer
	// one of their object. It returns how many.
	PruneFeed(epoch, through uint64) (int, error)

	// PutTask inserts or replaces a task by its id.
	PutTask(t *Task) error
	// Task returns a task by its id, and false when there is none.
	Task(id string) (*Task, bool, error)
	// DeleteTask removes a task; one that is not there is no error.
	DeleteTask(id string) error
	// Tasks returns the tasks that are due at or before a time (Unix seconds), by that time and then by id, at most limit, after a
	// place in that order. One that cannot be read has its ID and Due, and no Kind: the others are none the worse for it.
	Tasks(unix int64, after TaskPlace, limit int) ([]*Task, error)

	// Audit appends a record to the audit log. Its Sequence is set by the store. An audit record that breaks the format is
	// an error that spoils the transaction.
	Audit(r audit.Record) error
}

// Meta is what a store says about itself.
type Meta struct {
	Tenant  keyset.TenantID
	Epoch   uint64   // of the feed: the Unix second in which it began
	Objects uint64   // how many terminals have a record in the feed
	Signer  [32]byte // SHA-256 of the certificate that signs the records of the epoch
	Pepper  [32]byte // check value of the pepper that one-time codes are stored under
}

// FeedRecord is one record of the registry feed.
type FeedRecord struct {
	Epoch, Sequence uint64
	Object          string // what it is about; a newer record of an object replaces the older ones
	Envelope        []byte // the signed record, as it goes over the wire
}
