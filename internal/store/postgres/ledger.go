package postgres

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/message"
)

// ledger is what one transaction has read, and what its calls have changed of it. A call that fails has changed nothing.
type ledger struct {
	counters map[decrypt.CounterKey]*counter // every one that was asked for
	keys     map[claimKey]bool               // every one that was asked for
	rows     map[decrypt.RowKey]*row
	requests map[message.Digest]*request
	acks     map[message.Digest]*ack
	answers  map[message.Digest]*decision
	accused  map[message.Digest]*decrypt.CounterKey // nil: it was before
	drains   map[string]*drain
	fence    uint32 // of counters that have no row
	fenced   bool   // it has changed

	tree        audit.Tree
	leaves      []leaf
	checkpoints []checkpoint
}

type (
	counter struct {
		state   decrypt.KeyIDState
		known   bool // there is a row of it, or will be
		changed bool
	}
	row struct {
		entries []decrypt.Entry
		stored  int // how many of them are in the table
		changed bool
	}
	request struct {
		decrypt.Request
		at    time.Time
		fresh bool
	}
	ack struct {
		text     []byte
		ksn      dukpt.KSN
		content  decrypt.Content
		original message.Digest // when fresh
		at       time.Time      // when fresh
		fresh    bool
	}
	decision struct {
		decrypt.Answer
		fresh bool
	}
	drain struct {
		used    uint32
		changed bool
	}
	leaf struct {
		n              uint64
		record, hashes []byte
	}
	checkpoint struct {
		size uint64
		note []byte
	}
)

func newLedger(tree audit.Tree) *ledger {
	return &ledger{
		counters: make(map[decrypt.CounterKey]*counter), keys: make(map[claimKey]bool), rows: make(map[decrypt.RowKey]*row),
		requests: make(map[message.Digest]*request), acks: make(map[message.Digest]*ack), answers: make(map[message.Digest]*decision),
		accused: make(map[message.Digest]*decrypt.CounterKey), drains: make(map[string]*drain), tree: tree,
	}
}

var _ decrypt.Ledger = (*ledger)(nil)

// errNotRead is the error of a call that did not say what it needs.
var errNotRead = errors.New("postgres: a row that was not read")

// State implements decrypt.Ledger.
func (l *ledger) State(key decrypt.CounterKey) (decrypt.KeyIDState, error) {
	c, ok := l.counters[key]
	if !ok {
		return decrypt.KeyIDState{}, fmt.Errorf("%w: counter %v", errNotRead, key)
	}
	if !c.known {
		return c.state.Fenced(key.KeyID, l.fence), nil
	}
	return c.state, nil
}

// Row implements decrypt.Ledger.
func (l *ledger) Row(key decrypt.RowKey) ([]decrypt.Entry, error) {
	if !l.keys[claimKey{key.BaseKey, key.KSN}] {
		return nil, fmt.Errorf("%w: claims under KSN %v", errNotRead, key.KSN)
	}
	if r, ok := l.rows[key]; ok {
		return r.entries, nil
	}
	return nil, nil
}

// Fences implements decrypt.Ledger.
func (l *ledger) Fences() (uint32, error) { return l.fence, nil }

// Drained implements decrypt.Ledger.
func (l *ledger) Drained(grant string) (uint32, error) {
	if d, ok := l.drains[grant]; ok {
		return d.used, nil
	}
	return 0, nil
}

// Accused implements decrypt.Ledger.
func (l *ledger) Accused(digest message.Digest) (bool, error) {
	_, ok := l.accused[digest]
	return ok, nil
}

func (l *ledger) row(key decrypt.RowKey) *row {
	r, ok := l.rows[key]
	if !ok {
		r = new(row)
		l.rows[key] = r
	}
	return r
}

// log appends a record to the audit log. A record that cannot be written stops its call before anything is changed.
func (l *ledger) log(r audit.Record) error {
	r.Sequence = l.tree.Size() + 1
	record, err := r.Encode()
	if err != nil {
		return err
	}
	tree, hashes := l.tree.Append(record)
	l.leaves = append(l.leaves, leaf{l.tree.Size(), record, audit.JoinHashes(hashes)})
	l.tree = tree
	return nil
}

// claim settles the claims of one message and notes what they change.
func (l *ledger) claim(set *decrypt.ClaimSet) (decrypt.ClaimOutcome, error) {
	s, err := decrypt.Settle(set, l)
	if err != nil {
		return decrypt.ClaimOutcome{}, err
	}
	r := set.Audit
	r.Result, r.Reason = s.Outcome.Verdict.String(), s.Remark
	if s.Refusal != nil {
		r.Result, r.Reason = decrypt.Refused.String(), string(s.Refusal.Code)
	}
	if err := l.log(r); err != nil {
		return decrypt.ClaimOutcome{}, err
	}
	l.apply(&s)
	if s.Refusal != nil {
		return s.Outcome, s.Refusal
	}
	if _, ok := l.requests[set.Digest]; !ok {
		l.requests[set.Digest] = &request{fresh: true, at: set.Time, Request: decrypt.Request{
			Digest: set.Digest, Original: set.Original, Tenant: set.Tenant, Context: bytes.Clone(set.Context),
		}}
	}
	if d, ok := l.answers[set.Original]; ok {
		a := l.told(d, set.Digest)
		s.Outcome.Answer = &a
	}
	return s.Outcome, nil
}

