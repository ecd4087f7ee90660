package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/decrypt/api"
	"github.com/latchkey-pos/latchkey/internal/sample"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/pin"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/rogue"
	"github.com/latchkey-pos/latchkey/tls/provision/admin"
)

// attackReplay sends a recorded message again: it gets the answer that it got, and books nothing.
func (s *story) attackReplay(ctx context.Context) error {
	for _, t := range s.tills {
		sale := t.sales[0]
		s.wire.take()
		answer, err := t.send(ctx, sale.sent)
		if err != nil {
			return fmt.Errorf("the message of sale %d of %s again: %w", sale.number, t.name, err)
		}
		tx, err := s.wire.last()
		if err != nil {
			return err
		}
		switch {
		case tx.CounterStatus != api.Resend:
			return fmt.Errorf("the decryption service calls the message %s, want %s", tx.CounterStatus, api.Resend)
		case fieldOf(tx, sample.PINSlot).PINBlock != sale.pin().PINBlock:
			return errors.New("the decryption service made another PIN block than the first time")
		case !bytes.Equal(answer, sale.answer):
			return errors.New("the terminal's side got another answer than the first time")
		}
		if n := s.booked(sale.service); n != 1 {
			return fmt.Errorf("sale %d of %s stands %d times in the ledger", sale.number, t.name, n)
		}
		s.counts.Resend++
		s.out.held("%s: KSN %s again: counter %s, the same PIN block, the same answer of %d bytes, 1 ledger entry",
			t.name, sale.data().KSN, tx.CounterStatus, len(answer))
	}
	return s.checkLedger()
}

// booked counts the ledger entries of a message.
func (s *story) booked(tx *api.TransactionResponse) (n int) {
	for _, e := range s.ledger.Entries() {
		if e.Terminal == tx.Terminal && e.BootCounter == tx.BootCounter && e.Sequence == tx.Sequence {
			n++
		}
	}
	return n
}

// attackSameKSN has firmware under an attacker's control use keys a second time, with MACs that verify. Each time the terminal
// is quarantined, and the operator releases it.
func (s *story) attackSameKSN(ctx context.Context) error {
	s.out.line("two contents of one KSN under MACs that verify: its keys are in two places, or it was rolled back. The message is")
	s.out.line("refused, and the decryption service tells the registry, which quarantines the terminal until an operator releases it")
	for _, t := range s.tills {
		sale := t.sales[0]
		m, err := message.Parse(sale.sent)
		if err != nil {
			return err
		}
		fresh, _ := t.next()
		for _, attempt := range []struct {
			what  string
			craft func() ([]byte, error)
		}{
			{"captured card data and PIN block, another amount, the same MAC key", func() ([]byte, error) { return t.otherAmount(m, m.Payload.MAC.KSN.Ordinal()) }},
			{"captured card data and PIN block, another amount, an unused MAC key", func() ([]byte, error) { return t.otherAmount(m, fresh) }},
			{"another card and amount under the same keys", func() ([]byte, error) { return t.otherCard(m) }},
		} {
			raw, err := attempt.craft()
			if err != nil {
				return err
			}
			s.out.line("%s: %s (%v, not %v)", t.name, attempt.what, *dishonestAmount, sale.amount)
			if err := s.refused(ctx, t, raw, decrypt.CodeKSNReplayed); err != nil {
				return err
			}
			if err := s.quarantined(ctx, t); err != nil {
				return err
			}
			if err := s.released(ctx, t); err != nil {
				return err
			}
		}
		c, err := s.client.Counters(ctx, string(t.name))
		if err != nil {
			return err
		}
		if c.Slots[0].Conflicts == 0 {
			return fmt.Errorf("the decryption service counts no conflict for %s", t.name)
		}
		s.out.line("   conflicts counted for key id %s: %d", c.Slots[0].KeyID, c.Slots[0].Conflicts)
	}
	return nil
}

