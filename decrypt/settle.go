package decrypt

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/message"
)

// Ledger reads what a store holds. No method changes anything, and what they return is not changed.
type Ledger interface {
	State(CounterKey) (KeyIDState, error)
	Row(RowKey) ([]Entry, error)
	// Fences returns the ordinals of all fences that there were.
	Fences() (uint32, error)
	// Drained returns how many messages were let through under a drain grant.
	Drained(grant string) (uint32, error)
	// Accused reports whether a message was evidence before.
	Accused(message.Digest) (bool, error)
}

// Settlement is what the claims of one message change, to be stored as one.
type Settlement struct {
	Outcome ClaimOutcome // Answer is left to the store
	Refusal *Refusal     // why everything is refused; nil when everything is accepted
	States  map[CounterKey]KeyIDState
	Rows    map[RowKey][]Entry // none when refused
	Accused message.Digest     // of the message that is evidence against Outcome.Evidence; zero when none is
	Drained map[string]uint32  // by drain grant, how many messages were let through under it, this one included
	Remark  string             // Reason of the audit record of what is accepted: the grant that it was counted under, or empty
}

// Settle judges the claims of one message. All are judged against the counters as they were before the message, so that
// the fresh counter of a resend does not put the message inside below the floor. The first refusal refuses all, and so does
// a message of which only a part was released before: CodeKSNReplayed. What is left and fresh is counted under the first of
// its drain grants that has room, or refused with CodeDrainGrantSpent. An error says that the set is not one, or comes from
// the ledger.
func Settle(set *ClaimSet, l Ledger) (Settlement, error) {
	if err := set.Check(); err != nil {
		return Settlement{}, err
	}
	if r := set.contradicts(); r != nil {
		return Settlement{Refusal: r}, nil
	}
	s := Settlement{States: make(map[CounterKey]KeyIDState), Rows: make(map[RowKey][]Entry)}
	s.Outcome.Verdict = Fresh
	for i := range set.Claims {
		refusal, err := s.claim(set, i, l)
		if err != nil || refusal != nil {
			return s.conflictOnly(refusal), err
		}
	}
	if refusal, err := s.mixed(set, l); err != nil || refusal != nil {
		return s.conflictOnly(refusal), err
	}
	if refusal, err := s.drain(set, l); err != nil || refusal != nil {
		return Settlement{Refusal: refusal}, err
	}
	if set.Closes == nil {
		return s, nil
	}
	return s, s.close(set, l)
}

// conflictOnly is what a settlement comes to with a refusal.
func (s *Settlement) conflictOnly(r *Refusal) Settlement {
	return Settlement{Refusal: r, States: s.States, Accused: s.Accused, Outcome: ClaimOutcome{Evidence: s.Outcome.Evidence}}
}

// conflict drops what has been settled and leaves a conflict about the counter of one claim. A message is evidence once: a
// terminal that was rolled back sends the same again until somebody empties its queue.
func (s *Settlement) conflict(set *ClaimSet, i int, before, after KeyIDState, l Ledger) error {
	key, by := set.Claims[i].Row().Counter(), set.carrier(i)
	if after.Evidence > before.Evidence {
		known, err := l.Accused(by)
		if err != nil {
			return err
		}
		if known {
			after.Evidence = before.Evidence
		} else {
			s.Outcome.Evidence, s.Accused = key, by
		}
	}
	clear(s.States)
	s.States[key] = after
	return nil
}

// drain counts a fresh message under a drain grant, if it needs one. What was counted before comes again as it likes.
func (s *Settlement) drain(set *ClaimSet, l Ledger) (*Refusal, error) {
	if len(set.Grants) == 0 || s.Outcome.Claims[0].Verdict != Fresh {
		return nil, nil
	}
	for _, g := range set.Grants {
		used, err := l.Drained(g.ID)
		if err != nil {
			return nil, err
		}
		if used < g.Count {
			s.Drained, s.Remark = map[string]uint32{g.ID: used + 1}, "drain-grant "+g.ID
			return nil, nil
		}
	}
	return &Refusal{Code: CodeDrainGrantSpent, Detail: fmt.Sprintf("KSN %v", set.Claims[0].KSN)}, nil
}