// apply notes a settlement.
func (l *ledger) apply(s *decrypt.Settlement) {
	for grant, used := range s.Drained {
		l.drains[grant] = &drain{used: used, changed: true}
	}
	for key, state := range s.States {
		l.counters[key] = &counter{state: state, known: true, changed: true}
	}
	if !s.Accused.IsZero() {
		against := s.Outcome.Evidence
		l.accused[s.Accused] = &against
	}
	for key, entries := range s.Rows {
		if c := l.counters[key.Counter()]; !c.known { // a reversal may name a key that was never used
			c.state, c.known, c.changed = c.state.Fenced(key.KSN.KeyID(), l.fence), true, true
		}
		r := l.row(key)
		r.entries, r.changed = entries, true
	}
}

// told is a decision as it is told to a message: with the ack of that message, if there is one.
func (l *ledger) told(d *decision, digest message.Digest) decrypt.Answer {
	a := d.Answer
	a.Digest = digest
	if k, ok := l.acks[digest]; ok {
		a.Ack, a.KSN, a.Content = k.text, k.ksn, k.content
	}
	return a
}

// lookupAnswer finds the decision on the message that the digest stands for.
func (l *ledger) lookupAnswer(digest message.Digest) (decrypt.Answer, bool) {
	original := digest
	if r, ok := l.requests[digest]; ok {
		original = r.Original
	}
	d, ok := l.answers[original]
	if !ok {
		return decrypt.Answer{}, false
	}
	return l.told(d, digest), true
}

// recordAnswer notes a first decision and the first ack of each digest.
func (l *ledger) recordAnswer(a decrypt.Answer) (decrypt.Answer, error) {
	if a.Digest.IsZero() || len(a.Ack) == 0 {
		return decrypt.Answer{}, errors.New("postgres: an answer without digest or ack")
	}
	if _, err := message.ParseResult(a.Result.String()); err != nil {
		return decrypt.Answer{}, err
	}
	asked, ok := l.requests[a.Digest]
	if !ok || asked.Tenant != a.Tenant || asked.Original != a.Original {
		return l.refuseAnswer(a, &decrypt.Refusal{Code: decrypt.CodeRequestUnknown, Detail: "digest " + a.Digest.String()})
	}
	first, known := l.lookupAnswer(a.Digest)
	if known && (first.Result != a.Result || !bytes.Equal(first.Body, a.Body)) {
		return l.refuseAnswer(a, &decrypt.Refusal{Code: decrypt.CodeAnswerConflict, Detail: "recorded: " + first.Result.String()})
	}
	if known && len(first.Ack) > 0 {
		first.Again = true
		return first, nil
	}
	if err := l.log(a.Audit); err != nil {
		return decrypt.Answer{}, err
	}
	if !known {
		l.answers[a.Original] = &decision{fresh: true, Answer: decrypt.Answer{
			Original: a.Original, Tenant: a.Tenant, Result: a.Result, Body: bytes.Clone(a.Body), Time: a.Time.UTC().Truncate(time.Millisecond),
		}}
	}
	l.acks[a.Digest] = &ack{text: bytes.Clone(a.Ack), ksn: a.KSN, content: a.Content, original: a.Original, at: a.Time, fresh: true}
	out, _ := l.lookupAnswer(a.Digest)
	out.Again = known
	return out, nil
}

func (l *ledger) refuseAnswer(a decrypt.Answer, r *decrypt.Refusal) (decrypt.Answer, error) {
	a.Audit.Result, a.Audit.Reason = decrypt.Refused.String(), string(r.Code)
	if err := l.log(a.Audit); err != nil {
		return decrypt.Answer{}, err
	}
	return decrypt.Answer{}, r
}

// putFence puts every counter behind a fence. It has read them all.
func (l *ledger) putFence(n uint32, r audit.Record) (known int, err error) {
	if err := l.log(r); err != nil {
		return 0, err
	}
	for key, c := range l.counters {
		if !c.known { // another call asks for it
			continue
		}
		known++
		c.state, c.changed = c.state.Fenced(key.KeyID, n), true
	}
	l.fence, l.fenced = decrypt.FencesJoined(l.fence, n), true
	return known, nil
}

// raise raises floors, and says how many it has moved.
func (l *ledger) raise(floors []decrypt.Floor, r audit.Record) (moved int, err error) {
	for _, f := range floors {
		s, err := l.State(f.Counter)
		if err != nil {
			return 0, err
		}
		if s.Raised(f.Counter.KeyID, f.Ordinal, l.fence).Floor > s.Floor {
			moved++
		}
	}
	if moved == 0 {
		return 0, nil
	}
	if err := l.log(r); err != nil { // first: a call that fails has changed nothing
		return 0, err
	}
	for _, f := range floors {
		s, err := l.State(f.Counter)
		if err != nil {
			return 0, err
		}
		if raised := s.Raised(f.Counter.KeyID, f.Ordinal, l.fence); raised.Floor > s.Floor {
			c := l.counters[f.Counter]
			c.state, c.known, c.changed = raised, true, true
		}
	}
	return moved, nil
}

// evidenceReported never lowers what was reported, and never beyond the evidence.
func (l *ledger) evidenceReported(key decrypt.CounterKey, evidence uint64) {
	c := l.counters[key]
	if reported := max(c.state.Reported, min(evidence, c.state.Evidence)); c.known && reported != c.state.Reported {
		c.state.Reported, c.changed = reported, true
	}
}
