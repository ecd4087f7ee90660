package decrypt

import (
	"context"
	"slices"

	"github.com/latchkey-pos/latchkey/decrypt/engine"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

// ack makes the acknowledgement of a request: its result, the floor of every slot of the terminal, and the host's time,
// MACed under the response key of the KSN that the request was MACed under. Making it claims nothing: that a request
// gets one answer of the acquirer's is what the recorded answer is for.
func (s *Service) ack(ctx context.Context, ops engine.HostOps, set *keyset.KeySet, terminal *keyset.Terminal, result message.Result, digests []message.Digest, body []byte) ([]byte, error) {
	floors, err := s.floors(ctx, terminal)
	if err != nil {
		return nil, err
	}
	payload, err := message.EncodeAck(&message.AckPayload{
		Version: message.FormatVersion, Result: result, Digests: digests, Floors: floors,
		HostTime: s.clock().Unix(), Body: body,
	})
	if err != nil {
		return nil, refuse(CodeAnswerMalformed, "%v", err)
	}
	mac, err := ops.MACResponse(nil, set.MACSpec(), payload)
	if err != nil {
		return nil, s.engineFailed(ctx, err)
	}
	return message.AssembleAck(payload, mac), nil
}

// floors says for every live slot of a terminal below which ordinal nothing new is accepted.
func (s *Service) floors(ctx context.Context, terminal *keyset.Terminal) ([]message.SlotFloor, error) {
	var out []message.SlotFloor
	for _, slot := range terminal.Slots {
		set, ok := s.catalog.KeySet(slot.KeySet)
		if slot.State == keyset.SlotRetired || !ok {
			continue
		}
		state, err := s.store.Counters(ctx, set.BaseKeyFingerprint, slot.KeyID)
		if err != nil {
			return nil, s.storeFailed(ctx, err)
		}
		out = append(out, message.SlotFloor{Slot: slot.Slot, KeyID: slot.KeyID, Floor: state.Floor})
	}
	slices.SortFunc(out, func(a, b message.SlotFloor) int { return int(a.Slot) - int(b.Slot) })
	return out, nil
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
	ack, err := t.ack(ctx, mac.ops, mac.set, t.terminal, result, t.received.Digests(), nil)
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
