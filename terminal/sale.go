package terminal

import (
	"context"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/pin"
)

// SaleRequest is one customer's purchase. The caller keeps and wipes the secrets in it.
type SaleRequest struct {
	Amount message.Amount // required
	// Track is what the reader read: track 1 or track 2, or the digits of the card alone. It is encrypted as it is, filled
	// with zero bytes to whole blocks.
	Track secret.Bytes
	// PAN is the card number. It may be zero when Track is given, which must begin with the same number; alone, its digits
	// take the place of Track.
	PAN pin.PAN
	// PIN is what the customer entered; the zero value means a sale without a PIN, unless AskPIN is set.
	PIN pin.PIN
	// AskPIN has the engine take the PIN on its own keypad.
	AskPIN bool
	// Body travels as it is, unencrypted but under the MAC, to the acquirer. It must hold no card data.
	Body []byte
}

// SaleResult is what the host has said under its MAC. It holds no secret.
type SaleResult struct {
	Result   message.Result // Approved, Declined, Held, or a refusal
	Reversal bool           // it answers the reversal of the sale, not the sale
	Sequence uint64         // of the sale
	Digest   message.Digest // of the sale
	KSN      dukpt.KSN      // of the MAC of the message that was answered
	Body     []byte         // what the acquirer says; opaque here
	HostTime time.Time      // by the host's clock
}

// Approved reports whether the sale, and not its reversal, was approved.
func (r *SaleResult) Approved() bool { return r.Result == message.Approved && !r.Reversal }

// Sale makes one purchase: it encrypts card and PIN, each under the next key of its slot, MACs the message, and repeats
// the same bytes until the host answers or ctx ends. The message is saved before it leaves: one with a PIN as a note to
// reverse it, any other whole. A host that refuses for good, the certificate of the terminal perhaps, ends the repeating too.
//
// A result is one that the host gave under its MAC; Held keeps the message for later, refusals of the key go to
// Exceptions. When no answer came the error is an *UnansweredError. ErrSale, ErrSlot, ErrQueue and errors of the engine and
// the medium come before anything is sent.
func (t *Terminal) Sale(ctx context.Context, r SaleRequest) (*SaleResult, error) {
	t.lock()
	defer t.mu.Unlock()
	if err := t.ready(); err != nil {
		return nil, err
	}
	defer t.waits()
	e, raw, err := t.makeSale(&r, false)
	if err != nil {
		return nil, err
	}
	defer t.engine.End(t.macSlot.at)
	ack, err := t.deliver(ctx, raw, t.macSlot)
	if err != nil {
		return nil, &UnansweredError{Pending: e.Pending, Err: err}
	}
	return t.settle(e, e.KSN, ack)
}

// makeSale makes the message of a sale and saves it. The transaction of its MAC stays under way, for its answer, unless there is an
// error.
func (t *Terminal) makeSale(r *SaleRequest, offline bool) (e *entry, raw []byte, err error) {
	card, err := r.card()
	if err != nil {
		return nil, nil, err
	}
	defer card.wipe()
	withPIN := r.AskPIN || !r.PIN.IsZero()
	pinSlot, err := t.pinSlot(withPIN)
	if err != nil {
		return nil, nil, err
	}
	if err := t.queueOpen(); err != nil {
		return nil, nil, err
	}
	ksn, err := t.engine.Begin(t.macSlot.at)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			t.engine.End(t.macSlot.at)
		}
	}()
	p := &message.Payload{Type: message.Sale, Amount: &r.Amount, Body: r.Body, Offline: offline, Queued: offline}
	field, err := t.encryptCard(card, ksn)
	if err != nil {
		return nil, nil, err
	}
	p.Fields = append(p.Fields, field)
	if withPIN {
		field, err := t.encryptPIN(pinSlot, r.PIN, card.pan, ksn)
		if err != nil {
			return nil, nil, err
		}
		p.Fields = append(p.Fields, field)
	}
	raw, err = t.compose(p, t.macSlot, ksn)
	if err == nil && offline {
		err = t.mayHold(raw)
	}
	if err != nil {
		return nil, nil, err
	}
	e = newEntry(p, raw, withPIN)
	return e, raw, t.enqueue(e)
}

// enqueue saves an entry before anybody hears of it.
func (t *Terminal) enqueue(e *entry) error {
	var err error
	if !(e.Offline && planted.On(planted.QueueUnsaved)) {
		err = t.store.saveEntry(e)
	}
	if err != nil && (planted.On(planted.StateGhost) || removeFile(t.o.FS, entryName(e.Sequence)) == nil) {
		return err
	}
	t.entries = append(t.entries, e)
	t.publish()
	if err != nil { // it may be on the medium: whoever was told that there is no such sale would find one after the next start
		return &UnansweredError{Pending: e.Pending, Err: err}
	}
	return nil
}

