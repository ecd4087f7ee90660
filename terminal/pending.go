package terminal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/message"
)

// Intent says what is to become of an unsettled message. It changes only from IntentResend to IntentReverse.
type Intent uint8

// The intents.
const (
	IntentResend  Intent = iota + 1 // deliver it again, byte for byte, under a fresh MAC
	IntentReverse                   // take it back: nobody knows whether it arrived
)

// String returns "resend" or "reverse".
func (i Intent) String() string {
	switch i {
	case IntentResend:
		return "resend"
	case IntentReverse:
		return "reverse"
	}
	return fmt.Sprintf("Intent(%d)", uint8(i))
}

// MarshalText gives the form of String.
func (i Intent) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// Pending is a sale that was sent, or was about to be, and has no answer yet. It holds no secret.
type Pending struct {
	Sequence uint64         // of the sale
	Intent   Intent         // what Resend will do
	KSN      dukpt.KSN      // of the sale's MAC
	Digest   message.Digest // of the sale
	Amount   message.Amount // of the sale
	Time     time.Time      // by the terminal's clock
	Offline  bool           // it was made without the host
}

// Exception is a message that the host has answered, with an answer that a person has to look at.
type Exception struct {
	Pending
	Result message.Result // what the host said
}

// UnansweredError says that a message was sent and no genuine answer came: whether the host has seen it is unknown. It
// is kept, durably, until Resend settles it.
type UnansweredError struct {
	Pending Pending
	Err     error // why the terminal stopped waiting
}

// Error names the message and the reason.
func (e *UnansweredError) Error() string {
	return fmt.Sprintf("terminal: no answer to message %d (%v): %v", e.Pending.Sequence, e.Pending.Intent, e.Err)
}

// Unwrap returns the reason.
func (e *UnansweredError) Unwrap() error { return e.Err }

// entry is an unsettled message.
type entry struct {
	Exception        // Result is zero until the host has answered
	deliver   []byte // what Resend delivers: the sale, or the reversal once it is made; nil before
}

// entryRecord is an entry as stored.
type entryRecord struct {
	Version  uint      `cbor:"v"`
	Sequence uint64    `cbor:"seq"`
	Intent   uint8     `cbor:"intent"`
	KSN      dukpt.KSN `cbor:"ksn"`
	Digest   []byte    `cbor:"digest"`
	Minor    int64     `cbor:"minor"`
	Currency string    `cbor:"cur"`
	Exponent uint8     `cbor:"exp"`
	Time     int64     `cbor:"time"`
	Offline  bool      `cbor:"offline,omitempty"`
	Message  []byte    `cbor:"msg,omitempty"`
	Result   string    `cbor:"result,omitempty"`
}

func entryName(sequence uint64) string { return fmt.Sprintf("%s%016x", messagePrefix, sequence) }

func (s store) saveEntry(e *entry) error {
	r := entryRecord{
		Version: recordVersion, Sequence: e.Sequence, Intent: uint8(e.Intent), KSN: e.KSN, Digest: e.Digest[:],
		Minor: e.Amount.Minor, Currency: e.Amount.Currency.String(), Exponent: e.Amount.Exponent,
		Time: e.Time.Unix(), Offline: e.Offline, Message: e.deliver,
	}
	if e.Result != 0 {
		r.Result = e.Result.String()
	}
	return s.saveRecord(entryName(e.Sequence), &r)
}

func (s store) loadEntries() ([]*entry, error) {
	names, err := s.names(messagePrefix)
	if err != nil {
		return nil, err
	}
	var out []*entry
	for _, name := range names {
		if strings.HasSuffix(name, temporarySuffix) {
			continue
		}
		var r entryRecord
		if err := s.loadRecord(name, &r); err != nil {
			return nil, err
		}
		e, err := r.entry()
		if err != nil || name != entryName(e.Sequence) {
			return nil, fmt.Errorf("%w: %s: %v", ErrState, name, err)
		}
		out = append(out, e)
	}
	return out, nil
}

