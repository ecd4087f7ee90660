package terminal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/message"
)

// limitsName is the file of what the host lets the terminal sell without it.
const limitsName = "limits"

// Queue says what waits for its host. It holds no secret.
type Queue struct {
	Count      int              // messages without an answer
	Bytes      int              // of them
	Amounts    []message.Amount // of those that are to be delivered and not reversed, one for each currency
	Oldest     time.Time        // of them all, by the terminal's clock; zero when none waits
	Exceptions int              // messages that the host did not take
	Limits     *message.Limits  // what the host allows; nil: nothing
}

// Queue returns what waits. Other than the rest of the methods it never waits itself, whatever the terminal is at.
func (t *Terminal) Queue() Queue {
	q := *t.queue.Load()
	q.Amounts = slices.Clone(q.Amounts)
	return q
}

// publish has Queue say what is there now.
func (t *Terminal) publish() {
	q := &Queue{}
	if t.limits != nil {
		l := *t.limits
		q.Limits = &l
	}
	for _, e := range t.entries {
		if e.Result != 0 {
			q.Exceptions++
			continue
		}
		q.Count++
		q.Bytes += len(e.deliver)
		if q.Oldest.IsZero() || e.Time.Before(q.Oldest) {
			q.Oldest = e.Time
		}
		if e.Intent == IntentResend {
			q.add(e.Amount)
		}
	}
	t.queue.Store(q)
}

func (q *Queue) add(a message.Amount) {
	for i := range q.Amounts {
		if q.Amounts[i].Currency == a.Currency && q.Amounts[i].Exponent == a.Exponent {
			q.Amounts[i].Minor += a.Minor
			return
		}
	}
	q.Amounts = append(q.Amounts, a)
}

// SaleOffline makes a sale without the host: the message is encrypted, MACed and saved, and waits for Drain, Resend or Run. It is
// for firmware that takes the risk, where the acquirer allows it: the last acknowledgement of the host says up to what count, size,
// age and sum of all that waits, and ErrOffline that it is too much, or that nothing is allowed. A sale with a PIN is refused with
// ErrSale: the PIN could not be checked. Other errors are those of Sale.
//
// When it returns the sale is durable. A host that declines it later, when the goods are gone, makes it an exception.
func (t *Terminal) SaleOffline(r SaleRequest) (*Pending, error) {
	t.lock()
	defer t.mu.Unlock()
	if err := t.ready(); err != nil {
		return nil, err
	}
	defer t.waits()
	if r.AskPIN || !r.PIN.IsZero() {
		return nil, fmt.Errorf("%w: there is no PIN without the host", ErrSale)
	}
	if err := t.mayQueue(r.Amount); err != nil {
		return nil, err
	}
	e, _, err := t.makeSale(&r, true)
	if err != nil {
		return nil, err
	}
	t.engine.End(t.macSlot.at)
	p := e.Pending
	return &p, nil
}

// waits has Run hear of what is kept after a sale: because nobody answered, because the host holds it back, or because the medium
// failed.
func (t *Terminal) waits() {
	if t.queue.Load().Count > 0 {
		t.tell(t.filled)
	}
}

// mayQueue holds another sale to the limits, but for its size.
func (t *Terminal) mayQueue(a message.Amount) error {
	l := t.limits
	if l == nil {
		return fmt.Errorf("%w: the host has not allowed any", ErrOffline)
	}
	q := t.queue.Load()
	if uint32(q.Count) >= l.Count {
		return fmt.Errorf("%w: %d messages wait already", ErrOffline, q.Count)
	}
	if a.Currency != l.Amount.Currency || a.Exponent != l.Amount.Exponent || a.Minor < 0 {
		return fmt.Errorf("%w: none in %v with %d decimals", ErrOffline, a.Currency, a.Exponent)
	}
	sum := a.Minor
	for _, waits := range q.Amounts {
		if waits.Currency != a.Currency || waits.Exponent != a.Exponent {
			return fmt.Errorf("%w: a sale in %v waits", ErrOffline, waits.Currency)
		}
		sum += waits.Minor
	}
	if sum > l.Amount.Minor {
		return fmt.Errorf("%w: with it %d would wait, of at most %v", ErrOffline, sum, l.Amount)
	}
	age := t.clock().Sub(q.Oldest)
	if !q.Oldest.IsZero() && age < 0 {
		return fmt.Errorf("%w: the clock is behind the oldest message, of %s", ErrOffline, q.Oldest.Format(time.RFC3339))
	}
	if !q.Oldest.IsZero() && age > time.Duration(l.AgeSeconds)*time.Second {
		return fmt.Errorf("%w: the oldest message waits since %s", ErrOffline, q.Oldest.Format(time.RFC3339))
	}
	return nil
}