// queueOpen reports whether a sale may use another key of the MAC slot: not when the oldest unanswered message is so far
// behind that the host's window is about to close over it. Over messages under a key from before, which no longer moves,
// no window closes.
func (t *Terminal) queueOpen() error {
	next, ok := t.nextOf(t.macSlot)
	if !ok || t.macSlot.Window == 0 {
		return nil // Begin says that the keys are used up
	}
	for _, e := range t.entries {
		if e.KSN.KeyID() == t.macSlot.KeyID && e.Result == 0 &&
			uint64(e.KSN.Ordinal())+uint64(t.macSlot.Window-windowMargin) <= uint64(next) {
			return fmt.Errorf("%w: sequence %d at ordinal %d, next ordinal %d, window %d",
				ErrQueue, e.Sequence, e.KSN.Ordinal(), next, t.macSlot.Window)
		}
	}
	return nil
}

func newEntry(p *message.Payload, raw []byte, withPIN bool) *entry {
	e := &entry{deliver: raw}
	e.Pending = Pending{
		Sequence: p.Sequence, Intent: IntentResend, KSN: p.MAC.KSN, Digest: message.DigestOf(raw), Amount: *p.Amount,
		Time: time.Unix(p.Time, 0).UTC(), Offline: p.Offline,
	}
	if withPIN {
		e.Intent, e.deliver = IntentReverse, nil
	}
	return e
}

// card is what is encrypted and whose it is.
type card struct {
	plain secret.Bytes // whole blocks of either cipher
	pan   pin.PAN
}

func (c card) wipe() {
	c.plain.Wipe()
	c.pan.Wipe()
}

// check finds what would fail only when keys have been used for it: the message cannot carry it.
func (r *SaleRequest) check() error {
	if r.AskPIN && !r.PIN.IsZero() {
		return fmt.Errorf("%w: a PIN is given and asked for", ErrSale)
	}
	if err := r.Amount.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrSale, err)
	}
	if len(r.Body) > message.MaxBody {
		return fmt.Errorf("%w: a body of %d bytes, want at most %d", ErrSale, len(r.Body), message.MaxBody)
	}
	if n := max(r.Track.Len(), r.PAN.Digits().Len()); n > message.MaxCiphertext {
		return fmt.Errorf("%w: card data of %d bytes, want at most %d", ErrSale, n, message.MaxCiphertext)
	}
	return nil
}

// card checks the request and fills the card data with zero bytes to 16-byte blocks, which are whole blocks of TDES too.
func (r *SaleRequest) card() (card, error) {
	if err := r.check(); err != nil {
		return card{}, err
	}
	data := r.Track
	if data.IsZero() {
		data = r.PAN.Digits()
	}
	if data.IsZero() {
		return card{}, fmt.Errorf("%w: no card", ErrSale)
	}
	pan, err := pin.FindPAN(data.Expose())
	if err != nil {
		return card{}, fmt.Errorf("%w: no card number in the card data", ErrSale)
	}
	if !r.PAN.IsZero() && !pan.Equal(r.PAN) {
		pan.Wipe()
		return card{}, fmt.Errorf("%w: the card data is of another card", ErrSale)
	}
	const block = 16
	plain := secret.New((data.Len() + block - 1) / block * block)
	copy(plain.Expose(), data.Expose())
	return card{plain: plain, pan: pan}, nil
}

// pinSlot returns the slot for PINs: one of its own if there is one, else the MAC slot.
func (t *Terminal) pinSlot(needed bool) (place, error) {
	if !needed {
		return place{}, nil
	}
	for _, s := range t.slots {
		if s.HasPIN() && s.Number != t.macSlot.Number {
			return s, nil
		}
	}
	if t.macSlot.HasPIN() {
		return t.macSlot, nil
	}
	return place{}, fmt.Errorf("%w: none takes PINs", ErrSlot)
}

// encryptCard uses the transaction that the MAC slot has under way.
func (t *Terminal) encryptCard(c card, ksn dukpt.KSN) (message.Field, error) {
	s := t.macSlot
	ct, err := t.engine.EncryptData(s.at, nil, s.Data, c.plain.Expose())
	if err != nil {
		return message.Field{}, err
	}
	return message.Field{Slot: s.Number, KSN: ksn, Usage: message.UsageData, Mode: s.Data.Mode, Ciphertext: ct}, nil
}

// encryptPIN takes a key of the PIN slot for this one block, or the one under way when the MAC slot takes PINs too.
func (t *Terminal) encryptPIN(s place, p pin.PIN, pan pin.PAN, ksn dukpt.KSN) (message.Field, error) {
	if s.Number != t.macSlot.Number {
		var err error
		if ksn, err = t.engine.Begin(s.at); err != nil {
			return message.Field{}, err
		}
		defer t.engine.End(s.at)
	}
	block, err := t.engine.EncryptPIN(s.at, nil, s.PINFormat, p, pan)
	if err != nil {
		return message.Field{}, err
	}
	return message.Field{
		Slot: s.Number, KSN: ksn, Usage: message.UsagePIN, PINFormat: s.PINFormat, Ciphertext: block,
	}, nil
}
