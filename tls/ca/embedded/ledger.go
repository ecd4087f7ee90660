package embedded

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/latchkey-pos/latchkey/internal/filelock"
)

// ErrLedger is wrapped when the record of issued certificates is damaged. Nothing is issued until someone has looked.
var ErrLedger = errors.New("embedded: damaged ledger")

// The events that the ledger records.
const (
	eventIssued  = "issued"
	eventRevoked = "revoked"
	eventCRL     = "crl"
)

// entry is one line of the ledger.
type entry struct {
	Version  int       `json:"v"`
	Event    string    `json:"event"`
	Time     time.Time `json:"time"`
	Serial   string    `json:"serial,omitempty"`   // issued, revoked
	Identity string    `json:"identity,omitempty"` // issued
	KeyHash  string    `json:"key_hash,omitempty"` // issued: SHA-256 of the subject public key info
	NotAfter time.Time `json:"not_after,omitzero"` // issued
	Reason   int       `json:"reason,omitzero"`    // revoked
	Number   int64     `json:"number,omitzero"`    // crl
}

// ledger is the append-only record of an authority. Several processes may use one: each operation takes the lock of the
// file and reads what others have added. It is safe for concurrent use.
type ledger struct {
	sync func(*os.File) error

	mu     sync.Mutex
	file   *os.File
	read   int64 // bytes of whole lines that are in the records
	failed error // why a sync failed: the system may have dropped what it could not write, so only a new start is safe
	records
}

// records is what the lines of a ledger add up to.
type records struct {
	issued  map[string]entry
	revoked map[string]entry
	number  int64 // of the last revocation list
}

func newRecords() records {
	return records{issued: make(map[string]entry), revoked: make(map[string]entry)}
}

// openLedger reads a ledger. sync makes a file durable: (*os.File).Sync, but for tests.
func openLedger(path string, sync func(*os.File) error) (*ledger, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	l := &ledger{sync: sync, file: f, records: newRecords()}
	if err := l.do(func() error { return nil }); err != nil {
		_ = f.Close() // the damage is the error to report
		return nil, err
	}
	return l, nil
}

func (l *ledger) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

// do runs f while no other goroutine or process uses the ledger, with everything read that stands in it.
func (l *ledger) do(f func() error) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := filelock.Lock(l.file); err != nil {
		return fmt.Errorf("embedded: ledger: %w", err)
	}
	defer func() {
		if e := filelock.Unlock(l.file); err == nil && e != nil {
			err = fmt.Errorf("embedded: ledger: %w", e)
		}
	}()
	if l.failed != nil {
		return fmt.Errorf("embedded: ledger: a sync failed before; open it again: %w", l.failed)
	}
	if err := l.catchUp(); err != nil {
		return err
	}
	return f()
}

// append makes an entry durable; call it within do.
func (l *ledger) append(e entry) error {
	e.Version = 1
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("embedded: ledger: %w", err)
	}
	line = append(line, '\n')
	if _, err := l.file.WriteAt(line, l.read); err != nil {
		_ = l.file.Truncate(l.read) // or the next catchUp cuts the torn line
		return fmt.Errorf("embedded: ledger: %w", err)
	}
	if err := l.settle(); err != nil {
		_ = l.file.Truncate(l.read) // nobody was told of the line; if it stays, whoever opens the ledger syncs it
		return err
	}
	l.read += int64(len(line))
	return l.apply(e)
}

// settle makes the file durable. When that fails the ledger is of no more use.
func (l *ledger) settle() error {
	if err := l.sync(l.file); err != nil {
		l.failed = err
		return fmt.Errorf("embedded: ledger: %w", err)
	}
	return nil
}

// catchUp reads the lines added since the last time. A last line without its end was never acknowledged to anyone and is
// cut off; a line that does not parse is damage. Whoever wrote the lines may have ended before syncing them, so that is done
// here before anything rests on them.
func (l *ledger) catchUp() error {
	info, err := l.file.Stat()
	if err != nil {
		return fmt.Errorf("embedded: ledger: %w", err)
	}
	if info.Size() < l.read {
		return fmt.Errorf("%w: %d bytes where %d were read before", ErrLedger, info.Size(), l.read)
	}
	added, err := io.ReadAll(io.NewSectionReader(l.file, l.read, 1<<62))
	if err != nil {
		return fmt.Errorf("embedded: ledger: %w", err)
	}
	n, err := l.absorb(added)
	l.read += n
	if n > 0 {
		if err := l.settle(); err != nil {
			return err
		}
	}
	if err != nil {
		return fmt.Errorf("%w at byte %d: %v", ErrLedger, l.read, err)
	}
	if n < int64(len(added)) {
		if err := l.file.Truncate(l.read); err != nil {
			return fmt.Errorf("embedded: ledger: %w", err)
		}
	}
	return nil
}

// absorb applies the whole lines of b and returns how many bytes they took.
func (r *records) absorb(b []byte) (n int64, err error) {
	for {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		if !whole {
			return n, nil
		}
		var e entry
		if err := json.Unmarshal(line, &e, json.RejectUnknownMembers(true)); err != nil {
			return n, err
		}
		if err := r.apply(e); err != nil {
			return n, err
		}
		n += int64(len(line)) + 1
		b = rest
	}
}

func (r *records) apply(e entry) error {
	if e.Version != 1 {
		return fmt.Errorf("version %d", e.Version)
	}
	switch e.Event {
	case eventIssued:
		if b, err := hex.DecodeString(e.Serial); err != nil || len(b) == 0 || hex.EncodeToString(b) != e.Serial {
			return fmt.Errorf("serial number %q is not lower-case hexadecimal", e.Serial)
		}
		if _, ok := r.issued[e.Serial]; ok {
			return fmt.Errorf("serial number %q issued twice", e.Serial)
		}
		r.issued[e.Serial] = e
	case eventRevoked:
		if _, ok := r.issued[e.Serial]; !ok {
			return fmt.Errorf("serial number %q revoked and never issued", e.Serial)
		}
		r.revoked[e.Serial] = e
	case eventCRL:
		if e.Number <= r.number {
			return fmt.Errorf("revocation list %d after %d", e.Number, r.number)
		}
		r.number = e.Number
	default:
		return fmt.Errorf("unknown event %q", e.Event)
	}
	return nil
}