// mixed refuses a message of which a part was released before and a part was not: a field that was captured from one sale
// and is shown again inside another. After a refusal, s holds nothing but a conflict.
func (s *Settlement) mixed(set *ClaimSet, l Ledger) (*Refusal, error) {
	own := set.own()
	i := slices.IndexFunc(s.Outcome.Claims[:own], func(r ClaimResult) bool { return r.Verdict != s.Outcome.Claims[0].Verdict })
	if i < 0 || set.Claims[0].Purpose == PurposeSignIn || planted.On(planted.GuardClaim) {
		return nil, nil
	}
	c := set.Claims[i]
	before, err := l.State(c.Row().Counter())
	if err != nil {
		return nil, err
	}
	after := before
	after.Conflicts++
	if c.Authenticated && s.captured(set) {
		after.Evidence++
	}
	if err := s.conflict(set, i, before, after, l); err != nil {
		return nil, err
	}
	return &Refusal{Code: CodeKSNReplayed, Detail: fmt.Sprintf("KSN %v, purpose %v is %v where the message is %v",
		c.KSN, c.Purpose, s.Outcome.Claims[i].Verdict, s.Outcome.Claims[0].Verdict)}, nil
}

// captured reports whether a part that was released before came from another message: its MAC vouched for that part, as this one's
// does. A part that was released without any MAC says nothing of the terminal, and nor does this message's own MAC, which somebody
// else may have shown first.
func (s *Settlement) captured(set *ClaimSet) bool {
	for i := range s.Outcome.Claims[:set.own()] {
		c := &set.Claims[i]
		if s.Outcome.Claims[i].Verdict != Resend || c.Purpose == PurposeMAC {
			continue
		}
		if slices.ContainsFunc(s.Rows[c.Row()], func(e Entry) bool { return e.Content == c.Content && e.Authenticated }) {
			return true
		}
	}
	return false
}

// own is how many claims are of the message that is answered: all but the last one of a resend, which is the MAC outside.
func (set *ClaimSet) own() int {
	if set.Digest != set.Original {
		return len(set.Claims) - 1
	}
	return len(set.Claims)
}

// carrier is the message that a claim is of: in a resend the one inside, but for the MAC outside.
func (set *ClaimSet) carrier(i int) message.Digest {
	if i < set.own() {
		return set.Original
	}
	return set.Digest
}

// claim adds one claim. After a refusal, s holds nothing but a conflict.
func (s *Settlement) claim(set *ClaimSet, i int, l Ledger) (*Refusal, error) {
	c := set.Claims[i]
	key := c.Row()
	before, err := l.State(key.Counter())
	if err != nil {
		return nil, err
	}
	row, err := s.row(key, l)
	if err != nil {
		return nil, err
	}
	if c.Floor > 0 {
		if c.Fences, err = l.Fences(); err != nil {
			return nil, err
		}
	}
	r := Judge(before, row, c)
	if r.Verdict == Refused {
		clear(s.States)
		if r.Code == CodeKSNReplayed {
			if err := s.conflict(set, i, before, r.State, l); err != nil {
				return nil, err
			}
		}
		return &Refusal{Code: r.Code, Detail: fmt.Sprintf("KSN %v, purpose %v, ordinal %d, floor %d", c.KSN, c.Purpose, c.KSN.Ordinal(), max(before.Floor, c.Floor))}, nil
	}
	e := &r.Row[r.Entry]
	if r.Verdict == Fresh {
		e.FirstSeen = set.Time.UTC().Truncate(time.Millisecond)
		e.Collided, err = s.collides(c, row, l)
		if err != nil {
			return nil, err
		}
	} else {
		s.Outcome.Verdict = Resend
	}
	s.Rows[key] = r.Row
	s.States[key.Counter()] = furthest(s.States[key.Counter()], r.State)
	s.Outcome.Claims = append(s.Outcome.Claims, ClaimResult{
		Verdict: r.Verdict, Treatment: e.Treatment, ClaimKeyVersion: e.ClaimKeyVersion, FillKeyVersion: e.FillKeyVersion,
		Tries: e.Tries, Collision: e.Collided,
	})
	return nil, nil
}

