package provision

import (
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

const (
	maxKeys      = 64 // of one terminal, in a record of the feed
	maxPending   = 8  // of one slot
	maxGrants    = 16
	maxEndpoints = 16
	maxSerial    = 40 // hex digits
)

// KeyHash is the SHA-256 of a public key in its SubjectPublicKeyInfo form. The zero value stands for no key.
type KeyHash [32]byte

// Terminal is the registry's row of one terminal. It is plain data; Marshal and UnmarshalTerminal give its stored form.
// Times are kept in whole seconds, UTC.
type Terminal struct {
	Tenant       keyset.TenantID
	ID           keyset.TerminalID
	Status       keyset.Status
	StatusReason string // why, as the operator or the evidence says; may be empty
	StatusSince  time.Time
	Confirmed    bool   // a sign-in has once proved a key, so unblocking makes it active and not pending
	Generation   uint64 // of the record in the feed; 0 before the first

	Serial         string // of the current TLS certificate; empty before the first enrolment
	PreviousSerial string // of the one before, while it overlaps
	PreviousUntil  time.Time
	NotBefore      time.Time // of the current certificate
	NotAfter       time.Time
	KeyHash        KeyHash // of its public key

	AgreementSerial   string // of the certificate of the agreement key; empty before the first one
	AgreementNotAfter time.Time
	AgreementHash     KeyHash

	Slots       []Slot              // ascending by number
	Endpoints   []string            // https URLs of the acquirer, in order of preference
	Group       Group               // empty for none
	Labels      []Label             // ascending by key
	DrainGrants []keyset.DrainGrant // ascending by id

	IssuedDay  int64  // Unix day that Issued counts
	Issued     uint32 // certificates that it was given on that day
	Registered time.Time
	Registrar  string // who registered it
}

// Slot is a key slot of a terminal: which key set it is for, and the keys that it has or had.
type Slot struct {
	Number      uint8 // 1 to keyset.MaxSlots
	KeySet      keyset.ID
	Wanted      bool      // the terminal is to fetch a key
	WantedSince time.Time // only a key that was delivered since ends that
	Left        keyset.ID // compromised set that it was moved away from; empty for none
	Keys        []Key     // ascending by id
}

// Key is an initial key in a slot.
type Key struct {
	ID         dukpt.KeyID
	KeySet     keyset.ID
	State      keyset.SlotState
	Delivered  time.Time
	DrainUntil time.Time // while it drains: when it is retired
	FirstSeen  time.Time // first use that a decryption service has seen; zero for none
	High       uint32    // highest ordinal that a decryption service has seen a MAC for
	Imported   bool      // the terminal has it from elsewhere: a key injection facility
	Floor      uint32    // of an imported key: ordinal up to which it was used before it came here
}

// Record returns what the feed says about the terminal.
func (t *Terminal) Record() keyset.Terminal {
	r := keyset.Terminal{
		Version: keyset.FormatVersion, Tenant: t.Tenant, ID: t.ID, Serial: t.Serial, PreviousSerial: t.PreviousSerial,
		PreviousUntil: t.PreviousUntil, Status: t.Status, Generation: t.Generation, DrainGrants: slices.Clone(t.DrainGrants),
	}
	for _, s := range t.Slots {
		for _, k := range s.Keys {
			r.Slots = append(r.Slots, keyset.Slot{Slot: s.Number, KeySet: k.KeySet, KeyID: k.ID, State: k.State, Floor: k.Floor})
		}
	}
	return r
}

// slot returns the slot of a number, nil when there is none.
func (t *Terminal) slot(number uint8) *Slot {
	i := slices.IndexFunc(t.Slots, func(s Slot) bool { return s.Number == number })
	if i < 0 {
		return nil
	}
	return &t.Slots[i]
}

// find returns the key of an id and its slot, nil when there is none.
func (t *Terminal) find(id dukpt.KeyID) (*Slot, *Key) {
	for i := range t.Slots {
		if k := t.Slots[i].key(id); k != nil {
			return &t.Slots[i], k
		}
	}
	return nil, nil
}

// drainsNext returns when the first of the draining keys is to be retired, zero for none.
func (t *Terminal) drainsNext() time.Time {
	var next time.Time
	for _, s := range t.Slots {
		for _, k := range s.Keys {
			if k.State == keyset.SlotDraining && (next.IsZero() || k.DrainUntil.Before(next)) {
				next = k.DrainUntil
			}
		}
	}
	return next
}

// keys returns how many keys the record holds.
func (t *Terminal) keys() (n int) {
	for _, s := range t.Slots {
		n += len(s.Keys)
	}
	return n
}

// oldest returns the key in a state that was delivered first, and its slot; nil when there is none.
func (t *Terminal) oldest(state keyset.SlotState) (slot *Slot, oldest *Key) {
	for i := range t.Slots {
		if k := t.Slots[i].oldest(state); k != nil && (oldest == nil || k.before(oldest)) {
			slot, oldest = &t.Slots[i], k
		}
	}
	return slot, oldest
}

// fullest returns the slot with the most pending keys.
func (t *Terminal) fullest() *Slot {
	slot := &t.Slots[0]
	for i := range t.Slots {
		if t.Slots[i].pending() > slot.pending() {
			slot = &t.Slots[i]
		}
	}
	return slot
}

// key returns the key of an id, nil when there is none.
func (s *Slot) key(id dukpt.KeyID) *Key {
	i := slices.IndexFunc(s.Keys, func(k Key) bool { return k.ID == id })
	if i < 0 {
		return nil
	}
	return &s.Keys[i]
}

// active returns the active key, nil when there is none.
func (s *Slot) active() *Key {
	i := slices.IndexFunc(s.Keys, func(k Key) bool { return k.State == keyset.SlotActive })
	if i < 0 {
		return nil
	}
	return &s.Keys[i]
}

// oldest returns the key in a state that was delivered first, nil when there is none.
func (s *Slot) oldest(state keyset.SlotState) (oldest *Key) {
	for i := range s.Keys {
		if k := &s.Keys[i]; k.State == state && (oldest == nil || k.before(oldest)) {
			oldest = k
		}
	}
	return oldest
}

// drop takes a key out of the slot.
func (s *Slot) drop(id dukpt.KeyID) {
	s.Keys = slices.DeleteFunc(s.Keys, func(k Key) bool { return k.ID == id })
}

func (s *Slot) pending() (n int) {
	for _, k := range s.Keys {
		if k.State == keyset.SlotPending {
			n++
		}
	}
	return n
}

// add puts a key into its place.
func (s *Slot) add(k Key) {
	s.Keys = append(s.Keys, k)
	slices.SortFunc(s.Keys, func(a, b Key) int { return a.ID.Compare(b.ID) })
}

// before reports whether k was delivered before other: ids of one set are given out in their order.
func (k *Key) before(other *Key) bool {
	if k.KeySet == other.KeySet {
		return k.ID.Compare(other.ID) < 0
	}
	return k.Delivered.Before(other.Delivered)
}

// check reports the first rule that the row breaks.
func (t *Terminal) check() error {
	if _, err := keyset.ParseTenant(string(t.Tenant)); err != nil {
		return malformed("%v", err)
	}
	if err := checkTerminalID(t.ID); err != nil {
		return err
	}
	if _, err := t.Status.MarshalText(); err != nil {
		return malformed("%v", err)
	}
	if len(t.StatusReason) > maxText || len(t.Registrar) > maxText || len(t.Endpoints) > maxEndpoints || len(t.DrainGrants) > maxGrants {
		return malformed("a text or a list is too long")
	}
	for _, s := range []string{t.Serial, t.PreviousSerial, t.AgreementSerial} {
		if s != "" && !isSerial(s) {
			return malformed("a serial number is not lower-case hex of whole bytes")
		}
	}
	if (t.Serial == "") != (t.KeyHash == KeyHash{}) || (t.AgreementSerial == "") != (t.AgreementHash == KeyHash{}) {
		return malformed("a certificate without a key, or a key without a certificate")
	}
	if (t.PreviousSerial == "") != t.PreviousUntil.IsZero() {
		return malformed("a previous serial number without an end, or an end without one")
	}
	if err := checkTimes(t.StatusSince, t.PreviousUntil, t.NotBefore, t.NotAfter, t.AgreementNotAfter, t.Registered); err != nil {
		return err
	}
	if err := checkMarks(t.Group, t.Labels); err != nil {
		return malformed("%v", err)
	}
	return t.checkSlots()
}

func (t *Terminal) checkSlots() error {
	if len(t.Slots) > keyset.MaxSlots {
		return malformed("%d slots, want at most %d", len(t.Slots), keyset.MaxSlots)
	}
	n := 0
	for i, s := range t.Slots {
		if s.Number < 1 || s.Number > keyset.MaxSlots || i > 0 && t.Slots[i-1].Number >= s.Number {
			return malformed("slots are not ascending, each once")
		}
		if err := s.check(); err != nil {
			return err
		}
		n += len(s.Keys)
	}
	if n > maxKeys {
		return malformed("%d keys, want at most %d", n, maxKeys)
	}
	return nil
}

func (s *Slot) check() error {
	if _, err := keyset.ParseID(string(s.KeySet)); err != nil {
		return malformed("%v", err)
	}
	if s.Left != "" {
		if _, err := keyset.ParseID(string(s.Left)); err != nil {
			return malformed("%v", err)
		}
	}
	if err := checkTimes(s.WantedSince); err != nil {
		return err
	}
	active := 0
	for i, k := range s.Keys {
		if k.ID.IsZero() || i > 0 && s.Keys[i-1].ID.Compare(k.ID) >= 0 {
			return malformed("keys of slot %d are not ascending by id", s.Number)
		}
		if _, err := keyset.ParseID(string(k.KeySet)); err != nil {
			return malformed("%v", err)
		}
		if _, err := k.State.MarshalText(); err != nil {
			return malformed("%v", err)
		}
		if k.Floor > k.ID.Scheme().MaxOrdinal() || k.Floor > 0 && !k.Imported {
			return malformed("slot %d: key id %v has a floor of %d", s.Number, k.ID, k.Floor)
		}
		if err := checkTimes(k.Delivered, k.DrainUntil, k.FirstSeen); err != nil {
			return err
		}
		if k.State == keyset.SlotActive {
			active++
		}
	}
	if active > 1 {
		return malformed("slot %d has %d active keys", s.Number, active)
	}
	return nil
}

func isSerial(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) >= 1 && len(s) <= maxSerial && s == strings.ToLower(s)
}

