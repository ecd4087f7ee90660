package storetest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/message"
)

// Contents is everything that a store holds, in a form that two stores can be compared in.
type Contents struct {
	States   map[decrypt.CounterKey]decrypt.KeyIDState
	Rows     map[decrypt.RowKey][]decrypt.Entry
	Requests map[message.Digest]decrypt.Request
	Answers  map[message.Digest]decrypt.Answer // the decision by Original, without Digest and Ack
	Acks     map[message.Digest]Ack            // by Digest
	Drained  map[string]uint32                 // by drain grant, how many messages were let through
	Accused  map[message.Digest]bool           // messages that are evidence
	Fence    uint32                            // of counters that have no state
	Leaves   []audit.Record
}

// state is that of a counter, known or not.
func (held *Contents) state(key decrypt.CounterKey) decrypt.KeyIDState {
	if s, ok := held.States[key]; ok {
		return s
	}
	return decrypt.KeyIDState{}.Fenced(key.KeyID, held.Fence)
}

// Ack is what is stored of an ack.
type Ack struct {
	Ack     []byte
	KSN     dukpt.KSN
	Content decrypt.Content
}

func newContents() Contents {
	return Contents{
		States: make(map[decrypt.CounterKey]decrypt.KeyIDState), Rows: make(map[decrypt.RowKey][]decrypt.Entry),
		Requests: make(map[message.Digest]decrypt.Request), Answers: make(map[message.Digest]decrypt.Answer),
		Acks: make(map[message.Digest]Ack), Drained: make(map[string]uint32), Accused: make(map[message.Digest]bool),
	}
}

func (held Contents) clone() Contents {
	out := Contents{
		States: maps.Clone(held.States), Rows: make(map[decrypt.RowKey][]decrypt.Entry), Requests: maps.Clone(held.Requests),
		Answers: maps.Clone(held.Answers), Acks: maps.Clone(held.Acks), Drained: maps.Clone(held.Drained), Accused: maps.Clone(held.Accused),
		Fence: held.Fence, Leaves: slices.Clone(held.Leaves),
	}
	for k, row := range held.Rows {
		out.Rows[k] = slices.Clone(row)
	}
	return out
}

// Model is a store in memory that is written to be obviously right: one lock, a copy of everything for each call, and
// decrypt.Judge for each claim. It is the oracle of the suite, and a test double for services. It is safe for concurrent use.
type Model struct {
	mu       sync.Mutex
	contents Contents
	closed   bool
}

var _ decrypt.Store = (*Model)(nil)

// NewModel returns an empty store.
func NewModel() *Model { return &Model{contents: newContents()} }

// Reopen undoes Close, as opening the same file again does for a real store.
func (m *Model) Reopen() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = false
}

// Contents returns a copy of what the model holds.
func (m *Model) Contents() Contents {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.contents.clone()
}

// enter takes the lock, or says why nothing can be done.
func (m *Model) enter(ctx context.Context) error {
	m.mu.Lock()
	err := ctx.Err()
	if err == nil && m.closed {
		err = &decrypt.Refusal{Code: decrypt.CodeStoreUnavailable}
	}
	if err != nil {
		m.mu.Unlock()
	}
	return err
}

// Claim implements decrypt.Store.
func (m *Model) Claim(ctx context.Context, set decrypt.ClaimSet) (decrypt.ClaimOutcome, error) {
	if err := set.Check(); err != nil {
		return decrypt.ClaimOutcome{}, err
	}
	if err := m.enter(ctx); err != nil {
		return decrypt.ClaimOutcome{}, err
	}
	defer m.mu.Unlock()
	before, next := maps.Clone(m.contents.States), m.contents.clone()
	if twice(set) {
		return decrypt.ClaimOutcome{}, m.refuse(set.Audit, &decrypt.Refusal{Code: decrypt.CodeMessageMalformed})
	}
	out, refusal := m.judge(&next, set)
	if refusal == nil {
		refusal = m.partly(set, out)
	}
	remark := ""
	if refusal == nil && len(set.Grants) > 0 && out.Claims[0].Verdict == decrypt.Fresh {
		remark, refusal = next.drain(set.Grants)
	}
	if refusal != nil {
		return decrypt.ClaimOutcome{Evidence: m.grown(before)}, m.refuse(set.Audit, refusal)
	}
	if set.Closes != nil {
		next.reverse(reversed(set), set)
	}
	if _, ok := next.Requests[set.Digest]; !ok {
		next.Requests[set.Digest] = decrypt.Request{
			Digest: set.Digest, Original: set.Original, Tenant: set.Tenant, Context: slices.Clone(set.Context),
		}
	}
	set.Audit.Result, set.Audit.Reason = out.Verdict.String(), remark
	if err := next.log(set.Audit); err != nil {
		return decrypt.ClaimOutcome{}, err
	}
	m.contents = next
	if a, ok := m.answer(set.Digest); ok {
		out.Answer = &a
	}
	return out, nil
}

