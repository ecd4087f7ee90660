package feed

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/internal/crockford"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

const (
	formatVersion  = 1
	maxRecordBytes = 32 << 10 // of a payload
	maxSlots       = 64       // keys of one terminal, several of them in one slot
	maxGrants      = 64
)

// Kind says what a record is about.
type Kind uint8

// KindTerminal is the only kind in use. Those of services, key ids, key sets and trust lists are refused.
const KindTerminal Kind = 1

var kindWords = map[Kind]string{KindTerminal: "terminal"}

// String returns the word of docs/protocol.md, or "invalid(n)".
func (k Kind) String() string {
	if w, ok := kindWords[k]; ok {
		return w
	}
	return fmt.Sprintf("invalid(%d)", uint8(k))
}

// Record is the authority's word on one terminal. It is plain data; Marshal and ParseRecord check it.
type Record struct {
	Epoch    uint64            // from 1; a new one begins after a restore and with each new signing key
	Sequence uint64            // from 1 in each epoch, without gaps
	Previous [sha256.Size]byte // SHA-256 of the envelope of the record before; zero in the first of an epoch
	Kind     Kind
	Issuer   string // name of the authority in its certificate
	// Terminal may have 0 to 64 keys, ascending by slot, then key id: one active in each slot, beside others that are
	// pending, draining or retired. Its generation grows with each record.
	Terminal keyset.Terminal
}

var recordForm = canon.NewForm(fmt.Errorf("%w: record", ErrFormat), maxRecordBytes, 64, 8)

// Marshal returns the payload of a valid record. The error wraps ErrFormat.
func (r *Record) Marshal() ([]byte, error) {
	if err := r.validate(); err != nil {
		return nil, err
	}
	return recordForm.Marshal(r.wire())
}

// ParseRecord reads the payload of a record. Marshal of the result gives back the same bytes. It says nothing about who
// signed: see Verifier. The error wraps ErrFormat.
func ParseRecord(b []byte) (*Record, error) {
	var w wireRecord
	if err := recordForm.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	r, err := w.parse()
	if err != nil {
		return nil, recordForm.Errorf("%v", err)
	}
	return canon.Spelled(recordForm, r, b)
}

func (r *Record) validate() error {
	switch {
	case r.Epoch < 1 || r.Sequence < 1:
		return broken("record: epoch %d, sequence %d, want both from 1", r.Epoch, r.Sequence)
	case (r.Sequence == 1) != (r.Previous == [sha256.Size]byte{}):
		return broken("record: the first of an epoch has no previous hash, and every other one has")
	case kindWords[r.Kind] == "":
		return broken("record: kind %v is not in use", r.Kind)
	case !isName(r.Issuer):
		return broken("record: issuer is not a name")
	}
	if err := checkTerminal(&r.Terminal); err != nil {
		return broken("record: %v", err)
	}
	return nil
}

// checkTerminal holds the record of a terminal in the feed to its rules. Those of one in a signed document, which is
// keyset's, are narrower.
func checkTerminal(t *keyset.Terminal) error {
	if t.Version != keyset.FormatVersion {
		return fmt.Errorf("format version %d, want %d", t.Version, keyset.FormatVersion)
	}
	if _, err := keyset.ParseTenant(string(t.Tenant)); err != nil {
		return err
	}
	if _, err := keyset.ParseTerminal(string(t.ID)); err != nil {
		return err
	}
	if _, err := t.Status.MarshalText(); err != nil {
		return err
	}
	if t.Generation < 1 {
		return errors.New("generation 0, want 1 or more")
	}
	return first(t.CheckSerials(), checkSlots(t.Slots), checkGrants(t.DrainGrants))
}

func checkSlots(slots []keyset.Slot) error {
	if len(slots) > maxSlots {
		return fmt.Errorf("%d keys, want at most %d", len(slots), maxSlots)
	}
	seen := make(map[dukpt.KeyID]bool, len(slots))
	active := make(map[uint8]bool)
	for i, s := range slots {
		if err := checkSlot(s); err != nil {
			return err
		}
		if i > 0 && !ascending(slots[i-1], s) {
			return errors.New("keys are not ascending by slot and key id")
		}
		if seen[s.KeyID] {
			return fmt.Errorf("key id %v twice", s.KeyID)
		}
		if s.State == keyset.SlotActive && active[s.Slot] {
			return fmt.Errorf("slot %d has two active keys", s.Slot)
		}
		seen[s.KeyID] = true
		active[s.Slot] = active[s.Slot] || s.State == keyset.SlotActive
	}
	return nil
}