// row returns a row with what this message has put into it already.
func (s *Settlement) row(key RowKey, l Ledger) ([]Entry, error) {
	if row, ok := s.Rows[key]; ok {
		return row, nil
	}
	return l.Row(key)
}

// collides reports whether a sign-in uses a counter that something else was MACed or encrypted under.
func (s *Settlement) collides(c Claim, row []Entry, l Ledger) (bool, error) {
	if c.Purpose != PurposeSignIn {
		return false, nil
	}
	if len(row) > 0 {
		return true, nil
	}
	for _, p := range []Purpose{PurposePIN, PurposeData, PurposeMAC, PurposePINResponse, PurposeDataResponse, PurposeMACResponse} {
		other, err := s.row(RowKey{c.BaseKey, c.KSN, p}, l)
		if err != nil || len(other) > 0 {
			return true, err
		}
	}
	return false, nil
}

// furthest joins two states that grew out of one: the zero state, or any that a claim of the same message led to.
func furthest(a, b KeyIDState) KeyIDState {
	b.High, b.Seen, b.Floor = max(a.High, b.High), max(a.Seen, b.Seen), max(a.Floor, b.Floor)
	if n := len(a.Fences); n > 0 && (len(b.Fences) == 0 || a.Fences[n-1].To > b.Fences[len(b.Fences)-1].To) {
		b.Fences = a.Fences
	}
	return b
}

// close marks the row of the message MAC that a reversal names, or leaves a tombstone there.
func (s *Settlement) close(set *ClaimSet, l Ledger) error {
	key := set.Closes.row()
	row, err := s.row(key, l)
	if err != nil {
		return err
	}
	row = slices.Clone(row)
	if len(row) == 0 {
		row = []Entry{{FirstSeen: set.Time.UTC().Truncate(time.Millisecond)}}
	}
	for i := range row {
		if row[i].ClosedBy.IsZero() {
			row[i].ClosedBy = set.Original
		}
	}
	s.Rows[key] = row
	return nil
}

// Check reports a set that our own code made wrongly. Stores call it, by way of Settle.
func (set *ClaimSet) Check() error {
	switch {
	case set.Digest.IsZero() || set.Original.IsZero():
		return errors.New("decrypt: a claim set without digest")
	case set.Tenant == "":
		return errors.New("decrypt: a claim set without tenant")
	case len(set.Context) > MaxContext:
		return fmt.Errorf("decrypt: a claim set with %d bytes of context, want at most %d", len(set.Context), MaxContext)
	case set.own() == 0:
		return errors.New("decrypt: a claim set without claims")
	case set.Closes != nil && (set.Closes.BaseKey.IsZero() || set.Closes.MACKSN.IsZero()):
		return errors.New("decrypt: a reversal of nothing")
	case slices.ContainsFunc(set.Grants, func(g Grant) bool { return g.ID == "" || len(g.ID) > MaxGrantID || g.Count == 0 }):
		return errors.New("decrypt: a drain grant without id, or of no message")
	}
	for i := range set.Claims {
		if err := set.Claims[i].check(); err != nil {
			return err
		}
		if h := set.Claims[i].Horizon; !h.Before(set.Time) {
			return fmt.Errorf("decrypt: a claim with horizon %v at %v", h, set.Time)
		}
	}
	return nil
}

// contradicts refuses messages that name one thing twice.
func (set *ClaimSet) contradicts() *Refusal {
	for i := range set.Claims {
		c := &set.Claims[i]
		if slices.ContainsFunc(set.Claims[:i], func(d Claim) bool { return d.Row() == c.Row() && d.Content == c.Content }) {
			return &Refusal{Code: CodeMessageMalformed, Detail: fmt.Sprintf("one content under KSN %v twice", c.KSN)}
		}
		if set.Closes != nil && c.Row() == set.Closes.row() {
			return &Refusal{Code: CodeMessageMalformed, Detail: fmt.Sprintf("a reversal of the message that carries it, KSN %v", c.KSN)}
		}
	}
	return nil
}