// wireTerminal is the stored form of a terminal.
type wireTerminal struct {
	Version           uint        `cbor:"v"`
	Tenant            string      `cbor:"tenant"`
	ID                string      `cbor:"terminal"`
	Status            string      `cbor:"status"`
	StatusReason      string      `cbor:"status-reason,omitempty"`
	StatusSince       int64       `cbor:"status-since,omitempty"`
	Confirmed         bool        `cbor:"confirmed,omitempty"`
	Generation        uint64      `cbor:"generation"`
	Serial            string      `cbor:"serial,omitempty"`
	PreviousSerial    string      `cbor:"previous-serial,omitempty"`
	PreviousUntil     int64       `cbor:"previous-until,omitempty"`
	NotBefore         int64       `cbor:"not-before,omitempty"`
	NotAfter          int64       `cbor:"not-after,omitempty"`
	KeyHash           []byte      `cbor:"key-hash,omitempty"`
	AgreementSerial   string      `cbor:"agreement-serial,omitempty"`
	AgreementNotAfter int64       `cbor:"agreement-not-after,omitempty"`
	AgreementHash     []byte      `cbor:"agreement-hash,omitempty"`
	Slots             []wireSlot  `cbor:"slots,omitempty"`
	Endpoints         []string    `cbor:"endpoints,omitempty"`
	DrainGrants       []wireGrant `cbor:"drain-grants,omitempty"`
	IssuedDay         int64       `cbor:"issued-day,omitempty"`
	Issued            uint32      `cbor:"issued,omitempty"`
	Registered        int64       `cbor:"registered,omitempty"`
	Registrar         string      `cbor:"registrar,omitempty"`
	Group             string      `cbor:"group,omitempty"`
	Labels            []wireLabel `cbor:"labels,omitempty"`
}

