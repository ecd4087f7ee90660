package terminal

import (
	"crypto/x509"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
)

// Status describes a terminal. It holds no secret.
type Status struct {
	Tenant      keyset.TenantID
	Terminal    keyset.TerminalID
	Environment keyset.Environment
	Sealer      string    // what guards the saved state
	Serial      string    // of the TLS certificate
	NotAfter    time.Time // of the TLS certificate
	Endpoints   []Endpoint
	BootCounter uint64
	Slots       []SlotReport // in the order of their numbers
	Pending     int          // messages without an answer
	Exceptions  int          // messages that the host did not take
	Jump        error        // why the last floor of the host was not followed; nil when it was
}

// SlotReport is a slot with the state of its key.
type SlotReport struct {
	Slot
	SlotStatus
	Confirmed bool // the host has answered a sign-in with this key
}

// Status describes the terminal as it is.
func (t *Terminal) Status() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Status{
		Tenant: t.holder.tenant, Terminal: t.holder.terminal, Environment: t.holder.environment,
		Sealer: t.o.Sealer.Name(), Endpoints: t.holder.endpoints, BootCounter: t.counters.Boot, Jump: t.jump,
	}
	if leaf, err := x509.ParseCertificate(t.holder.chain[0]); err == nil { // a damaged one would not have been opened
		s.Serial, s.NotAfter = identity.Serial(leaf), leaf.NotAfter
	}
	for _, st := range t.engine.Status() {
		for _, slot := range t.holder.slots {
			if slot.Number == st.Slot {
				s.Slots = append(s.Slots, SlotReport{Slot: slot, SlotStatus: st, Confirmed: t.counters.confirmed(slot.KeyID)})
			}
		}
	}
	for _, e := range t.entries {
		if e.Result == 0 {
			s.Pending++
		} else {
			s.Exceptions++
		}
	}
	return s
}