func checkSlot(s keyset.Slot) error {
	if s.Slot < 1 || s.Slot > keyset.MaxSlots {
		return fmt.Errorf("slot %d, want 1 to %d", s.Slot, keyset.MaxSlots)
	}
	if s.KeyID.IsZero() {
		return fmt.Errorf("slot %d has no key id", s.Slot)
	}
	if s.Floor > s.KeyID.Scheme().MaxOrdinal() {
		return fmt.Errorf("slot %d has a floor of %d", s.Slot, s.Floor)
	}
	if _, err := keyset.ParseID(string(s.KeySet)); err != nil {
		return err
	}
	_, err := s.State.MarshalText()
	return err
}

func ascending(a, b keyset.Slot) bool {
	return a.Slot < b.Slot || a.Slot == b.Slot && a.KeyID.Compare(b.KeyID) < 0
}

func checkGrants(grants []keyset.DrainGrant) error {
	if len(grants) > maxGrants {
		return fmt.Errorf("%d drain grants, want at most %d", len(grants), maxGrants)
	}
	for i, g := range grants {
		if i > 0 && grants[i-1].ID >= g.ID {
			return errors.New("drain grants are not ascending by id, each once")
		}
		if err := checkGrant(g); err != nil {
			return fmt.Errorf("drain grant %d: %w", i+1, err)
		}
	}
	return nil
}

func checkGrant(g keyset.DrainGrant) error {
	switch {
	case len(g.ID) != 26 || strings.Trim(g.ID, crockford.Alphabet) != "":
		return errors.New("id is not 26 characters of Crockford's base 32")
	case g.Slot < 1 || g.Slot > keyset.MaxSlots || g.KeyID.IsZero():
		return errors.New("no key id in a slot")
	case g.First < 1 || g.Last < g.First || g.Last > g.KeyID.Scheme().MaxOrdinal():
		return fmt.Errorf("ordinals %d to %d", g.First, g.Last)
	case g.Count < 1 || g.Count-1 > g.Last-g.First:
		return fmt.Errorf("%d messages of the ordinals %d to %d", g.Count, g.First, g.Last)
	}
	return checkTime("end", g.Until)
}

func checkTime(what string, t time.Time) error {
	if t.Unix() < 1 || t.Nanosecond() != 0 {
		return fmt.Errorf("%s is not in whole seconds since 1970", what)
	}
	return nil
}

// isName reports whether s is a name, of an authority or of anything else.
func isName(s string) bool {
	_, err := keyset.ParseTerminal(s)
	return err == nil
}

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// first returns the first of the errors that is one.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// wireRecord is the payload of a record.
type wireRecord struct {
	Version        uint        `cbor:"v"`
	Epoch          uint64      `cbor:"epoch"`
	Sequence       uint64      `cbor:"sequence"`
	Previous       []byte      `cbor:"previous,omitempty"`
	Kind           string      `cbor:"kind"`
	Issuer         string      `cbor:"issuer"`
	Tenant         string      `cbor:"tenant"`
	Terminal       string      `cbor:"terminal"`
	Slots          []wireSlot  `cbor:"slots,omitempty"`
	Serial         string      `cbor:"serial,omitempty"`
	PreviousSerial string      `cbor:"previous-serial,omitempty"`
	PreviousUntil  int64       `cbor:"previous-until,omitempty"`
	Status         string      `cbor:"status"`
	Generation     uint64      `cbor:"generation"`
	DrainGrants    []wireGrant `cbor:"drain-grants,omitempty"`
}

type wireSlot struct {
	Slot   uint8  `cbor:"slot"`
	KeySet string `cbor:"key-set"`
	KeyID  []byte `cbor:"key-id"`
	State  string `cbor:"state"`
	Floor  uint32 `cbor:"floor,omitempty"`
}