type wireLabel struct {
	Key   string `cbor:"key"`
	Value string `cbor:"value"`
}

type wireSlot struct {
	Number      uint8     `cbor:"slot"`
	KeySet      string    `cbor:"key-set"`
	Wanted      bool      `cbor:"wanted,omitempty"`
	WantedSince int64     `cbor:"wanted-since,omitempty"`
	Left        string    `cbor:"left,omitempty"`
	Keys        []wireKey `cbor:"keys,omitempty"`
}

type wireKey struct {
	ID         []byte `cbor:"key-id"`
	KeySet     string `cbor:"key-set"`
	State      string `cbor:"state"`
	Delivered  int64  `cbor:"delivered,omitempty"`
	DrainUntil int64  `cbor:"drain-until,omitempty"`
	FirstSeen  int64  `cbor:"first-seen,omitempty"`
	High       uint32 `cbor:"high,omitempty"`
	Imported   bool   `cbor:"imported,omitempty"`
	Floor      uint32 `cbor:"floor,omitempty"`
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

// Marshal returns the stored form of a row that breaks no rule. The error wraps ErrFormat.
func (t *Terminal) Marshal() ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	w := &wireTerminal{
		Version: formatVersion, Tenant: string(t.Tenant), ID: string(t.ID), Status: t.Status.String(),
		StatusReason: t.StatusReason, StatusSince: seconds(t.StatusSince), Confirmed: t.Confirmed, Generation: t.Generation,
		Serial: t.Serial, PreviousSerial: t.PreviousSerial, PreviousUntil: seconds(t.PreviousUntil),
		NotBefore: seconds(t.NotBefore), NotAfter: seconds(t.NotAfter), KeyHash: hashBytes(t.KeyHash),
		AgreementSerial: t.AgreementSerial, AgreementNotAfter: seconds(t.AgreementNotAfter),
		AgreementHash: hashBytes(t.AgreementHash), Endpoints: t.Endpoints, IssuedDay: t.IssuedDay, Issued: t.Issued,
		Registered: seconds(t.Registered), Registrar: t.Registrar, Group: string(t.Group), Labels: wireLabels(t.Labels),
	}
	for _, s := range t.Slots {
		w.Slots = append(w.Slots, s.wire())
	}
	for _, g := range t.DrainGrants {
		w.DrainGrants = append(w.DrainGrants, wireGrant{g.ID, g.Slot, g.KeyID.Append(nil), g.First, g.Last, g.Count, g.Until.Unix()})
	}
	return form.Marshal(w)
}