func (r *entryRecord) entry() (*entry, error) {
	e := &entry{deliver: r.Message}
	e.Sequence, e.Intent, e.KSN, e.Time = r.Sequence, Intent(r.Intent), r.KSN, time.Unix(r.Time, 0).UTC()
	e.Offline = r.Offline
	if r.Version != recordVersion || len(r.Digest) != len(e.Digest) {
		return nil, fmt.Errorf("version %d with a digest of %d bytes", r.Version, len(r.Digest))
	}
	e.Digest = message.Digest(r.Digest)
	currency, err := message.ParseCurrency(r.Currency)
	if err != nil {
		return nil, err
	}
	e.Amount = message.Amount{Minor: r.Minor, Currency: currency, Exponent: r.Exponent}
	if r.Result != "" {
		if e.Result, err = message.ParseResult(r.Result); err != nil {
			return nil, err
		}
	}
	if e.Intent != IntentResend && e.Intent != IntentReverse || e.Intent == IntentResend && len(e.deliver) == 0 {
		return nil, errors.New("without an intent or a message")
	}
	return e, nil
}

// Pending lists the messages without an answer, oldest first.
func (t *Terminal) Pending() []Pending {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Pending
	for _, e := range t.entries {
		if e.Result == 0 {
			out = append(out, e.Pending)
		}
	}
	return out
}

// Exceptions lists the messages that the host did not take: they stay until Dismiss.
func (t *Terminal) Exceptions() []Exception {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Exception
	for _, e := range t.entries {
		if e.Result != 0 {
			out = append(out, e.Exception)
		}
	}
	return out
}

// Dismiss removes an exception that somebody has dealt with. A message without an answer cannot be dismissed.
func (t *Terminal) Dismiss(sequence uint64) error {
	t.lock()
	defer t.mu.Unlock()
	if err := t.ready(); err != nil {
		return err
	}
	for _, e := range t.entries {
		if e.Sequence == sequence && e.Result != 0 {
			return t.forget(e)
		}
	}
	return fmt.Errorf("terminal: no exception with sequence %d", sequence)
}

// Reverse decides that an unanswered message is to be taken back and not delivered, durably. Resend then reverses it.
func (t *Terminal) Reverse(p *Pending) error {
	t.lock()
	defer t.mu.Unlock()
	e, err := t.unanswered(p)
	if err != nil || e.Intent == IntentReverse {
		return err
	}
	reversed := *e
	reversed.Intent, reversed.deliver = IntentReverse, nil
	if err := t.store.saveEntry(&reversed); err != nil {
		return err
	}
	*e = reversed
	t.publish()
	return nil
}

// Resend settles an unanswered message: by its intent it is delivered again, the original bytes inside a new message
// under a fresh KSN, or it is reversed. A result comes back only when the host has given one under its MAC; the error is
// otherwise an *UnansweredError and the message stays. With ErrBehind inside, another Resend is to follow.
func (t *Terminal) Resend(ctx context.Context, p *Pending) (*SaleResult, error) {
	t.lock()
	defer t.mu.Unlock()
	e, err := t.unanswered(p)
	if err != nil {
		return nil, err
	}
	return t.resend(ctx, e)
}

func (t *Terminal) resend(ctx context.Context, e *entry) (*SaleResult, error) {
	ksn, err := t.engine.Begin(t.macSlot.at)
	if err != nil {
		return nil, err
	}
	defer t.engine.End(t.macSlot.at)
	made := e.deliver == nil
	raw, err := t.redelivery(e, ksn)
	if err != nil {
		return nil, err
	}
	if planted.On(planted.QueueForgetFirst) {
		_ = removeFile(t.o.FS, entryName(e.Sequence))
	}
	ack, err := t.deliver(ctx, raw, t.macSlot)
	if err == nil && t.catchUp(ack, ksn) {
		err = t.retract(e, made)
	}
	if err != nil {
		return nil, &UnansweredError{Pending: e.Pending, Err: err}
	}
	return t.settle(e, ksn, ack)
}

// catchUp reports whether an ack refuses nothing but the key of a message that Resend made, and the slot has moved above
// the floor: then the refusal says nothing about the sale, and the same message under the next key is another matter. An
// envelope's refusal names its original too, so the KSN has to tell.
func (t *Terminal) catchUp(ack *message.AckPayload, ksn dukpt.KSN) bool {
	switch ack.Result {
	case message.KsnTooOld, message.KsnFenced, message.KsnSpent:
	default:
		return false
	}
	floor, ok := ack.Floor(t.macSlot.Number, t.macSlot.KeyID)
	if !ok || floor < ksn.Ordinal() {
		return false
	}
	t.engine.End(t.macSlot.at)
	_ = t.follow(ack) // of another slot perhaps; Status shows it
	next, ok := t.nextOf(t.macSlot)
	return ok && next > floor
}

