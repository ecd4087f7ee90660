package fleet

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// The columns of a list. The first line names those that it has, in any order.
const (
	ColumnTerminal  = "terminal"  // name; required
	ColumnSlots     = "slots"     // NUMBER=KEYSET;…
	ColumnEndpoints = "endpoints" // https://HOST:PORT;…
	ColumnGroup     = "group"
	ColumnLabels    = "labels" // KEY=VALUE;…
	ColumnKeys      = "keys"   // NUMBER=KEYID/COUNTER;…, of lists that are imported
)

const maxLine = 8 << 10 // bytes

var columns = []string{ColumnTerminal, ColumnSlots, ColumnEndpoints, ColumnGroup, ColumnLabels}

// ErrList is wrapped when a file is no list at all.
var ErrList = errors.New("fleet: not a list of terminals")

// Entry is one line of a list.
type Entry struct {
	Line int // of the file; the first one, which names the columns, is 1
	provision.Registration
}

// Fault is a line that is wrong.
type Fault struct {
	Line   int
	Reason string // quotes nothing that is not a name
}

// Defaults are what a line has that does not say otherwise, and what a list is for.
type Defaults struct {
	Slots     []provision.SlotAssignment
	Endpoints []string
	Import    bool // terminals are imported: each has a key for each of its slots. Otherwise there is no column for keys
}

// columns are those that the list may have.
func (d *Defaults) columns() []string {
	if d.Import {
		return append(slices.Clone(columns), ColumnKeys)
	}
	return columns
}

// Parse reads comma-separated values (RFC 4180) in ASCII, a line each: what is quoted does not go over the end of one. It
// returns the lines that are right, in their order, and those that are not. A terminal that is there more than once is a
// fault of each of its lines: which of them was meant is nobody's guess. An error wraps ErrList, or is one of reading.
func Parse(r io.Reader, d Defaults) ([]Entry, []Fault, error) {
	p := &parser{lines: bufio.NewReaderSize(r, maxLine), defaults: d, seen: make(map[keyset.TerminalID][]int)}
	if err := p.head(); err != nil {
		return nil, nil, err
	}
	for {
		text, err := p.line()
		if errors.Is(err, io.EOF) {
			break
		}
		if _, broken := errors.AsType[reason](err); err != nil && !broken {
			return nil, nil, err
		}
		if p.number-1 > provision.MaxFleet {
			return nil, nil, fmt.Errorf("%w: more than %d lines", ErrList, provision.MaxFleet)
		}
		if err == nil {
			err = p.entry(text)
		}
		if err != nil {
			p.faults = append(p.faults, Fault{p.number, err.Error()})
		}
	}
	p.shared()
	p.twice()
	return p.entries, p.faults, nil
}

// reason is what is wrong with a line.
type reason string

func (r reason) Error() string { return string(r) }

func wrong(format string, args ...any) error { return reason(fmt.Sprintf(format, args...)) }

type parser struct {
	lines    *bufio.Reader
	number   int // of the last line
	columns  []string
	defaults Defaults
	seen     map[keyset.TerminalID][]int // lines
	entries  []Entry
	faults   []Fault
}

// line returns the next line without its end.
func (p *parser) line() (string, error) {
	b, err := p.lines.ReadSlice('\n')
	if errors.Is(err, io.EOF) && len(b) == 0 {
		return "", io.EOF
	}
	p.number++
	text := string(b)
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = p.lines.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		return "", wrong("the line has more than %d bytes", maxLine-1)
	case errors.Is(err, io.EOF):
		return "", wrong("the line does not end: was the file cut off?")
	case err != nil:
		return "", err
	}
	text = strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	for _, r := range text {
		if r < ' ' || r > '~' {
			return "", wrong("there is a character that is not a printable one of ASCII")
		}
	}
	return text, nil
}

