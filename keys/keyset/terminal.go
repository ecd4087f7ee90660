package keyset

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
)

const maxSerialBytes = 20

// ErrTerminal is wrapped by every error about a terminal record that breaks a rule.
var ErrTerminal = errors.New("keyset: terminal record breaks a rule")

// Terminal is the registry's record of one terminal. It is plain data: whoever fills it in calls Validate before using
// it, and MarshalTerminal and UnmarshalTerminal do so by themselves. What comes from the registry feed (tls/feed) may have
// several keys in one slot, while one drains and another waits to be confirmed, and may have drain grants; a signed
// document has neither.
type Terminal struct {
	Version        uint       // FormatVersion
	Tenant         TenantID   // whose it is
	ID             TerminalID // its name within the tenant
	Slots          []Slot     // ascending by slot number
	Serial         string     // current certificate serial: lower-case hex of whole bytes; empty before enrolment
	PreviousSerial string     // serial before the last renewal; empty when there is none
	PreviousUntil  time.Time  // until when PreviousSerial still connects, whole seconds; zero without one
	Status         Status     // what it may do
	Generation     uint64     // 1, 2, 3 …; every change is a new one
	DrainGrants    []DrainGrant
}

// DrainGrant lets a part of what a blocked or quarantined terminal has queued through. Two people approve it. It counts
// messages by the ordinal of the KSN that MACs them.
type DrainGrant struct {
	ID          string // names the grant for ever: 26 characters of Crockford's base 32
	Slot        uint8  // of the key that MACs the messages
	KeyID       dukpt.KeyID
	First, Last uint32    // ordinals, both included
	Count       uint32    // messages at most
	Until       time.Time // whole seconds
}

// HasSlot reports whether any key is in the slot of a number.
func (t *Terminal) HasSlot(number uint8) bool {
	return slices.ContainsFunc(t.Slots, func(s Slot) bool { return s.Slot == number })
}

// Key returns the entry of a key in a slot.
func (t *Terminal) Key(slot uint8, id dukpt.KeyID) (Slot, bool) {
	for _, s := range t.Slots {
		if s.Slot == slot && s.KeyID == id {
			return s, true
		}
	}
	return Slot{}, false
}

// Validate reports the first rule that the record breaks. The error wraps ErrTerminal.
func (t *Terminal) Validate() error {
	if t.Version != FormatVersion {
		return brokenTerminal("format version %d, want %d", t.Version, FormatVersion)
	}
	if err := checkName("tenant", string(t.Tenant)); err != nil {
		return brokenTerminal("%v", err)
	}
	if err := checkName("terminal", string(t.ID)); err != nil {
		return brokenTerminal("%v", err)
	}
	if !statusWords.known(uint8(t.Status)) {
		return brokenTerminal("status is not set")
	}
	if t.Generation < 1 {
		return brokenTerminal("generation 0, want 1 or more")
	}
	if len(t.DrainGrants) > 0 {
		return brokenTerminal("drain grants come from the registry feed, not in a document")
	}
	if err := t.CheckSerials(); err != nil {
		return err
	}
	return t.checkSlots()
}

// CheckSerials reports the first rule that the serials of a record break, of one in the registry feed too. The error wraps
// ErrTerminal.
func (t *Terminal) CheckSerials() error {
	if t.Serial != "" && !validSerial(t.Serial) {
		return brokenTerminal("serial is not lower-case hex of 1 to %d bytes", maxSerialBytes)
	}
	if t.PreviousSerial == "" {
		if !t.PreviousUntil.IsZero() {
			return brokenTerminal("there is an end for a previous serial and no such serial")
		}
		return nil
	}
	if !validSerial(t.PreviousSerial) || t.PreviousSerial == t.Serial || t.Serial == "" {
		return brokenTerminal("previous serial is no serial, the current one, or without a current one")
	}
	if t.PreviousUntil.Unix() < 1 || t.PreviousUntil.Nanosecond() != 0 {
		return brokenTerminal("no end of the previous serial in whole seconds since 1970")
	}
	return nil
}

func validSerial(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) >= 1 && len(b) <= maxSerialBytes && s == strings.ToLower(s)
}