// judge claims into next, each claim against the counters of before. A refused claim leaves its conflict in m.
func (m *Model) judge(next *Contents, set decrypt.ClaimSet) (decrypt.ClaimOutcome, *decrypt.Refusal) {
	out := decrypt.ClaimOutcome{Verdict: decrypt.Fresh}
	for i, c := range set.Claims {
		before := m.contents.state(c.Row().Counter())
		c.Fences = next.Fence
		r := decrypt.Judge(before, next.Rows[c.Row()], c)
		if r.Verdict == decrypt.Refused {
			if r.Code == decrypt.CodeKSNReplayed {
				m.conflict(set, i, r.State.Evidence > before.Evidence)
			}
			return out, &decrypt.Refusal{Code: r.Code}
		}
		if r.Verdict == decrypt.Resend {
			out.Verdict = decrypt.Resend
		} else {
			r.Row[r.Entry].FirstSeen = set.Time.UTC().Truncate(time.Millisecond)
			r.Row[r.Entry].Collided = c.Purpose == decrypt.PurposeSignIn && next.used(c)
		}
		next.Rows[c.Row()] = r.Row
		s := next.state(c.Row().Counter())
		s.High, s.Seen, s.Floor = max(s.High, r.State.High), max(s.Seen, r.State.Seen), max(s.Floor, r.State.Floor)
		if n := len(r.State.Fences); n > 0 && (len(s.Fences) == 0 || s.Fences[len(s.Fences)-1].To < r.State.Fences[n-1].To) {
			s.Fences = r.State.Fences // of a key that came with a floor
		}
		next.States[c.Row().Counter()] = s
		e := r.Row[r.Entry]
		out.Claims = append(out.Claims, decrypt.ClaimResult{
			Verdict: r.Verdict, Treatment: e.Treatment, ClaimKeyVersion: e.ClaimKeyVersion, FillKeyVersion: e.FillKeyVersion,
			Tries: e.Tries, Collision: e.Collided,
		})
	}
	return out, nil
}

// partly refuses a message of which a part was released before and a part was not.
func (m *Model) partly(set decrypt.ClaimSet, out decrypt.ClaimOutcome) *decrypt.Refusal {
	if set.Claims[0].Purpose == decrypt.PurposeSignIn {
		return nil
	}
	for i, c := range set.Claims {
		outside := set.Digest != set.Original && i == len(set.Claims)-1
		if outside || out.Claims[i].Verdict == out.Claims[0].Verdict {
			continue
		}
		m.conflict(set, i, c.Authenticated && m.captured(set, out))
		return &decrypt.Refusal{Code: decrypt.CodeKSNReplayed}
	}
	return nil
}

// captured reports whether what was released before, but for the MAC, was released under a MAC.
func (m *Model) captured(set decrypt.ClaimSet, out decrypt.ClaimOutcome) bool {
	for i, c := range set.Claims {
		outside := set.Digest != set.Original && i == len(set.Claims)-1
		if outside || c.Purpose == decrypt.PurposeMAC || out.Claims[i].Verdict != decrypt.Resend {
			continue
		}
		for _, e := range m.contents.Rows[c.Row()] {
			if e.Content == c.Content && e.Authenticated {
				return true
			}
		}
	}
	return false
}

// conflict counts one about a claim. A message is evidence once; what is outside of a resend stands for the resend.
func (m *Model) conflict(set decrypt.ClaimSet, i int, evident bool) {
	key, by := set.Claims[i].Row().Counter(), set.Original
	if i == len(set.Claims)-1 {
		by = set.Digest
	}
	s := m.contents.state(key)
	s.Conflicts++
	if evident && !m.contents.Accused[by] {
		s.Evidence++
		m.contents.Accused[by] = true
	}
	m.contents.States[key] = s
}

// grown is the counter that there is more evidence about than before.
func (m *Model) grown(before map[decrypt.CounterKey]decrypt.KeyIDState) (key decrypt.CounterKey) {
	for k, s := range m.contents.States {
		if s.Evidence > before[k].Evidence {
			key = k
		}
	}
	return key
}