// head reads the names of the columns.
func (p *parser) head() error {
	text, err := p.line()
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it is empty", ErrList)
	}
	if _, broken := errors.AsType[reason](err); err != nil && !broken {
		return err
	}
	if err == nil {
		p.columns, err = split(text)
	}
	if err != nil {
		return fmt.Errorf("%w: line 1: %v; it names the columns, as in: terminal,slots,group (plain ASCII, without a byte order mark)", ErrList, err)
	}
	for i, c := range p.columns {
		if !slices.Contains(p.defaults.columns(), c) || slices.Contains(p.columns[:i], c) {
			return fmt.Errorf("%w: line 1: column %d: want each at most once of %s", ErrList, i+1, strings.Join(p.defaults.columns(), ", "))
		}
	}
	needed := []string{ColumnTerminal}
	if p.defaults.Import {
		needed = append(needed, ColumnKeys)
	}
	for _, c := range needed {
		if !slices.Contains(p.columns, c) {
			return fmt.Errorf("%w: line 1: there is no column %s", ErrList, c)
		}
	}
	return nil
}

// split reads the fields of a line.
func split(text string) ([]string, error) {
	if text == "" {
		return nil, wrong("the line is empty")
	}
	r := csv.NewReader(strings.NewReader(text))
	fields, err := r.Read()
	if err != nil {
		return nil, wrong("a quotation mark is where none belongs, or is missing")
	}
	if _, err := r.Read(); !errors.Is(err, io.EOF) {
		return nil, wrong("there is more than one record")
	}
	for _, f := range fields {
		if strings.TrimSpace(f) != f {
			return nil, wrong("there is a space at the beginning or the end of a field")
		}
	}
	return fields, nil
}

// entry reads a line.
func (p *parser) entry(text string) error {
	fields, err := split(text)
	if err != nil {
		return err
	}
	if len(fields) != len(p.columns) {
		return wrong("%d fields, want %d", len(fields), len(p.columns))
	}
	e := Entry{Line: p.number}
	e.Slots, e.Endpoints = p.defaults.Slots, p.defaults.Endpoints
	// The name first: a line that is wrong in another place is still one of its terminal.
	id, err := keyset.ParseTerminal(fields[slices.Index(p.columns, ColumnTerminal)])
	if err != nil {
		return wrong("%s: want 1 to 32 of A-Z, 0-9 and -", ColumnTerminal)
	}
	e.Terminal = id
	p.seen[id] = append(p.seen[id], p.number)
	for i, field := range fields {
		if field == "" || p.columns[i] == ColumnTerminal {
			continue
		}
		if err := e.set(p.columns[i], field); err != nil {
			return wrong("%s: %v", p.columns[i], err)
		}
	}
	if len(e.Slots) == 0 {
		return wrong("%s: there is none", ColumnSlots)
	}
	if len(e.Endpoints) == 0 {
		return wrong("%s: there is none", ColumnEndpoints)
	}
	if p.defaults.Import && len(e.Keys) == 0 {
		return wrong("%s: there is none", ColumnKeys)
	}
	if err := e.Check(); err != nil {
		return wrong("%v", err)
	}
	p.entries = append(p.entries, e)
	return nil
}

// set reads a field that is not empty.
func (e *Entry) set(column, field string) (err error) {
	switch column {
	case ColumnSlots:
		e.Slots, err = ParseSlots(strings.Split(field, ";"))
	case ColumnEndpoints:
		e.Endpoints = strings.Split(field, ";")
	case ColumnGroup:
		e.Group, err = provision.ParseGroup(field)
	case ColumnLabels:
		e.Labels, err = ParseLabels(strings.Split(field, ";"))
	case ColumnKeys:
		e.Keys, err = ParseKeys(strings.Split(field, ";"))
	default:
		err = wrong("unknown column")
	}
	return err
}

// ParseKeys reads NUMBER=KEYID/COUNTER, once for each slot: the initial key of a terminal by its id, which is the KSN with counter 0,
// and the last counter that was used under it. Both are hexadecimal as in a KSN, and the counter has all of its digits: "10" would
// be ten to some and sixteen to others.
func ParseKeys(texts []string) ([]provision.InjectedKey, error) {
	var out []provision.InjectedKey
	for _, text := range texts {
		number, rest, ok := strings.Cut(text, "=")
		id, counter, also := strings.Cut(rest, "/")
		n, err := strconv.ParseUint(number, 10, 8)
		if !ok || !also || err != nil || n < 1 || n > keyset.MaxSlots || strconv.FormatUint(n, 10) != number {
			return nil, wrong("want NUMBER=KEYID/COUNTER;…, slots are 1 to %d", keyset.MaxSlots)
		}
		k := provision.InjectedKey{Slot: uint8(n)}
		if k.KeyID, err = dukpt.ParseKeyID(id); err != nil {
			return nil, wrong("slot %d: that is not a key id: want the initial KSN, 20 digits with the counter 0 for TDES, 16 without it for AES", n)
		}
		digits := counterDigits(k.KeyID.Scheme())
		c, err := strconv.ParseUint(counter, 16, 32)
		if err != nil || len(counter) != digits || strings.ToUpper(counter) != counter {
			return nil, wrong("slot %d: want the counter with %d digits of upper-case hex, as in a KSN", n, digits)
		}
		k.Counter = uint32(c)
		if _, err := k.Ordinal(); err != nil {
			return nil, wrong("slot %d: counter %s is none that a terminal gets to", n, counter)
		}
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b provision.InjectedKey) int { return int(a.Slot) - int(b.Slot) })
	for i := range out {
		if i > 0 && out[i].Slot == out[i-1].Slot {
			return nil, wrong("slot %d is there twice", out[i].Slot)
		}
	}
	return out, nil
}

