package decrypt

import (
	"context"
	"slices"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

// ack makes the acknowledgement of a request: its result, a floor for every slot of the terminal, the host's time, and what the
// terminal may do without the host, MACed under the response key of the KSN that the request was MACed under. Making it claims nothing: that a request
// gets one answer of the acquirer's is what the recorded answer is for.
func (s *Service) ack(ctx context.Context, a acknowledgement) ([]byte, error) {
	floors, err := s.floors(ctx, a.terminal, a.used)
	if err != nil {
		return nil, err
	}
	payload, err := message.EncodeAck(&message.AckPayload{
		Version: message.FormatVersion, Result: a.result, Digests: a.digests, Floors: floors,
		HostTime: s.clock().Unix(), Body: a.body, Limits: s.offline,
	})
	if err != nil {
		return nil, refuse(CodeAnswerMalformed, "%v", err)
	}
	mac, err := a.ops.MACResponse(nil, a.set.MACSpec(), payload)
	if err != nil {
		return nil, s.engineFailed(ctx, err)
	}
	return message.AssembleAck(payload, mac), nil
}

// floors says for every live slot of a terminal below which ordinal nothing new is accepted. An ack has one floor for a slot,
// and a slot may have several keys: see reported.
func (s *Service) floors(ctx context.Context, terminal *keyset.Terminal, used []place) ([]message.SlotFloor, error) {
	var out []message.SlotFloor
	for number := uint8(1); number <= keyset.MaxSlots; number++ {
		slot, ok := reported(terminal, number, used)
		if !ok {
			continue
		}
		set, err := s.keySetOf(terminal, slot)
		if err != nil {
			continue // no key that anything would be accepted under
		}
		state, err := s.store.Counters(ctx, set.BaseKeyFingerprint, slot.KeyID)
		if err != nil {
			return nil, s.storeFailed(ctx, err)
		}
		out = append(out, message.SlotFloor{Slot: slot.Slot, KeyID: slot.KeyID, Floor: state.Raised(slot.KeyID, slot.Floor, 0).Floor})
	}
	return out, nil
}

// reported chooses the key of a slot whose floor an ack says: the one that the request used there, that of its MAC before
// others; else the active one; else one that drains. A pending key is reported to the sign-in that proves it only.
func reported(terminal *keyset.Terminal, number uint8, used []place) (keyset.Slot, bool) {
	for _, at := range used {
		slot, ok := terminal.Key(number, at.ksn.KeyID())
		if ok && slot.State != keyset.SlotRetired {
			return slot, true
		}
	}
	for _, state := range []keyset.SlotState{keyset.SlotActive, keyset.SlotDraining} {
		i := slices.IndexFunc(terminal.Slots, func(s keyset.Slot) bool { return s.Slot == number && s.State == state })
		if i >= 0 {
			return terminal.Slots[i], true
		}
	}
	return keyset.Slot{}, false
}

// decide makes the result of a message that the service answers by itself. It is recorded before it is told.
func (t *transaction) decide(ctx context.Context, result message.Result, code Code) (*TransactionResult, error) {
	if !t.audited {
		if err := t.store.Audit(ctx, t.record(result.String(), code)); err != nil {
			return nil, t.storeFailed(ctx, err)
		}
		t.audited = true
	}
	mac := t.macKey()
	ack, err := t.ack(ctx, acknowledgement{
		ops: mac.ops, set: mac.set, terminal: t.terminal, used: t.places(), digests: t.received.Digests(), result: result,
	})
	if err != nil {
		return nil, err
	}
	res := t.result(CounterNone)
	res.Decided, res.Code, res.Ack = result, code, ack
	return res, nil
}

// macKey is the key of the MAC of the message as received.
func (t *transaction) macKey() *located {
	return t.keys[place{t.received.Payload.MAC.Slot, t.received.Payload.MAC.KSN}]
}

// result is the head of every result.
func (t *transaction) result(status CounterStatus) *TransactionResult {
	return &TransactionResult{
		Digest: t.received.Digest(), Original: t.m.Digest(), Payload: t.m.Payload,
		Status: status, Authenticated: t.evident(t.m.Payload.MAC), Labels: t.macKey().info.Labels,
	}
}
