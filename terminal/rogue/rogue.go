// Package rogue is a terminal whose firmware is under an attacker's control.
//
// It holds the initial keys, which an honest terminal forgets at once, so it can use any key again, for anything: the
// same KSN with another amount, a PIN block made for another card, a PIN block sent as data. Demonstrations and tests
// show with it that the host refuses. It is not for production: nothing here is durable, and nothing protects the keys.
package rogue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/pin"
	"github.com/latchkey-pos/latchkey/terminal"
)

// Terminal crafts messages of the terminal of a bundle. It is not safe for concurrent use.
type Terminal struct {
	// Network is how Send connects; set it before the first Send.
	Network terminal.LinkOptions

	bundle *terminal.Bundle
	keys   map[uint8]keys.Key
	slots  map[uint8]terminal.Slot
	link   *terminal.Link
}

// New takes the keys and the identity of a bundle. The bundle is kept and must not be wiped before Close.
func New(b *terminal.Bundle) (*Terminal, error) {
	t := &Terminal{bundle: b, keys: make(map[uint8]keys.Key), slots: make(map[uint8]terminal.Slot)}
	for _, s := range b.Slots {
		ik, err := s.InitialKey()
		if err != nil {
			t.Close()
			return nil, err
		}
		t.keys[s.Number], t.slots[s.Number] = ik.Key(), s.Slot
		ik.Wipe()
	}
	return t, nil
}

// Close wipes the keys and drops connections.
func (t *Terminal) Close() {
	for _, k := range t.keys {
		k.Wipe()
	}
	if t.link != nil {
		t.link.Close()
	}
}

// Format prints what it is, whatever the verb.
func (t *Terminal) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, "rogue.Terminal") }

// KSN returns the KSN of a slot at an ordinal, counted from 1.
func (t *Terminal) KSN(slot uint8, ordinal uint32) (dukpt.KSN, error) {
	s, ok := t.slots[slot]
	if !ok {
		return dukpt.KSN{}, fmt.Errorf("%w: %d", terminal.ErrSlot, slot)
	}
	return s.KeyID.AtOrdinal(ordinal)
}

// use runs f with the key of a slot at an ordinal, however often it has been used.
func (t *Terminal) use(slot uint8, ordinal uint32, f func(*dukpt.Transaction, terminal.Slot) error) error {
	ksn, err := t.KSN(slot, ordinal)
	if err != nil {
		return err
	}
	ik, err := dukpt.NewInitialKey(ksn.KeyID(), t.keys[slot])
	if err != nil {
		return err
	}
	registers, err := dukpt.NewTerminal(ik)
	if err != nil {
		return err
	}
	defer registers.Wipe()
	forget := func(secret.Bytes) error { return nil }
	if err := registers.SkipTo(ksn, forget); err != nil {
		return err
	}
	if err := registers.Reserve(1, forget); err != nil {
		return err
	}
	tx := dukpt.NewTransaction()
	if err := registers.Next(tx); err != nil {
		return err
	}
	defer tx.End()
	return f(tx, t.slots[slot])
}

// DataField encrypts plain, filled with zero bytes to whole blocks, under a slot that has data.
func (t *Terminal) DataField(slot uint8, ordinal uint32, plain []byte) (message.Field, error) {
	f := message.Field{Slot: slot, Usage: message.UsageData}
	err := t.use(slot, ordinal, func(tx *dukpt.Transaction, s terminal.Slot) error {
		padded := make([]byte, (len(plain)+15)/16*16)
		defer secret.Wipe(padded)
		copy(padded, plain)
		var err error
		f.KSN, f.Mode = tx.KSN(), s.Data.Mode
		f.Ciphertext, err = tx.EncryptData(nil, s.Data, padded)
		return err
	})
	return f, err
}

