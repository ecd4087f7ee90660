package remote

import (
	"net/url"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/canon"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

const (
	maxEndpoints = 16
	maxEndpoint  = 256 // characters
)

// Assignment tells an enrolled terminal what is set up for it.
type Assignment struct {
	Tenant      keyset.TenantID
	Terminal    keyset.TerminalID
	Environment keyset.Environment
	Slots       []AssignedSlot // ascending by slot number, each once
	Endpoints   []string       // where the acquirer answers, in order of preference: https URLs
	RenewAfter  time.Time      // when to renew the TLS certificate at the earliest; whole seconds
	RenewBefore time.Time      // and at the latest
}

// AssignedSlot is what the registration authority has put into one slot of a terminal.
type AssignedSlot struct {
	Slot     uint8           // 1 to keyset.MaxSlots
	KeySet   keyset.ID       // of the terminal's tenant
	Delivery keyset.Delivery // how keys of the set reach terminals
	Wanted   bool            // the terminal is to fetch a key for this slot now
	KeyID    dukpt.KeyID     // the active key of the slot; zero for none
}

type wireAssignment struct {
	Version     uint               `cbor:"v"`
	Tenant      string             `cbor:"tenant"`
	Terminal    string             `cbor:"terminal"`
	Environment string             `cbor:"environment"`
	Slots       []wireAssignedSlot `cbor:"slots,omitempty"`
	Endpoints   []string           `cbor:"endpoints,omitempty"`
	RenewAfter  int64              `cbor:"renew-after"`
	RenewBefore int64              `cbor:"renew-before"`
}

type wireAssignedSlot struct {
	Slot     uint8  `cbor:"slot"`
	KeySet   string `cbor:"key-set"`
	Delivery string `cbor:"delivery"`
	Wanted   bool   `cbor:"wanted,omitempty"`
	KeyID    []byte `cbor:"key-id,omitempty"`
}

// Marshal returns the one encoding of a valid assignment. The error wraps ErrFormat.
func (a *Assignment) Marshal() ([]byte, error) {
	if err := a.validate(); err != nil {
		return nil, err
	}
	w := wireAssignment{
		Version: FormatVersion, Tenant: string(a.Tenant), Terminal: string(a.Terminal), Environment: a.Environment.String(),
		Endpoints: a.Endpoints, RenewAfter: a.RenewAfter.Unix(), RenewBefore: a.RenewBefore.Unix(),
	}
	for _, s := range a.Slots {
		w.Slots = append(w.Slots, wireAssignedSlot{s.Slot, string(s.KeySet), s.Delivery.String(), s.Wanted, bytesOf(s.KeyID)})
	}
	return form.Marshal(&w)
}

// ParseAssignment reads what Marshal gives, and nothing else. The error wraps ErrFormat.
func ParseAssignment(b []byte) (*Assignment, error) {
	var w wireAssignment
	if err := form.Unmarshal(b, &w); err != nil {
		return nil, err
	}
	a := &Assignment{
		Tenant: keyset.TenantID(w.Tenant), Terminal: keyset.TerminalID(w.Terminal), Endpoints: w.Endpoints,
		RenewAfter: time.Unix(w.RenewAfter, 0).UTC(), RenewBefore: time.Unix(w.RenewBefore, 0).UTC(),
	}
	r := reader{form.Reader()}
	r.Version(w.Version, FormatVersion)
	r.Text(&a.Environment, w.Environment)
	for _, ws := range w.Slots {
		s := AssignedSlot{Slot: ws.Slot, KeySet: keyset.ID(ws.KeySet), Wanted: ws.Wanted}
		r.Text(&s.Delivery, ws.Delivery)
		r.Binary(&s.KeyID, ws.KeyID)
		a.Slots = append(a.Slots, s)
	}
	if r.Err != nil {
		return nil, r.Err
	}
	return canon.Spelled(form, a, b)
}

func (a *Assignment) validate() error {
	if err := checkNames(a.Tenant, a.Terminal); err != nil {
		return err
	}
	if _, err := a.Environment.MarshalText(); err != nil {
		return malformed("%v", err)
	}
	if err := checkTime("renew-after", a.RenewAfter); err != nil {
		return err
	}
	if err := checkTime("renew-before", a.RenewBefore); err != nil {
		return err
	}
	if a.RenewBefore.Before(a.RenewAfter) {
		return malformed("the renewal window ends before it begins")
	}
	if err := a.checkSlots(); err != nil {
		return err
	}
	return a.checkEndpoints()
}

func (a *Assignment) checkSlots() error {
	if len(a.Slots) > keyset.MaxSlots {
		return malformed("%d slots, want at most %d", len(a.Slots), keyset.MaxSlots)
	}
	for i, s := range a.Slots {
		if err := checkSlot(s.Slot, s.KeySet); err != nil {
			return err
		}
		if i > 0 && a.Slots[i-1].Slot >= s.Slot {
			return malformed("slots are not ascending, each once")
		}
		if _, err := s.Delivery.MarshalText(); err != nil {
			return malformed("slot %d: %v", s.Slot, err)
		}
		if s.Wanted && s.Delivery == keyset.DeliveryNone {
			return malformed("slot %d: a key is wanted for a set that delivers none", s.Slot)
		}
		if !s.KeyID.IsZero() && slices.ContainsFunc(a.Slots[:i], func(o AssignedSlot) bool { return o.KeyID == s.KeyID }) {
			return malformed("two slots hold key id %v", s.KeyID)
		}
	}
	return nil
}

func (a *Assignment) checkEndpoints() error {
	if len(a.Endpoints) > maxEndpoints {
		return malformed("%d endpoints, want at most %d", len(a.Endpoints), maxEndpoints)
	}
	for i, e := range a.Endpoints {
		u, err := url.Parse(e)
		if err != nil || len(e) > maxEndpoint {
			return malformed("endpoint %d is no URL of at most %d characters", i+1, maxEndpoint)
		}
		if u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
			return malformed("endpoint %d is not https://HOST:PORT", i+1)
		}
		if slices.Contains(a.Endpoints[:i], e) {
			return malformed("endpoint %d is named twice", i+1)
		}
	}
	return nil
}