type wireGrant struct {
	ID    string `cbor:"id"`
	Slot  uint8  `cbor:"slot"`
	KeyID []byte `cbor:"key-id"`
	First uint32 `cbor:"first"`
	Last  uint32 `cbor:"last"`
	Count uint32 `cbor:"count"`
	Until int64  `cbor:"until"`
}

func (r *Record) wire() *wireRecord {
	t := &r.Terminal
	w := &wireRecord{
		Version: formatVersion, Epoch: r.Epoch, Sequence: r.Sequence, Previous: hashBytes(r.Previous), Kind: r.Kind.String(),
		Issuer: r.Issuer, Tenant: string(t.Tenant), Terminal: string(t.ID), Serial: t.Serial,
		PreviousSerial: t.PreviousSerial, Status: t.Status.String(), Generation: t.Generation,
	}
	if !t.PreviousUntil.IsZero() {
		w.PreviousUntil = t.PreviousUntil.Unix()
	}
	for _, s := range t.Slots {
		w.Slots = append(w.Slots, wireSlot{s.Slot, string(s.KeySet), s.KeyID.Append(nil), s.State.String(), s.Floor})
	}
	for _, g := range t.DrainGrants {
		w.DrainGrants = append(w.DrainGrants, wireGrant{g.ID, g.Slot, g.KeyID.Append(nil), g.First, g.Last, g.Count, g.Until.Unix()})
	}
	return w
}

func (w *wireRecord) parse() (*Record, error) {
	if w.Version != formatVersion {
		return nil, fmt.Errorf("format version %d, want %d", w.Version, formatVersion)
	}
	if w.Kind != KindTerminal.String() {
		return nil, fmt.Errorf("kind %.32q is not in use", w.Kind)
	}
	r := &Record{Epoch: w.Epoch, Sequence: w.Sequence, Kind: KindTerminal, Issuer: w.Issuer, Terminal: keyset.Terminal{
		Version: keyset.FormatVersion, Tenant: keyset.TenantID(w.Tenant), ID: keyset.TerminalID(w.Terminal), Serial: w.Serial,
		PreviousSerial: w.PreviousSerial, Generation: w.Generation,
	}}
	if w.PreviousUntil != 0 {
		r.Terminal.PreviousUntil = time.Unix(w.PreviousUntil, 0).UTC()
	}
	if err := readHash(&r.Previous, w.Previous); err != nil {
		return nil, err
	}
	if err := r.Terminal.Status.UnmarshalText([]byte(w.Status)); err != nil {
		return nil, err
	}
	return r, first(w.slots(&r.Terminal), w.grants(&r.Terminal))
}

func (w *wireRecord) slots(t *keyset.Terminal) error {
	for _, ws := range w.Slots {
		s := keyset.Slot{Slot: ws.Slot, KeySet: keyset.ID(ws.KeySet), Floor: ws.Floor}
		if err := first(s.KeyID.UnmarshalBinary(ws.KeyID), s.State.UnmarshalText([]byte(ws.State))); err != nil {
			return err
		}
		t.Slots = append(t.Slots, s)
	}
	return nil
}

func (w *wireRecord) grants(t *keyset.Terminal) error {
	for _, wg := range w.DrainGrants {
		g := keyset.DrainGrant{
			ID: wg.ID, Slot: wg.Slot, First: wg.First, Last: wg.Last, Count: wg.Count, Until: time.Unix(wg.Until, 0).UTC(),
		}
		if err := g.KeyID.UnmarshalBinary(wg.KeyID); err != nil {
			return err
		}
		t.DrainGrants = append(t.DrainGrants, g)
	}
	return nil
}

// hashBytes gives the wire form of a hash that may be zero: nothing.
func hashBytes(h [sha256.Size]byte) []byte {
	if h == ([sha256.Size]byte{}) {
		return nil
	}
	return slices.Clone(h[:])
}

func readHash(dst *[sha256.Size]byte, b []byte) error {
	if b == nil {
		return nil
	}
	if len(b) != sha256.Size {
		return fmt.Errorf("hash of %d bytes, want %d", len(b), sha256.Size)
	}
	*dst = [sha256.Size]byte(b)
	return nil
}
