package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// ErrExport is wrapped by every error about a file that is not, byte for byte, one that Export wrote.
var ErrExport = errors.New("audit: not an export")

const (
	exportFormat  = "latchkey-audit"
	exportVersion = 1
	maxLine       = 128 << 10 // more than a record of MaxRecord comes to
)

// MarshalJSON returns the record for programs that know no CBOR: names of members as in the log, time as RFC 3339 in milliseconds, the
// digest in lower-case hex. Members that are empty are not written.
func (r Record) MarshalJSON() ([]byte, error) {
	type labels struct {
		KeyMode     string `json:"key-mode,omitempty"`
		PINExposure string `json:"pin-exposure,omitempty"`
		Environment string `json:"environment,omitempty"`
	}
	w := struct {
		Time      string   `json:"time"`
		Instance  string   `json:"instance"`
		Sequence  uint64   `json:"sequence"`
		Actor     string   `json:"actor,omitempty"`
		Role      string   `json:"role,omitempty"`
		Tenant    string   `json:"tenant,omitempty"`
		Source    string   `json:"source,omitempty"`
		Action    string   `json:"action"`
		Object    string   `json:"object,omitempty"`
		Result    string   `json:"result"`
		Reason    string   `json:"reason,omitempty"`
		Digest    string   `json:"digest,omitempty"`
		KCV       string   `json:"kcv,omitempty"`
		Labels    *labels  `json:"labels,omitempty"`
		Approvals []string `json:"approvals,omitempty"`
	}{
		Time: r.Time.UTC().Format("2006-01-02T15:04:05.000Z07:00"), Instance: r.Instance, Sequence: r.Sequence, Actor: r.Actor, Role: r.Role,
		Tenant: r.Tenant, Source: r.Source, Action: r.Action, Object: r.Object, Result: r.Result, Reason: r.Reason, KCV: r.KCV, Approvals: r.Approvals,
	}
	if r.Digest != [32]byte{} {
		w.Digest = hex.EncodeToString(r.Digest[:])
	}
	if r.Labels != (Labels{}) {
		l := labels(r.Labels)
		w.Labels = &l
	}
	return json.Marshal(w)
}

// exportLine is one line of an export: one of its members.
type exportLine struct {
	Format     string  `json:"format,omitempty"` // first line
	Version    int     `json:"version,omitempty"`
	Checkpoint string  `json:"checkpoint,omitempty"` // then each checkpoint, a signed note
	Leaf       []byte  `json:"leaf,omitempty"`       // then each record, by index: the bytes that the tree is made of,
	Record     *Record `json:"record,omitempty"`     // and what they say
	End        *uint64 `json:"end,omitempty"`        // last line: how many records there were
}

// single reports whether the line has one of its members, in which Version belongs to Format and Record to Leaf.
func (l exportLine) single() bool {
	n := 0
	for _, has := range []bool{l.Format != "" && l.Version != 0, l.Checkpoint != "", l.Leaf != nil, l.End != nil} {
		if has {
			n++
		}
	}
	return n == 1 && (l.Format != "" || l.Version == 0)
}

// text is the line as it is written.
func (l exportLine) text() ([]byte, error) {
	b, err := json.Marshal(l)
	return append(b, '\n'), err
}

// ErrUnsigned says that there is no checkpoint, so that an export would prove nothing.
var ErrUnsigned = errors.New("audit: nothing is under a checkpoint yet")

// errEnough ends the reading of a log.
var errEnough = errors.New("enough")

// Export writes a log as JSON Lines, as far as it is under a checkpoint: a first line, every checkpoint, every record with the bytes that
// are hashed, a last line. What ReadExport makes of it passes Verify if the log does. It calls progress, if not nil, with each number of
// records that are written. It fails with ErrUnsigned.
func Export(ctx context.Context, src Source, w io.Writer, progress func(records uint64)) (records uint64, err error) {
	out := bufio.NewWriter(w)
	put := func(l exportLine) error {
		b, err := l.text()
		if err == nil {
			_, err = out.Write(b)
		}
		return err
	}
	if err := put(exportLine{Format: exportFormat, Version: exportVersion}); err != nil {
		return 0, err
	}
	checkpoints, err := src.Checkpoints(ctx) // before the records, so that each is of no more than those
	if err != nil {
		return 0, fmt.Errorf("audit: checkpoints: %w", err)
	}
	signed := uint64(0)
	for _, note := range checkpoints {
		c, err := ReadUnverified(note)
		if err != nil {
			return 0, err
		}
		signed = max(signed, c.Size)
		if err := put(exportLine{Checkpoint: string(note)}); err != nil {
			return 0, err
		}
	}
	if signed == 0 {
		return 0, ErrUnsigned
	}
	err = src.Leaves(ctx, func(leaf Leaf) error {
		if records == signed {
			return errEnough
		}
		r, err := ParseRecord(leaf.Record)
		if err != nil {
			return &LeafError{leaf.Index, err.Error()}
		}
		if leaf.Index != records {
			return &LeafError{records, fmt.Sprintf("missing, the next one is %d", leaf.Index)}
		}
		records++
		if progress != nil {
			progress(records)
		}
		return put(exportLine{Leaf: leaf.Record, Record: &r})
	})
	if err != nil && !errors.Is(err, errEnough) {
		return records, err
	}
	if err := put(exportLine{End: &records}); err != nil {
		return records, err
	}
	return records, out.Flush()
}