// drain counts a message under the first grant with room.
func (held *Contents) drain(grants []decrypt.Grant) (remark string, refusal *decrypt.Refusal) {
	for _, g := range grants {
		if held.Drained[g.ID] < g.Count {
			held.Drained[g.ID]++
			return "drain-grant " + g.ID, nil
		}
	}
	return "", &decrypt.Refusal{Code: decrypt.CodeDrainGrantSpent}
}

// used reports whether anything is stored under the transaction key of a claim.
func (held *Contents) used(c decrypt.Claim) bool {
	for key, row := range held.Rows {
		if key.BaseKey == c.BaseKey && key.KSN == c.KSN && len(row) > 0 {
			return true
		}
	}
	return false
}

// reversed is the row of the message MAC that a reversal closes.
func reversed(set decrypt.ClaimSet) decrypt.RowKey {
	return decrypt.RowKey{BaseKey: set.Closes.BaseKey, KSN: set.Closes.MACKSN, Purpose: decrypt.PurposeMAC}
}

// twice reports a set that claims one content twice, or reverses itself.
func twice(set decrypt.ClaimSet) bool {
	seen := make(map[string]bool)
	for _, c := range set.Claims {
		name := fmt.Sprint(c.Row(), c.Content)
		if seen[name] || set.Closes != nil && c.Row() == reversed(set) {
			return true
		}
		seen[name] = true
	}
	return false
}

func (held *Contents) reverse(key decrypt.RowKey, set decrypt.ClaimSet) {
	if len(held.Rows[key]) == 0 {
		held.Rows[key] = []decrypt.Entry{{FirstSeen: set.Time.UTC().Truncate(time.Millisecond)}}
		held.States[key.Counter()] = held.state(key.Counter()) // something is known about it now
	}
	for i := range held.Rows[key] {
		if held.Rows[key][i].ClosedBy.IsZero() {
			held.Rows[key][i].ClosedBy = set.Original
		}
	}
}

// refuse logs a refusal and returns it.
func (m *Model) refuse(r audit.Record, refusal *decrypt.Refusal) error {
	r.Result, r.Reason = decrypt.Refused.String(), string(refusal.Code)
	if err := m.contents.log(r); err != nil {
		return err
	}
	return refusal
}

func (held *Contents) log(r audit.Record) error {
	r.Sequence = uint64(len(held.Leaves)) + 1
	leaf, err := r.Encode()
	if err != nil {
		return err
	}
	r, err = audit.ParseRecord(leaf)
	held.Leaves = append(held.Leaves, r)
	return err
}

// answer returns the decision that a digest leads to, with the ack of that digest.
func (m *Model) answer(digest message.Digest) (decrypt.Answer, bool) {
	original := digest
	if asked, ok := m.contents.Requests[digest]; ok {
		original = asked.Original
	}
	a, ok := m.contents.Answers[original]
	ack := m.contents.Acks[digest]
	a.Digest, a.Original, a.Ack, a.KSN, a.Content = digest, original, ack.Ack, ack.KSN, ack.Content
	return a, ok
}

// RecordAnswer implements decrypt.Store.
func (m *Model) RecordAnswer(ctx context.Context, a decrypt.Answer) (decrypt.Answer, error) {
	if a.Digest.IsZero() || len(a.Ack) == 0 {
		return decrypt.Answer{}, fmt.Errorf("storetest: an answer without digest or ack")
	}
	if err := m.enter(ctx); err != nil {
		return decrypt.Answer{}, err
	}
	defer m.mu.Unlock()
	asked, ok := m.contents.Requests[a.Digest]
	if !ok || asked.Tenant != a.Tenant || asked.Original != a.Original {
		return decrypt.Answer{}, m.refuse(a.Audit, &decrypt.Refusal{Code: decrypt.CodeRequestUnknown})
	}
	first, known := m.answer(a.Digest)
	if known && (first.Result != a.Result || !bytes.Equal(first.Body, a.Body)) {
		return decrypt.Answer{}, m.refuse(a.Audit, &decrypt.Refusal{Code: decrypt.CodeAnswerConflict})
	}
	if known && len(first.Ack) > 0 {
		first.Again = true
		return first, nil
	}
	if err := m.contents.log(a.Audit); err != nil {
		return decrypt.Answer{}, err
	}
	if !known {
		m.contents.Answers[a.Original] = decrypt.Answer{
			Original: a.Original, Tenant: a.Tenant, Result: a.Result, Body: slices.Clone(a.Body),
			Time: a.Time.UTC().Truncate(time.Millisecond),
		}
	}
	m.contents.Acks[a.Digest] = Ack{slices.Clone(a.Ack), a.KSN, a.Content}
	out, _ := m.answer(a.Digest)
	out.Again = known
	return out, nil
}