// retract leaves a sale as it was before the attempt: a reversal made for it was refused for its key and is dropped, so
// that the next attempt makes another. It returns ErrBehind when that is durable.
func (t *Terminal) retract(e *entry, made bool) error {
	if made {
		without := *e
		without.deliver = nil
		if err := t.store.saveEntry(&without); err != nil {
			return err
		}
		*e = without
		t.publish()
	}
	return ErrBehind
}

// redelivery makes the message that settles an entry. A reversal, once made, is what is delivered from then on: it is
// saved before it leaves.
func (t *Terminal) redelivery(e *entry, ksn dukpt.KSN) ([]byte, error) {
	if e.deliver != nil && e.Intent == IntentResend && planted.On(planted.QueueRemade) {
		return t.remade(e, t.macSlot, ksn)
	}
	if e.deliver != nil {
		return t.compose(&message.Payload{Type: message.Resend, Inner: e.deliver}, t.macSlot, ksn)
	}
	amount := e.Amount
	raw, err := t.compose(&message.Payload{
		Type: message.Reversal, Amount: &amount,
		Original: &message.Original{Sequence: e.Sequence, KSN: e.KSN, Digest: e.Digest},
	}, t.macSlot, ksn)
	if err != nil {
		return nil, err
	}
	withReversal := *e
	withReversal.deliver = raw
	if err := t.store.saveEntry(&withReversal); err != nil {
		return nil, err
	}
	*e = withReversal
	t.publish()
	return raw, nil
}

func (t *Terminal) unanswered(p *Pending) (*entry, error) {
	if err := t.ready(); err != nil {
		return nil, err
	}
	for _, e := range t.entries {
		if e.Sequence == p.Sequence && e.Digest == p.Digest && e.Result == 0 {
			return e, nil
		}
	}
	return nil, fmt.Errorf("terminal: no unanswered message with sequence %d", p.Sequence)
}

// settle does with an entry what the answer says. The result is returned only when that is durable: otherwise a power
// cut could reverse a sale that the merchant has seen approved. A cut between the two leaves an answered sale that only
// the host remembers; the acquirer's ledger shows it.
func (t *Terminal) settle(e *entry, ksn dukpt.KSN, ack *message.AckPayload) (*SaleResult, error) {
	t.engine.End(t.macSlot.at)
	reversal := e.Intent == IntentReverse && e.deliver != nil
	var err error
	switch fateOf(ack.Result, reversal, e.Offline) {
	case settled:
		err = t.forget(e)
	case exceptional:
		err = t.except(e, ack.Result)
	case waiting: // it stays as it is
	}
	if err != nil {
		return nil, &UnansweredError{Pending: e.Pending, Err: err}
	}
	_ = t.follow(ack) // the sale has its result; Status shows why a floor was not followed
	return &SaleResult{
		Result: ack.Result, Reversal: reversal, Sequence: e.Sequence, Digest: e.Digest, KSN: ksn,
		Body: ack.Body, HostTime: time.Unix(ack.HostTime, 0).UTC(),
	}, nil
}

type fate uint8

const (
	settled fate = iota + 1
	exceptional
	waiting
)

// fateOf says what an authenticated result means for the entry it is about. Nobody waits at the till for the answer to a sale that
// was made offline: if it is no, a person has to look at it.
func fateOf(r message.Result, reversal, offline bool) fate {
	switch r {
	case message.Approved:
		return settled
	case message.Held:
		return waiting
	case message.Declined, message.PinBlockInvalid:
		if offline && !reversal {
			return exceptional
		}
		if reversal {
			return exceptional // a reversal that is not taken leaves money in the wrong place
		}
		return settled
	case message.Reversed:
		if reversal {
			return settled
		}
		return exceptional
	}
	return exceptional
}

// forget removes an entry durably, except moves it to the exceptions.
func (t *Terminal) forget(e *entry) error {
	if err := removeFile(t.o.FS, entryName(e.Sequence)); err != nil {
		_ = t.store.saveEntry(e) // it is called unanswered, and so it has to be there after the next start
		return err
	}
	t.entries = slices.DeleteFunc(t.entries, func(other *entry) bool { return other == e })
	t.publish()
	return nil
}

func (t *Terminal) except(e *entry, r message.Result) error {
	excepted := *e
	excepted.Result = r
	if err := t.store.saveEntry(&excepted); err != nil {
		return err
	}
	*e = excepted
	t.publish()
	return nil
}