// Exported is a log in a file that Export wrote. It is read once, by one goroutine.
type Exported struct {
	lines       *bufio.Reader
	checkpoints [][]byte
	next        exportLine // the first that is no checkpoint
}

var _ Source = (*Exported)(nil)

// ReadExport reads up to the first record. It fails with ErrExport, or the error of the reader.
func ReadExport(r io.Reader) (*Exported, error) {
	e := &Exported{lines: bufio.NewReaderSize(r, maxLine)}
	first, err := e.line()
	if err != nil {
		return nil, err
	}
	if first.Format != exportFormat || first.Version != exportVersion {
		return nil, fmt.Errorf("%w: it does not begin as one of version %d", ErrExport, exportVersion)
	}
	for {
		if e.next, err = e.line(); err != nil {
			return nil, err
		}
		if e.next.Checkpoint == "" {
			return e, nil
		}
		e.checkpoints = append(e.checkpoints, []byte(e.next.Checkpoint))
	}
}

// line reads a line, and holds it against what Export writes for its content: what a person reads in it is what is hashed.
func (e *Exported) line() (exportLine, error) {
	text, err := e.lines.ReadSlice('\n')
	if err == io.EOF || errors.Is(err, bufio.ErrBufferFull) {
		return exportLine{}, fmt.Errorf("%w: it ends in the middle, or a line does not end", ErrExport)
	}
	if err != nil {
		return exportLine{}, err
	}
	var l struct {
		exportLine
		Record json.RawMessage `json:"record"` // that of the leaf
	}
	if err := json.Unmarshal(text, &l); err != nil {
		return exportLine{}, fmt.Errorf("%w: %v", ErrExport, err)
	}
	if l.Leaf != nil {
		r, err := ParseRecord(l.Leaf)
		if err != nil {
			return exportLine{}, fmt.Errorf("%w: %v", ErrExport, err)
		}
		l.exportLine.Record = &r
	}
	again, err := l.exportLine.text()
	if err != nil || !l.single() || !bytes.Equal(again, text) {
		return exportLine{}, fmt.Errorf("%w: a line is not as it was written", ErrExport)
	}
	return l.exportLine, nil
}

// Checkpoints implements Source.
func (e *Exported) Checkpoints(context.Context) ([][]byte, error) { return e.checkpoints, nil }

// Leaves implements Source. It can be called once.
func (e *Exported) Leaves(ctx context.Context, yield func(Leaf) error) error {
	var tree Tree
	l, err := e.next, error(nil)
	for l.Leaf != nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		leaf := Leaf{Index: tree.Size(), Record: l.Leaf}
		tree, leaf.Hashes = tree.Append(l.Leaf)
		if err := yield(leaf); err != nil {
			return err
		}
		if l, err = e.line(); err != nil {
			return err
		}
	}
	if l.End == nil || *l.End != tree.Size() {
		return fmt.Errorf("%w: it does not end with the number of its records, %d", ErrExport, tree.Size())
	}
	if _, err := e.lines.ReadByte(); err != io.EOF {
		return errors.Join(fmt.Errorf("%w: something follows its last line", ErrExport), err)
	}
	return nil
}

// Line is a record for a person, in one line: when, what came of it, what, by whom. Text of callers that does not print is quoted.
func (r Record) Line() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s #%d %s", r.Time.UTC().Format(time.RFC3339), plain(r.Instance), r.Sequence, plain(r.Result))
	for _, part := range []struct{ before, text string }{
		{" ", r.Reason}, {" ", r.Action}, {" ", r.Object}, {" by ", r.Actor}, {" as ", r.Role}, {" from ", r.Source},
	} {
		if part.text != "" {
			b.WriteString(part.before + plain(part.text))
		}
	}
	return b.String()
}

// plain is text that moves no cursor.
func plain(s string) string {
	if q := fmt.Sprintf("%q", s); q != `"`+s+`"` {
		return q
	}
	return s
}