// LookupAnswer implements decrypt.Store.
func (m *Model) LookupAnswer(ctx context.Context, digest message.Digest) (decrypt.Answer, bool, error) {
	if err := m.enter(ctx); err != nil {
		return decrypt.Answer{}, false, err
	}
	defer m.mu.Unlock()
	a, ok := m.answer(digest)
	if !ok {
		return decrypt.Answer{}, false, nil
	}
	return a, true, nil
}

// LookupRequest implements decrypt.Store.
func (m *Model) LookupRequest(ctx context.Context, digest message.Digest) (decrypt.Request, bool, error) {
	if err := m.enter(ctx); err != nil {
		return decrypt.Request{}, false, err
	}
	defer m.mu.Unlock()
	r, ok := m.contents.Requests[digest]
	return r, ok, nil
}

// Counters implements decrypt.Store.
func (m *Model) Counters(ctx context.Context, base keys.Fingerprint, id dukpt.KeyID) (decrypt.KeyIDState, error) {
	if err := m.enter(ctx); err != nil {
		return decrypt.KeyIDState{}, err
	}
	defer m.mu.Unlock()
	return m.contents.state(decrypt.CounterKey{BaseKey: base, KeyID: id}), nil
}

// EachCounter implements decrypt.Store.
func (m *Model) EachCounter(ctx context.Context, f func(decrypt.CounterKey, decrypt.KeyIDState) error) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	states := maps.Clone(m.contents.States)
	m.mu.Unlock()
	for key, state := range states {
		if err := f(key, state); err != nil {
			return err
		}
	}
	return nil
}

// EachUnreported implements decrypt.Store.
func (m *Model) EachUnreported(ctx context.Context, f func(decrypt.CounterKey, decrypt.KeyIDState) error) error {
	return m.EachCounter(ctx, func(key decrypt.CounterKey, state decrypt.KeyIDState) error {
		if state.Evidence <= state.Reported {
			return nil
		}
		return f(key, state)
	})
}

// EvidenceReported implements decrypt.Store.
func (m *Model) EvidenceReported(ctx context.Context, key decrypt.CounterKey, evidence uint64) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	if s, ok := m.contents.States[key]; ok {
		s.Reported = max(s.Reported, min(evidence, s.Evidence))
		m.contents.States[key] = s
	}
	return nil
}

// Fence implements decrypt.Store.
func (m *Model) Fence(ctx context.Context, n uint32, r audit.Record) (int, error) {
	if err := m.enter(ctx); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	if err := m.contents.log(r); err != nil {
		return 0, err
	}
	for key, s := range m.contents.States {
		m.contents.States[key] = s.Fenced(key.KeyID, n)
	}
	m.contents.Fence = decrypt.FencesJoined(m.contents.Fence, n)
	return len(m.contents.States), nil
}

// Raise implements decrypt.Store.
func (m *Model) Raise(ctx context.Context, floors []decrypt.Floor, r audit.Record) (moved int, err error) {
	if err := decrypt.CheckFloors(floors); err != nil {
		return 0, err
	}
	if err := m.enter(ctx); err != nil {
		return 0, err
	}
	defer m.mu.Unlock()
	next := m.contents.clone()
	for _, f := range floors {
		s := next.state(f.Counter)
		if raised := s.Raised(f.Counter.KeyID, f.Ordinal, next.Fence); raised.Floor > s.Floor {
			next.States[f.Counter] = raised
			moved++
		}
	}
	if moved == 0 {
		return 0, nil
	}
	if err := next.log(r); err != nil {
		return 0, err
	}
	m.contents = next
	return moved, nil
}

// Audit implements decrypt.Store.
func (m *Model) Audit(ctx context.Context, r audit.Record) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	defer m.mu.Unlock()
	return m.contents.log(r)
}

// Check implements decrypt.Store.
func (m *Model) Check(ctx context.Context) error {
	if err := m.enter(ctx); err != nil {
		return err
	}
	m.mu.Unlock()
	return nil
}

// Close implements decrypt.Store. Reopen undoes it.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}
