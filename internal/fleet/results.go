package fleet

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/go-json-experiment/json"

	"github.com/latchkey-pos/latchkey/internal/filelock"
	"github.com/latchkey-pos/latchkey/internal/seal"
	"github.com/latchkey-pos/latchkey/internal/strictjson"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

var (
	// ErrExposed is wrapped when others than its owner can read or write a file of results.
	ErrExposed = errors.New("fleet: results are open to group or others")
	// ErrResults is wrapped when a file is no file of results, or one that was changed.
	ErrResults = errors.New("fleet: not results of a list")
)

const (
	resultsVersion = 1
	maxResult      = 4 << 10                               // bytes of a line
	maxResults     = 2 * (provision.MaxFleet + 1) * 1 << 9 // bytes of a file
)

// Head says what results are of.
type Head struct {
	Digest provision.Digest // of the list: what stands in its approval
	Total  int              // terminals
	Seed   string           // what the codes are made from, in hex: a secret. None when they are imported
	Short  bool
	Life   int64 // of the codes, in seconds
	Import bool  // terminals are imported: there are neither codes nor tickets, and a result without a code of refusal is one that is done
}

// Result is what became of one line of a list.
type Result struct {
	Line     int
	Terminal keyset.TerminalID
	Code     string // why it was not registered, or has no ticket; empty for none
	Message  string // to Code
	Ticket   string // CODE-PIN: a secret until it is spent
	Expires  int64  // of the code, Unix seconds
}

// record is one line of the file: the head, the approval of the list, or a result. The results before the approval are
// those of terminals that were left out of the list.
type record struct {
	Version  int    `json:"v,omitzero"`
	List     string `json:"list,omitempty"`
	Total    int    `json:"total,omitzero"`
	Seed     string `json:"seed,omitempty"`
	Short    bool   `json:"short,omitzero"`
	Life     int64  `json:"life,omitzero"`
	Import   bool   `json:"import,omitzero"`
	Approval string `json:"approval,omitempty"`
	Line     int    `json:"line,omitzero"`
	Terminal string `json:"terminal,omitempty"`
	Code     string `json:"code,omitempty"`
	Message  string `json:"message,omitempty"`
	Ticket   string `json:"ticket,omitempty"`
	Expires  int64  `json:"expires,omitzero"`
}

// Results is a file of results. What was appended is durable. It is for one goroutine; a second process waits for the first
// to close it. Close it.
type Results struct {
	f        *os.File
	head     Head
	approval string
	left     map[keyset.TerminalID]Result // out of the list
	done     map[keyset.TerminalID]Result
}

// Create makes a new file of results of mode 0600 that says which terminals were left out of the list, and opens it. One
// that is there is an error that wraps fs.ErrExist.
func Create(path string, h Head, left []Result) (*Results, error) {
	var b bytes.Buffer
	all := []record{h.record()}
	for _, r := range left {
		all = append(all, r.record())
	}
	if err := write(&b, all); err != nil {
		return nil, err
	}
	if err := seal.CreateFile(path, b.Bytes(), 0o600); err != nil {
		return nil, err
	}
	return Open(path)
}

// Open opens a file of results to go on. A last line without an end, as a killed process leaves one, is cut off. Errors are
// those of the file system, or wrap ErrExposed or ErrResults.
func Open(path string) (*Results, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrResults, path)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	r := &Results{f: f, left: make(map[keyset.TerminalID]Result), done: make(map[keyset.TerminalID]Result)}
	if err := r.load(path); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return r, nil
}

func (r *Results) load(path string) error {
	if err := filelock.Lock(r.f); err != nil {
		return err
	}
	info, err := r.f.Stat()
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%w: %s has mode %04o, want 0600", ErrExposed, path, mode)
	}
	b, err := io.ReadAll(io.LimitReader(r.f, maxResults+1))
	if err != nil {
		return err
	}
	whole := b[:bytes.LastIndexByte(b, '\n')+1]
	if err := r.read(whole); err != nil {
		return fmt.Errorf("%w: %s: %v", ErrResults, path, err)
	}
	if len(whole) == len(b) {
		return nil
	}
	return errors.Join(r.f.Truncate(int64(len(whole))), r.f.Sync())
}

// read takes the lines of a file.
func (r *Results) read(b []byte) error {
	if len(b) > maxResults {
		return errors.New("it is too long")
	}
	for n := 1; len(b) > 0; n++ {
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		b = rest
		var rec record
		if err := strictjson.Read(line, maxResult, false, &rec); err != nil {
			return fmt.Errorf("line %d: %v", n, err)
		}
		if err := r.take(n, rec); err != nil {
			return fmt.Errorf("line %d: %v", n, err)
		}
		if again, err := json.Marshal(rec, json.Deterministic(true)); err != nil || !bytes.Equal(again, line) {
			return fmt.Errorf("line %d: it is not written as we write it", n)
		}
	}
	if r.head.Total == 0 {
		return errors.New("it has no first line")
	}
	return nil
}