func (t *Terminal) checkSlots() error {
	if len(t.Slots) < 1 || len(t.Slots) > MaxSlots {
		return brokenTerminal("%d slots, want 1 to %d", len(t.Slots), MaxSlots)
	}
	for i, s := range t.Slots {
		if s.Slot < 1 || s.Slot > MaxSlots {
			return brokenTerminal("slot %d, want 1 to %d", s.Slot, MaxSlots)
		}
		if i > 0 && t.Slots[i-1].Slot >= s.Slot {
			return brokenTerminal("slots are not ascending, each once")
		}
		if err := checkName("key set", string(s.KeySet)); err != nil {
			return brokenTerminal("slot %d: %v", s.Slot, err)
		}
		if s.KeyID.IsZero() {
			return brokenTerminal("slot %d has no key id", s.Slot)
		}
		if !slotStateWords.known(uint8(s.State)) {
			return brokenTerminal("slot %d has no state", s.Slot)
		}
		if s.Floor != 0 {
			return brokenTerminal("slot %d: a floor comes from the registry feed, not in a document", s.Slot)
		}
		for _, other := range t.Slots[:i] {
			if other.KeyID == s.KeyID { // also under two base keys: messages name an original by its KSN alone
				return brokenTerminal("slots %d and %d hold key id %v", other.Slot, s.Slot, s.KeyID)
			}
		}
	}
	return nil
}

func brokenTerminal(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrTerminal, fmt.Sprintf(format, args...))
}

// wireTerminal is the stored form of a terminal record.
type wireTerminal struct {
	Version        uint       `cbor:"v"`
	Tenant         string     `cbor:"tenant"`
	ID             string     `cbor:"terminal"`
	Slots          []wireSlot `cbor:"slots"`
	Serial         string     `cbor:"serial,omitempty"`
	PreviousSerial string     `cbor:"previous-serial,omitempty"`
	PreviousUntil  int64      `cbor:"previous-until,omitempty"`
	Status         string     `cbor:"status"`
	Generation     uint64     `cbor:"generation"`
	Issuer         string     `cbor:"issuer,omitempty"`       // of feed records only
	Epoch          uint64     `cbor:"epoch,omitempty"`        // of feed records only
	Sequence       uint64     `cbor:"sequence,omitempty"`     // of feed records only
	Previous       []byte     `cbor:"previous,omitempty"`     // of feed records only
	DrainGrants    []string   `cbor:"drain-grants,omitempty"` // of feed records only
}

type wireSlot struct {
	Slot   uint8  `cbor:"slot"`
	KeySet string `cbor:"key-set"`
	KeyID  []byte `cbor:"key-id"`
	State  string `cbor:"state"`
}

// MarshalTerminal returns the stored form of a valid record. The error wraps ErrTerminal when it is not valid.
func MarshalTerminal(t *Terminal) ([]byte, error) {
	err := t.Validate()
	if err != nil {
		return nil, err
	}
	return encode(t.wire())
}

// UnmarshalTerminal reads the stored form of a record and validates it. MarshalTerminal of the result gives back the
// same bytes. The error wraps ErrFormat for bytes that are no record, and ErrTerminal for one that breaks a rule.
func UnmarshalTerminal(b []byte) (*Terminal, error) {
	var w wireTerminal
	err := decode(b, &w, maxDocument)
	if err != nil {
		return nil, err
	}
	t, err := w.parse()
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	err = t.Validate()
	if err != nil {
		return nil, err
	}
	again, err := encode(t.wire())
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: not the deterministic encoding of its content", ErrFormat)
	}
	return t, nil
}

func (t *Terminal) wire() *wireTerminal {
	w := &wireTerminal{
		Version: t.Version, Tenant: string(t.Tenant), ID: string(t.ID), Serial: t.Serial,
		PreviousSerial: t.PreviousSerial, Status: t.Status.String(), Generation: t.Generation,
	}
	if !t.PreviousUntil.IsZero() {
		w.PreviousUntil = t.PreviousUntil.Unix()
	}
	for _, s := range t.Slots {
		w.Slots = append(w.Slots, wireSlot{s.Slot, string(s.KeySet), s.KeyID.Append(nil), s.State.String()})
	}
	return w
}

func (w *wireTerminal) parse() (*Terminal, error) {
	if w.Issuer != "" || w.Epoch != 0 || w.Sequence != 0 || w.Previous != nil || w.DrainGrants != nil {
		return nil, errors.New("issuer, epoch, sequence, previous hash and drain grants are not in use yet")
	}
	t := &Terminal{
		Version: w.Version, Tenant: TenantID(w.Tenant), ID: TerminalID(w.ID), Serial: w.Serial,
		PreviousSerial: w.PreviousSerial, Generation: w.Generation,
	}
	if w.PreviousUntil != 0 {
		t.PreviousUntil = time.Unix(w.PreviousUntil, 0).UTC()
	}
	var p parts
	p.text(&t.Status, w.Status)
	for _, ws := range w.Slots {
		s := Slot{Slot: ws.Slot, KeySet: ID(ws.KeySet)}
		p.binary(&s.KeyID, ws.KeyID)
		p.text(&s.State, ws.State)
		t.Slots = append(t.Slots, s)
	}
	return t, p.err
}