// quarantined waits until the registry has a terminal quarantined by what the decryption service told it, and until the
// decryption service has heard of that.
func (s *story) quarantined(ctx context.Context, t *till) error {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	begin := time.Now()
	for {
		row, err := s.admin.Terminal(ctx, string(t.name))
		if err != nil {
			return err
		}
		took := time.Since(begin)
		if row.Status == keyset.StatusQuarantined.String() && row.Reason == string(decrypt.CodeKSNReplayed) {
			here, err := s.becomes(ctx, begin, t.name, keyset.StatusQuarantined)
			if err != nil {
				return err
			}
			s.out.held("%s is %s: at the registry after %d ms (%s), at the decryption service after %d ms", t.name, row.Status,
				took.Milliseconds(), row.Reason, here.Milliseconds())
			return nil
		}
		if took > cutWithin {
			return fmt.Errorf("after %v the registry still has %s as %s, want it quarantined", took, t.name, row.Status)
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}

// released has the operator release a terminal after looking at it.
func (s *story) released(ctx context.Context, t *till) error {
	if _, err := s.operate(ctx, admin.Operation{Action: "unblock", Terminal: string(t.name), Reason: "the attack was ours"}); err != nil {
		return err
	}
	took, err := s.becomes(ctx, time.Now(), t.name, keyset.StatusActive)
	if err != nil {
		return err
	}
	s.out.line("the operator releases it; it is active at the decryption service after %d ms", took.Milliseconds())
	return nil
}

var dishonestAmount = &message.Amount{Minor: 99999, Currency: message.Currency{'E', 'U', 'R'}, Exponent: 2}

// newSequence is far from the numbers that the honest terminals use, so that the ledger takes a dishonest message for a
// new one.
const newSequence = 1000

// otherAmount puts what was captured under another amount, MACed under a key of the data slot.
func (t *till) otherAmount(m *message.Message, mac uint32) ([]byte, error) {
	p := *m.Payload
	p.Sequence, p.Amount = p.Sequence+newSequence+uint64(mac), dishonestAmount
	return t.rogue.Message(&p, sample.DataSlot, mac)
}

// otherCard uses the same keys for another card: no field and no MAC is one that was seen before.
func (t *till) otherCard(m *message.Message) ([]byte, error) {
	data, block := m.Payload.MAC.KSN.Ordinal(), m.Payload.Fields[1].KSN.Ordinal()
	p, err := t.payload(data, block, 1, 1)
	if err != nil {
		return nil, err
	}
	p.BootCounter, p.Sequence, p.Amount = m.Payload.BootCounter, m.Payload.Sequence+2*newSequence, dishonestAmount
	return t.rogue.Message(p, sample.DataSlot, data)
}

// payload is a sale that the dishonest twin makes under the ordinals of its two slots: card data of one test card, and a
// PIN block made for one that may be another.
func (t *till) payload(data, block uint32, card, pinCard int) (*message.Payload, error) {
	typed, err := randomPIN()
	if err != nil {
		return nil, err
	}
	defer typed.Wipe()
	pan, err := pin.FindPAN([]byte(testCards[pinCard]))
	if err != nil {
		return nil, err
	}
	defer pan.Wipe()
	p := &message.Payload{Type: message.Sale, BootCounter: 1, Sequence: newSequence + uint64(data), Amount: dishonestAmount}
	f, err := t.rogue.DataField(sample.DataSlot, data, []byte(testCards[card]))
	if err != nil {
		return nil, err
	}
	p.Fields = append(p.Fields, f)
	if f, err = t.rogue.PINField(sample.PINSlot, block, typed, pan); err != nil {
		return nil, err
	}
	p.Fields = append(p.Fields, f)
	return p, nil
}

// next returns the ordinals that the honest terminal will use next: data, then PIN.
func (t *till) next() (data, block uint32) {
	for _, slot := range t.terminal.Status().Slots {
		switch slot.Slot.Number {
		case sample.DataSlot:
			data = slot.Next.Ordinal()
		case sample.PINSlot:
			block = slot.Next.Ordinal()
		}
	}
	return data, block
}

func (t *till) send(ctx context.Context, raw []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	var answer []byte
	err := t.line.link.Exchange(ctx, raw, func(b []byte) error {
		answer = bytes.Clone(b)
		return nil
	})
	return answer, err
}

// refused has the dishonest twin of a terminal send a message, and expects that the decryption service refuses it with
// this code, claims nothing, and that nothing is booked.
func (s *story) refused(ctx context.Context, t *till, raw []byte, code decrypt.Code) error {
	before, err := s.client.Counters(ctx, string(t.name))
	if err != nil {
		return err
	}
	s.wire.take()
	_, err = t.send(ctx, raw)
	refusal, answered := outcome(s.wire.take())
	if answered != nil {
		return fmt.Errorf("the decryption service answered it (counter %s, %d fields released), want the refusal %s",
			answered.CounterStatus, len(answered.Fields), code)
	}
	host, ok := errors.AsType[*terminal.HostError](err)
	if !ok || refusal == nil {
		return fmt.Errorf("want the refusal %s, got: %w", code, errors.Join(errors.New("no refusal"), err))
	}
	if refusal.Code != string(code) || host.Code != string(code) {
		return fmt.Errorf("refused with %s (at the terminal: %s), want %s", refusal.Code, host.Code, code)
	}
	after, err := s.client.Counters(ctx, string(t.name))
	if err != nil {
		return err
	}
	for i, slot := range after.Slots {
		if slot.Seen != before.Slots[i].Seen || slot.High != before.Slots[i].High {
			return fmt.Errorf("the refused message moved the counter of slot %d", slot.Slot)
		}
	}
	s.counts.refused(refusal.Code)
	s.out.held("refused: %d %s, %q", refusal.Status, refusal.Code, refusal.Message)
	return s.checkLedger()
}

// outcome returns the last refusal among what was said, and the last answer that left something to the acquirer.
func outcome(heard []said) (refusal *api.Error, answered *api.TransactionResponse) {
	for _, h := range heard {
		if h.refusal != nil {
			refusal = h.refusal
		}
		if tx := h.transaction; tx != nil {
			answered = tx
			for _, f := range tx.Fields {
				secret.Wipe(f.ClearData)
			}
		}
	}
	return refusal, answered
}

// attackChangedByte changes the amount of a message between terminal and host, then lets the message through as it was:
// the attempt must not have used anything up.
func (s *story) attackChangedByte(ctx context.Context) error {
	for i, t := range s.tills {
		var surprise error // what the terminal would call an unanswered sale
		t.line.meddle = func(ctx context.Context, original []byte) error {
			surprise = s.changeByte(ctx, t, original)
			return surprise
		}
		sale, err := t.sell(ctx, s.site, euro(1999), i)
		t.line.meddle = nil
		if surprise != nil {
			return surprise
		}
		if err != nil {
			return err
		}
		s.counts.sold(sale.took)
		s.out.held("%s: the unaltered message afterwards: %v, counter %s", t.name, sale.result.Result, sale.service.CounterStatus)
	}
	return s.checkLedger()
}

// changeByte is what happens in flight.
func (s *story) changeByte(ctx context.Context, t *till, original []byte) error {
	changed, from, to, err := changeAmount(original)
	if err != nil {
		return err
	}
	s.out.line("%s: one byte of %d changed: %v becomes %v", t.name, len(original), from, to)
	return s.refused(ctx, t, changed, decrypt.CodeMACInvalid)
}

// changeAmount changes one byte of the amount and leaves the MAC as it is.
func changeAmount(raw []byte) (changed []byte, from, to message.Amount, err error) {
	m, err := message.Parse(raw)
	if err != nil {
		return nil, from, to, err
	}
	p := *m.Payload
	from = *p.Amount
	to = from
	to.Minor ^= 1 << 11
	p.Amount = &to
	payload, err := message.Encode(&p)
	if err != nil {
		return nil, from, to, err
	}
	changed = message.Assemble(payload, m.MAC)
	n := 0
	for i := range changed {
		if len(changed) != len(raw) || changed[i] != raw[i] {
			n++
		}
	}
	if n != 1 {
		return nil, from, to, fmt.Errorf("%d bytes differ, want 1", n)
	}
	return changed, from, to, nil
}

// attackOtherPAN puts a PIN block that was made for one card beside the card data of another. Format 4 shows it; format 0
// could not, as long as the numbers agree in twelve digits.
func (s *story) attackOtherPAN(ctx context.Context) error {
	t := s.tills[1]
	data, block := t.next()
	p, err := t.payload(data, block, 0, 1)
	if err != nil {
		return err
	}
	raw, err := t.rogue.Message(p, sample.DataSlot, data)
	if err != nil {
		return err
	}
	s.out.line("%s: card data and PIN block of two cards, unused keys, a MAC that verifies", t.name)
	return s.refused(ctx, t, raw, decrypt.CodePINBlockInvalid)
}

// attackPINAsData calls a PIN block card data, to get it back in the clear.
func (s *story) attackPINAsData(ctx context.Context) error {
	for _, t := range s.tills {
		data, block := t.next()
		p, err := t.payload(data, block, 0, 0)
		if err != nil {
			return err
		}
		p.Fields[1] = rogue.AsData(p.Fields[1])
		raw, err := t.rogue.Message(p, sample.DataSlot, data)
		if err != nil {
			return err
		}
		s.out.line("%s: slot %d holds PIN keys; its field is called data", t.name, sample.PINSlot)
		if err := s.refused(ctx, t, raw, decrypt.CodePurposeNotPermitted); err != nil {
			return err
		}
	}
	return nil
}

// blockedKeySet blocks the data keys of T-TDES: the terminal is told to wait, and nothing is released. Set free again,
// the same message goes through.
func (s *story) blockedKeySet(ctx context.Context) error {
	t := s.tills[0]
	id := sample.KeySet(t.scheme, sample.DataSlot)
	if err := s.setState(ctx, id, keyset.Blocked); err != nil {
		return err
	}
	s.out.line("key set %s is blocked", id)
	waiting, err := s.heldSale(ctx, t, decrypt.CodeKeySetBlocked)
	if err != nil {
		return err
	}
	sent := t.line.sent
	if err := s.setState(ctx, id, keyset.Active); err != nil {
		return err
	}
	s.out.line("key set %s is active again", id)
	return s.redeliver(ctx, t, waiting, sent)
}

// heldSale makes a sale that must be answered HELD.
func (s *story) heldSale(ctx context.Context, t *till, code decrypt.Code) (*terminal.Pending, error) {
	before, err := s.client.Counters(ctx, string(t.name))
	if err != nil {
		return nil, err
	}
	track := secret.From([]byte(testCards[0]))
	defer track.Wipe()
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	s.wire.take()
	res, err := t.terminal.Sale(ctx, terminal.SaleRequest{Amount: euro(750), Track: track})
	if err != nil {
		return nil, err
	}
	tx, err := s.wire.last()
	if err != nil {
		return nil, err
	}
	if res.Result != message.Held || !tx.Held || tx.Code != string(code) || len(tx.Fields) > 0 {
		return nil, fmt.Errorf("the terminal is told %v (code %q, %d fields released), want HELD", res.Result, tx.Code, len(tx.Fields))
	}
	after, err := s.client.Counters(ctx, string(t.name))
	if err != nil {
		return nil, err
	}
	if after.Slots[0].Seen != before.Slots[0].Seen {
		return nil, errors.New("the held message was claimed")
	}
	pending := t.terminal.Pending()
	if len(pending) != 1 {
		return nil, fmt.Errorf("the terminal keeps %d messages, want 1", len(pending))
	}
	s.counts.Held++
	s.out.held("%s: %v under a MAC that the terminal has verified, code %s, nothing released, nothing claimed", t.name, res.Result, tx.Code)
	return &pending[0], s.checkLedger()
}

// redeliver has the terminal send the message that was held again.
func (s *story) redeliver(ctx context.Context, t *till, waiting *terminal.Pending, sent []byte) error {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	s.wire.take()
	res, err := t.terminal.Resend(ctx, waiting)
	if err != nil {
		return err
	}
	tx, err := s.wire.last()
	if err != nil {
		return err
	}
	outer, err := message.Parse(t.line.sent)
	if err != nil {
		return err
	}
	switch {
	case outer.Inner == nil || !bytes.Equal(outer.Inner.Raw, sent):
		return errors.New("the terminal did not send the bytes that were held")
	case !res.Approved() || tx.CounterStatus != api.Fresh || tx.OriginalDigest != waiting.Digest.String():
		return fmt.Errorf("the message is %v, counter %s, want APPROVED and %s", res.Result, tx.CounterStatus, api.Fresh)
	}
	s.counts.Sales++
	s.counts.Fresh++
	s.out.held("%s: the same %d bytes inside a resend: %v, counter %s, card %s", t.name, len(sent), res.Result, tx.CounterStatus,
		fieldOf(tx, sample.DataSlot).MaskedPAN)
	return s.checkLedger()
}