// mayHold holds a message to the limit of bytes.
func (t *Terminal) mayHold(raw []byte) error {
	if n := t.queue.Load().Bytes + len(raw); uint64(n) > uint64(t.limits.Bytes) {
		return fmt.Errorf("%w: with it %d bytes would wait, of at most %d", ErrOffline, n, t.limits.Bytes)
	}
	return nil
}

// Drain settles what waits, oldest first and one after the other, and calls each, if not nil, with every result. It ends with the
// first message that nobody answers, whose error it returns; what the host holds back stays, and the next one follows. Who waits
// for the terminal comes first: Drain lets go of a message on its way and delivers it again. ctx bounds it, and patience, if not
// zero, each message.
func (t *Terminal) Drain(ctx context.Context, patience time.Duration, each func(*SaleResult)) error {
	done := make(map[uint64]int)
	for {
		r, more, err := t.drainNext(ctx, patience, done)
		if r != nil && each != nil {
			each(r)
		}
		if err != nil || !more {
			return err
		}
	}
}

// attempts is how often Drain takes up a message whose key turned out to be behind the host's floor.
const attempts = 3

// drainNext settles the oldest message that is not done with.
func (t *Terminal) drainNext(ctx context.Context, patience time.Duration, done map[uint64]int) (r *SaleResult, more bool, err error) {
	t.lockBehind()
	defer t.mu.Unlock()
	if err := errors.Join(t.ready(), ctx.Err()); err != nil {
		return nil, false, err
	}
	i := slices.IndexFunc(t.entries, func(e *entry) bool { return e.Result == 0 && done[e.Sequence] < attempts })
	if i < 0 {
		return nil, false, nil
	}
	e := t.entries[i]
	if patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	t.yields = true
	defer func() { t.yields = false }()
	r, err = t.resend(ctx, e)
	switch {
	case err == nil:
		done[e.Sequence] = attempts
	case errors.Is(err, errYield):
		err = nil
	case errors.Is(err, ErrBehind) && done[e.Sequence] < attempts-1:
		done[e.Sequence]++
		err = nil
	}
	return r, true, err
}

// limitsRecord is what the host allows as stored. A count of zero stands for nothing.
type limitsRecord struct {
	Version  uint   `cbor:"v"`
	Count    uint32 `cbor:"count"`
	Bytes    uint32 `cbor:"bytes"`
	Age      uint32 `cbor:"age"`
	Minor    int64  `cbor:"minor"`
	Currency string `cbor:"cur,omitempty"`
	Exponent uint8  `cbor:"exp"`
}

func (s store) saveLimits(l *message.Limits) error {
	r := limitsRecord{Version: recordVersion}
	if l != nil {
		r.Count, r.Bytes, r.Age = l.Count, l.Bytes, l.AgeSeconds
		r.Minor, r.Currency, r.Exponent = l.Amount.Minor, l.Amount.Currency.String(), l.Amount.Exponent
	}
	return s.saveRecord(limitsName, &r)
}

// loadLimits returns what the host allows, nil for nothing.
func (s store) loadLimits() (*message.Limits, error) {
	var r limitsRecord
	err := s.loadRecord(limitsName, &r)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("%w: %s: version %d", ErrState, limitsName, r.Version)
	}
	if r.Count == 0 {
		return nil, nil
	}
	currency, err := message.ParseCurrency(r.Currency)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %v", ErrState, limitsName, err)
	}
	l := &message.Limits{
		Count: r.Count, Bytes: r.Bytes, AgeSeconds: r.Age,
		Amount: message.Amount{Minor: r.Minor, Currency: currency, Exponent: r.Exponent},
	}
	if err := l.Check(); err != nil {
		return nil, fmt.Errorf("%w: %s: %v", ErrState, limitsName, err)
	}
	return l, nil
}

// learn takes what an acknowledgement says beside its result: the time, and what may be sold without the host. That goes for this
// process although it cannot be saved: then the one after it hears of it with its first answer.
func (t *Terminal) learn(ack *message.AckPayload) {
	t.hear(time.Unix(ack.HostTime, 0).UTC())
	said := ack.Limits
	if said != nil && said.Count == 0 {
		said = nil
	}
	if said == nil && t.limits == nil || said != nil && t.limits != nil && *said == *t.limits {
		return
	}
	t.limits = said
	t.publish()
	_ = t.store.saveLimits(said)
}

// remade is what a terminal would send that made a sale anew to send it again: the planted fault.
func (t *Terminal) remade(e *entry, by place, ksn dukpt.KSN) ([]byte, error) {
	m, err := message.Parse(e.deliver)
	if err != nil {
		return nil, err
	}
	p := *m.Payload
	p.MAC = by.macRef(ksn)
	payload, err := message.Encode(&p)
	if err != nil {
		return nil, err
	}
	mac, err := t.engine.MAC(by.at, nil, by.MAC, payload)
	return message.Assemble(payload, mac), err
}
