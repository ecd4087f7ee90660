package acquirer

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/latchkey-pos/latchkey/decrypt/api"
)

// Entry is one booked message.
type Entry struct {
	Tenant, Terminal string
	BootCounter      uint64
	Sequence         uint64
	Type             string        // "sale", "reversal", …
	Amount           *api.Amount   `json:",omitempty"`
	Card             string        `json:",omitempty"` // masked
	PIN              bool          // a PIN block for the card issuer came along
	Original         *api.Original `json:",omitempty"` // what a reversal takes back
	Digest           string        // of the terminal's message
	Result           api.Result
}

type key struct {
	tenant, terminal string
	boot, sequence   uint64
}

func (e Entry) key() key { return key{e.Tenant, e.Terminal, e.BootCounter, e.Sequence} }

// entryOf reads what the service says. A message inside a resend is described like the message itself.
func entryOf(tx *api.TransactionResponse) Entry {
	e := Entry{
		Tenant: tx.Tenant, Terminal: tx.Terminal, BootCounter: tx.BootCounter, Sequence: tx.Sequence,
		Type: tx.Type, Amount: tx.Amount, Original: tx.Original, Digest: tx.RequestDigest,
	}
	if tx.OriginalDigest != "" {
		e.Digest = tx.OriginalDigest
	}
	for _, f := range tx.Fields {
		if f.MaskedPAN != "" {
			e.Card = f.MaskedPAN
		}
		e.PIN = e.PIN || f.PINBlock != ""
	}
	return e
}

// Ledger is an append-only file of entries, one JSON object a line. It is safe for concurrent use.
type Ledger struct {
	mu      sync.Mutex
	file    *os.File
	size    int64 // of the whole lines
	entries []Entry
	index   map[key]int
}

// OpenLedger opens or creates a ledger. A last line that a crash has cut short is dropped: nobody was told of it.
func OpenLedger(path string) (*Ledger, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	l := &Ledger{file: f, index: make(map[key]int)}
	if err := l.read(); err != nil {
		_ = f.Close() // the first error is the one to report
		return nil, fmt.Errorf("acquirer: ledger %s: %w", path, err)
	}
	return l, nil
}

func (l *Ledger) read() error {
	r := bufio.NewReader(l.file)
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return l.file.Truncate(l.size)
		}
		if err != nil {
			return err
		}
		var e Entry
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("line %d: %w", len(l.entries)+1, err)
		}
		l.add(e)
		l.size += int64(len(line))
	}
}

func (l *Ledger) add(e Entry) {
	l.index[e.key()] = len(l.entries)
	l.entries = append(l.entries, e)
}

// ErrConflict says that a terminal gave one number to two messages.
var ErrConflict = errors.New("acquirer: the number of this message is another message's")

// Book appends an entry durably, or returns the one that the same message has already.
func (l *Ledger) Book(e Entry) (Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i, ok := l.index[e.key()]; ok {
		if l.entries[i].Digest != e.Digest {
			return Entry{}, ErrConflict
		}
		return l.entries[i], nil
	}
	line, err := json.Marshal(e)
	if err != nil {
		return Entry{}, err
	}
	line = append(line, '\n')
	if _, err := l.file.WriteAt(line, l.size); err != nil {
		return Entry{}, err
	}
	if err := l.file.Sync(); err != nil {
		return Entry{}, err
	}
	l.size += int64(len(line))
	l.add(e)
	return e, nil
}

// Entries returns all entries, in the order they were booked.
func (l *Ledger) Entries() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Entry{}, l.entries...)
}

// Close closes the file.
func (l *Ledger) Close() error { return l.file.Close() }
