package decrypt

import (
	"context"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// CountersResult says where the counters of a terminal stand.
type CountersResult struct {
	Tenant   keyset.TenantID
	Terminal keyset.TerminalID
	Status   keyset.Status
	Slots    []SlotCounters // in the order of the slots; one may hold several keys
}

// SlotCounters says where the counter of one key in a slot stands, in ordinals.
type SlotCounters struct {
	Slot      uint8
	KeySet    keyset.ID
	KeyID     dukpt.KeyID
	High      uint32 // highest whose MAC has verified
	Seen      uint32 // highest that was claimed
	Floor     uint32 // at and below this nothing new is accepted
	Remaining uint32 // keys above Seen, and above what was used before the key came here
	Conflicts uint64 // second contents that were refused
	Labels    engine.Labels
}

// Counters returns where the counters of a terminal of the caller's tenant stand. Errors are a *Refusal.
func (s *Service) Counters(ctx context.Context, caller Caller, id keyset.TerminalID) (*CountersResult, error) {
	res, err := s.counters(ctx, caller, id)
	if err != nil {
		return nil, s.keepRefusal(ctx, err, audit.Record{
			Actor: caller.Name, Role: caller.Role, Tenant: string(caller.Tenant), Source: caller.Source, Action: "counters",
			Object: string(id),
		})
	}
	return res, nil
}

func (s *Service) counters(ctx context.Context, caller Caller, id keyset.TerminalID) (*CountersResult, error) {
	if err := caller.Check(); err != nil {
		return nil, err
	}
	terminal, err := s.terminalOf(caller.Tenant, id)
	if err != nil {
		return nil, err
	}
	out := &CountersResult{Tenant: terminal.Tenant, Terminal: terminal.ID, Status: terminal.Status}
	for _, slot := range terminal.Slots {
		set, err := s.keySetOf(terminal, slot)
		if err != nil {
			return nil, err
		}
		info, err := s.describe(ctx, set)
		if err != nil {
			return nil, err
		}
		state, err := s.store.Counters(ctx, set.BaseKeyFingerprint, slot.KeyID)
		if err != nil {
			return nil, s.storeFailed(ctx, err)
		}
		state = state.Raised(slot.KeyID, slot.Floor, 0)
		out.Slots = append(out.Slots, SlotCounters{
			Slot: slot.Slot, KeySet: slot.KeySet, KeyID: slot.KeyID, High: state.High, Seen: state.Seen, Floor: state.Floor,
			Remaining: slot.KeyID.Scheme().MaxOrdinal() - max(state.Seen, slot.Floor), Conflicts: state.Conflicts,
			Labels: info.Labels,
		})
	}
	return out, nil
}