// PINField makes a PIN block for a card, which need not be the one that the message is about.
func (t *Terminal) PINField(slot uint8, ordinal uint32, p pin.PIN, pan pin.PAN) (message.Field, error) {
	f := message.Field{Slot: slot, Usage: message.UsagePIN}
	err := t.use(slot, ordinal, func(tx *dukpt.Transaction, s terminal.Slot) error {
		var err error
		f.KSN, f.PINFormat = tx.KSN(), s.PINFormat
		f.Ciphertext, err = tx.EncryptPIN(nil, s.PINFormat, p, pan)
		return err
	})
	return f, err
}

// AsData returns a PIN field relabelled as card data, to have the host decrypt it.
func AsData(f message.Field) message.Field {
	f.Usage, f.Mode, f.PINFormat = message.UsageData, dukpt.CBC, 0
	return f
}

// Message MACs a payload under the key of a slot at an ordinal and returns the whole message. The header is filled in:
// version, environment, tenant, terminal and, where it is zero, the time. Everything else is the caller's.
func (t *Terminal) Message(p *message.Payload, slot uint8, ordinal uint32) ([]byte, error) {
	var raw []byte
	err := t.use(slot, ordinal, func(tx *dukpt.Transaction, s terminal.Slot) error {
		p.Version, p.Environment = message.FormatVersion, t.bundle.Environment
		p.Tenant, p.Terminal = t.bundle.Tenant, t.bundle.Terminal
		if p.Time == 0 {
			p.Time = time.Now().Unix()
		}
		p.MAC = message.MACRef{
			Slot: slot, KSN: tx.KSN(), Algorithm: s.MAC.Algorithm, Padding: s.MAC.Padding, Length: s.MAC.Length,
		}
		payload, err := message.Encode(p)
		if err != nil {
			return err
		}
		mac, err := tx.MAC(nil, s.MAC, payload)
		if err != nil {
			return err
		}
		raw = message.Assemble(payload, mac)
		return nil
	})
	return raw, err
}

// Sale is the usual payload of a sale: card data and MAC under the data slot, and a PIN block if p is not zero, at the
// ordinals given. The caller changes what it likes and passes it to Message.
func (t *Terminal) Sale(sequence uint64, amount message.Amount, track []byte, data, pinSlot uint8, ordinal uint32, p pin.PIN, pan pin.PAN) (*message.Payload, error) {
	f, err := t.DataField(data, ordinal, track)
	if err != nil {
		return nil, err
	}
	sale := &message.Payload{
		Type: message.Sale, BootCounter: 1, Sequence: sequence, Amount: &amount, Fields: []message.Field{f},
	}
	if p.IsZero() {
		return sale, nil
	}
	f, err = t.PINField(pinSlot, ordinal, p, pan)
	if err != nil {
		return nil, err
	}
	sale.Fields = append(sale.Fields, f)
	return sale, nil
}

// Ack verifies an acknowledgement under the response key of a slot at an ordinal.
func (t *Terminal) Ack(answer []byte, slot uint8, ordinal uint32) (*message.AckPayload, error) {
	m, err := message.ParseAck(answer)
	if err != nil {
		return nil, err
	}
	err = t.use(slot, ordinal, func(tx *dukpt.Transaction, s terminal.Slot) error {
		return tx.VerifyResponse(s.MAC, m.PayloadBytes, m.MAC)
	})
	if err != nil {
		return nil, err
	}
	return m.Payload, nil
}

// Send posts any bytes to the bundle's endpoints and returns what came back with status 200, unverified. A refusal of
// the host is a *terminal.HostError.
func (t *Terminal) Send(ctx context.Context, raw []byte) ([]byte, error) {
	if t.link == nil {
		l, err := t.bundle.Link(t.Network)
		if err != nil {
			return nil, err
		}
		t.link = l
	}
	var answer []byte
	err := t.link.Exchange(ctx, raw, func(b []byte) error {
		answer = b
		return nil
	})
	if err != nil {
		return nil, err
	}
	if answer == nil {
		return nil, errors.New("rogue: no answer")
	}
	return answer, nil
}