func wireLabels(labels []Label) (out []wireLabel) {
	for _, l := range labels {
		out = append(out, wireLabel(l))
	}
	return out
}

func labelsOf(wire []wireLabel) (out []Label) {
	for _, l := range wire {
		out = append(out, Label(l))
	}
	return out
}

func (s *Slot) wire() wireSlot {
	w := wireSlot{Number: s.Number, KeySet: string(s.KeySet), Wanted: s.Wanted, WantedSince: seconds(s.WantedSince), Left: string(s.Left)}
	for _, k := range s.Keys {
		w.Keys = append(w.Keys, wireKey{
			k.ID.Append(nil), string(k.KeySet), k.State.String(), seconds(k.Delivered), seconds(k.DrainUntil),
			seconds(k.FirstSeen), k.High, k.Imported, k.Floor,
		})
	}
	return w
}

// UnmarshalTerminal reads what Marshal gives, and nothing else. The error wraps ErrFormat.
func UnmarshalTerminal(b []byte) (*Terminal, error) {
	var w wireTerminal
	if err := form.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	t := &Terminal{
		Tenant: keyset.TenantID(w.Tenant), ID: keyset.TerminalID(w.ID), StatusReason: w.StatusReason,
		StatusSince: fromSeconds(w.StatusSince), Confirmed: w.Confirmed, Generation: w.Generation, Serial: w.Serial,
		PreviousSerial: w.PreviousSerial, PreviousUntil: fromSeconds(w.PreviousUntil), NotBefore: fromSeconds(w.NotBefore),
		NotAfter: fromSeconds(w.NotAfter), AgreementSerial: w.AgreementSerial,
		AgreementNotAfter: fromSeconds(w.AgreementNotAfter), Endpoints: w.Endpoints, IssuedDay: w.IssuedDay,
		Issued: w.Issued, Registered: fromSeconds(w.Registered), Registrar: w.Registrar, Group: Group(w.Group),
		Labels: labelsOf(w.Labels),
	}
	r := reader{form.Reader()}
	r.Version(w.Version, formatVersion)
	r.Text(&t.Status, w.Status)
	r.hash((*[32]byte)(&t.KeyHash), w.KeyHash)
	r.hash((*[32]byte)(&t.AgreementHash), w.AgreementHash)
	for _, ws := range w.Slots {
		t.Slots = append(t.Slots, r.slot(ws))
	}
	for _, wg := range w.DrainGrants {
		g := keyset.DrainGrant{ID: wg.ID, Slot: wg.Slot, First: wg.First, Last: wg.Last, Count: wg.Count, Until: fromSeconds(wg.Until)}
		r.Binary(&g.KeyID, wg.KeyID)
		t.DrainGrants = append(t.DrainGrants, g)
	}
	if r.Err != nil {
		return nil, r.Err
	}
	return canon.Spelled(form, t, b)
}

func (r *reader) slot(w wireSlot) Slot {
	s := Slot{Number: w.Number, KeySet: keyset.ID(w.KeySet), Wanted: w.Wanted, WantedSince: fromSeconds(w.WantedSince), Left: keyset.ID(w.Left)}
	for _, wk := range w.Keys {
		k := Key{
			KeySet: keyset.ID(wk.KeySet), Delivered: fromSeconds(wk.Delivered), DrainUntil: fromSeconds(wk.DrainUntil),
			FirstSeen: fromSeconds(wk.FirstSeen), High: wk.High, Imported: wk.Imported, Floor: wk.Floor,
		}
		r.Binary(&k.ID, wk.ID)
		r.Text(&k.State, wk.State)
		s.Keys = append(s.Keys, k)
	}
	return s
}