// take takes the line of a number. Each is one thing.
func (r *Results) take(n int, rec record) error {
	switch {
	case n == 1:
		h := Head{Total: rec.Total, Seed: rec.Seed, Short: rec.Short, Life: rec.Life, Import: rec.Import}
		seed, err := hex.DecodeString(rec.Seed)
		coded := err == nil && len(seed) == provision.SeedSize && hex.EncodeToString(seed) == rec.Seed && rec.Life >= 1
		if rec.Import {
			coded = rec.Seed == "" && rec.Life == 0 && !rec.Short
		}
		if !coded || rec.Version != resultsVersion || rec.Total < 1 {
			return errors.New("it is no first line of version 1")
		}
		if h.Digest, err = provision.ParseDigest(rec.List); err != nil {
			return err
		}
		r.head = h
		if rec != h.record() {
			return errors.New("there is more in the first line")
		}
	case rec.Approval != "":
		if r.approval != "" || rec != (record{Approval: rec.Approval}) {
			return errors.New("there is more in the line of the approval, or a second one")
		}
		r.approval = rec.Approval
	default:
		return r.takeResult(rec)
	}
	return nil
}

func (r *Results) takeResult(rec record) error {
	id, err := keyset.ParseTerminal(rec.Terminal)
	if err != nil {
		return err
	}
	one := Result{Line: rec.Line, Terminal: id, Code: rec.Code, Message: rec.Message, Ticket: rec.Ticket, Expires: rec.Expires}
	silent := one.Code == "" && one.Ticket == "" // which is what becomes of a terminal that is imported
	if rec != one.record() || one.Line < 2 || silent && !r.head.Import || r.head.Import && one.Ticket != "" {
		return errors.New("it is no result")
	}
	_, left := r.left[id]
	_, done := r.done[id]
	if left || done {
		return fmt.Errorf("a second result of %s", id)
	}
	if r.approval == "" {
		r.left[id] = one
	} else {
		r.done[id] = one
	}
	return nil
}

func (h Head) record() record {
	return record{Version: resultsVersion, List: h.Digest.String(), Total: h.Total, Seed: h.Seed, Short: h.Short, Life: h.Life, Import: h.Import}
}

func (one Result) record() record {
	return record{
		Line: one.Line, Terminal: string(one.Terminal), Code: one.Code, Message: one.Message, Ticket: one.Ticket, Expires: one.Expires,
	}
}

// Head says what the results are of.
func (r *Results) Head() Head { return r.head }

// Approval is the id of the approval of the list, empty before it was noted.
func (r *Results) Approval() string { return r.approval }

// Left reports whether a terminal was left out of the list.
func (r *Results) Left(id keyset.TerminalID) bool { _, ok := r.left[id]; return ok }

// Done returns what became of a terminal of the list, and false when that is not known yet.
func (r *Results) Done(id keyset.TerminalID) (Result, bool) {
	one, ok := r.done[id]
	return one, ok
}

// All returns what became of the terminals of the list so far, in its order.
func (r *Results) All() []Result {
	return slices.SortedFunc(maps.Values(r.done), func(a, b Result) int { return a.Line - b.Line })
}

// Approve notes the approval of the list.
func (r *Results) Approve(id string) error {
	return r.append([]record{{Approval: id}})
}

// Append notes what became of terminals of the list. It is durable before Append returns.
func (r *Results) Append(all []Result) error {
	records := make([]record, len(all))
	for i, one := range all {
		records[i] = one.record()
	}
	return r.append(records)
}

func (r *Results) append(records []record) error {
	var b bytes.Buffer
	if err := write(&b, records); err != nil {
		return err
	}
	for _, rec := range records {
		if err := r.take(2, rec); err != nil {
			return fmt.Errorf("fleet: %w", err)
		}
	}
	if _, err := r.f.Write(b.Bytes()); err != nil {
		return err
	}
	return r.f.Sync()
}

func write(b *bytes.Buffer, records []record) error {
	for _, rec := range records {
		line, err := json.Marshal(rec, json.Deterministic(true))
		if err != nil {
			return fmt.Errorf("fleet: %w", err)
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	return nil
}

// Close lets the next process in.
func (r *Results) Close() error { return r.f.Close() }