// counterDigits is how many hexadecimal digits a counter has.
func counterDigits(s dukpt.Scheme) int {
	if s == dukpt.TDES {
		return 6 // 21 bits
	}
	return 8
}

// ParseSlots reads NUMBER=KEYSET, once for each slot.
func ParseSlots(texts []string) ([]provision.SlotAssignment, error) {
	var out []provision.SlotAssignment
	for _, text := range texts {
		number, set, ok := strings.Cut(text, "=")
		n, err := strconv.ParseUint(number, 10, 8)
		if !ok || err != nil || n < 1 || n > keyset.MaxSlots || strconv.FormatUint(n, 10) != number {
			return nil, wrong("want NUMBER=KEYSET;…, slots are 1 to %d", keyset.MaxSlots)
		}
		id, err := keyset.ParseID(set)
		if err != nil {
			return nil, wrong("want NUMBER=KEYSET;…, key sets have 1 to 32 of A-Z, 0-9 and -")
		}
		out = append(out, provision.SlotAssignment{Slot: uint8(n), KeySet: id})
	}
	slices.SortFunc(out, func(a, b provision.SlotAssignment) int { return int(a.Slot) - int(b.Slot) })
	for i := range out {
		if i > 0 && out[i].Slot == out[i-1].Slot {
			return nil, wrong("slot %d is there twice", out[i].Slot)
		}
	}
	return out, nil
}

// ParseLabels reads KEY=VALUE, once for each key.
func ParseLabels(texts []string) ([]provision.Label, error) {
	var out []provision.Label
	for _, text := range texts {
		l, err := provision.ParseLabel(text)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return provision.SortLabels(out)
}

// shared takes out the terminals that have one key id of a set: which of them has it is nobody's guess.
func (p *parser) shared() {
	type held struct {
		set keyset.ID
		id  dukpt.KeyID
	}
	lines := make(map[held][]int)
	for _, e := range p.entries {
		for i, k := range e.Keys {
			at := held{e.Slots[i].KeySet, k.KeyID}
			lines[at] = append(lines[at], e.Line)
		}
	}
	wrong := make(map[int]Fault)
	for at, all := range lines {
		if len(all) < 2 {
			continue
		}
		for i, line := range all {
			other := all[0]
			if i == 0 {
				other = all[1]
			}
			wrong[line] = Fault{line, fmt.Sprintf("key id %v is on line %d too", at.id, other)}
		}
	}
	p.entries = slices.DeleteFunc(p.entries, func(e Entry) bool { _, is := wrong[e.Line]; return is })
	for _, f := range wrong {
		p.faults = append(p.faults, f)
	}
}

// twice takes out the terminals that are there more than once.
func (p *parser) twice() {
	p.entries = slices.DeleteFunc(p.entries, func(e Entry) bool { return len(p.seen[e.Terminal]) > 1 })
	faulty := make(map[int]bool, len(p.faults))
	for _, f := range p.faults {
		faulty[f.Line] = true
	}
	for id, lines := range p.seen {
		if len(lines) < 2 {
			continue
		}
		for i, line := range lines {
			other := lines[0]
			if i == 0 {
				other = lines[1]
			}
			if !faulty[line] {
				p.faults = append(p.faults, Fault{line, fmt.Sprintf("%s is on line %d too", id, other)})
			}
		}
	}
	slices.SortFunc(p.faults, func(a, b Fault) int { return a.Line - b.Line })
}
