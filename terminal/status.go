package terminal

import (
	"crypto/x509"
	"slices"
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
	RenewAfter  time.Time // when to renew it at the earliest; zero for a terminal that came from a bundle
	RenewBefore time.Time // and at the latest
	TrustList   uint64    // version of the trust list; zero for a terminal that came from a bundle
	Endpoints   []Endpoint
	Link        []EndpointCounters // how each endpoint has done since Open; nil over a link that is not the terminal's own
	BootCounter uint64
	Slots       []SlotReport // in the order of their numbers
	Waiting     []SlotReport // keys that take their slots when a sign-in has confirmed them
	Pending     int          // messages without an answer
	Exceptions  int          // messages that the host did not take
	Queue       Queue        // the same, and more about it
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
	if m := t.holder.member; m != nil {
		s.RenewAfter, s.RenewBefore, s.TrustList = m.renewAfter, m.renewBefore, m.list.Version
	}
	if t.own != nil {
		s.Link = t.own.Endpoints()
	}
	s.Slots, s.Waiting = t.reports(t.slots), t.reports(t.next)
	s.Queue = t.Queue()
	s.Pending, s.Exceptions = s.Queue.Count, s.Queue.Exceptions
	return s
}

// reports describes keys in the order of their slots.
func (t *Terminal) reports(keys []place) (out []SlotReport) {
	for _, st := range t.engine.Status() {
		for _, k := range keys {
			if k.at == st.Slot {
				st.Slot = k.Number
				out = append(out, SlotReport{Slot: k.Slot, SlotStatus: st, Confirmed: t.counters.confirmed(k.KeyID)})
				break
			}
		}
	}
	slices.SortFunc(out, func(a, b SlotReport) int { return int(a.Number) - int(b.Number) })
	return out
}
