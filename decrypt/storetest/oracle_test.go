package storetest

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/message"
)

// oracle knows all that was ever released, and what must hold:
//
//	I1  at most as many contents are released under one KSN and purpose as its key set allows, for ever
//	I2  an equal request gets an equal answer, and one content is released in one way
//	I3  what was released is in the database, now and after whatever happens to it
//	I4  the counters never go back, and the highest is one that a MAC covers
//	I5  what is honest is answered, once things work again
//	I6  nothing new is released at or below the floor, or too far above the counter
//	I7  a refusal changes conflict counts and the audit log only; what no MAC vouches for changes nothing
//	I8  the clock of a host, up to 100,000 s wrong, changes no verdict
//	I9  what was claimed for one purpose is nothing to another
//	I10 there is an audit record of each release and each refusal, before anybody is told
//	I11 a message is released and refused as a whole
//	I12 what was reversed is not released any more
//	I13 counts hold: tries, drain grants, evidence once for each message
//	I14 what another host may have released before a key came here is not released
type oracle struct {
	w        *world
	wrong    string
	contents map[decrypt.RowKey][]decrypt.Content
	answers  map[oneContent]string
	releases []oneContent
	told     map[decrypt.CounterKey]counters // that somebody was answered under
	reversed map[decrypt.RowKey]bool
	drained  map[string]int
	evident  map[decrypt.CounterKey]map[message.Digest]bool
	vouched  map[decrypt.CounterKey]uint32 // highest ordinal of an authenticated claim that was accepted
}

type counters struct{ high, floor uint32 }

type oneContent struct {
	row     decrypt.RowKey
	content decrypt.Content
}

func newOracle(w *world) *oracle {
	return &oracle{
		w: w, contents: map[decrypt.RowKey][]decrypt.Content{}, answers: map[oneContent]string{},
		told: map[decrypt.CounterKey]counters{}, reversed: map[decrypt.RowKey]bool{}, drained: map[string]int{},
		evident: map[decrypt.CounterKey]map[message.Digest]bool{}, vouched: map[decrypt.CounterKey]uint32{},
	}
}

// fail notes the first thing that is wrong.
func (o *oracle) fail(invariant, format string, args ...any) {
	if o.wrong == "" {
		o.wrong = fmt.Sprintf("%s at %v: %s", invariant, o.w.now.Round(time.Millisecond), fmt.Sprintf(format, args...))
	}
}

// touched is what a message may change, as it was.
type touched struct {
	states map[decrypt.CounterKey]decrypt.KeyIDState
	rows   map[decrypt.RowKey][]decrypt.Entry
	leaves int
	skewed outcome
	skew   time.Duration
}

func (o *oracle) before(on, judged *server, set decrypt.ClaimSet) touched {
	b := touched{states: map[decrypt.CounterKey]decrypt.KeyIDState{}, rows: map[decrypt.RowKey][]decrypt.Entry{}, leaves: len(on.leaves)}
	for _, row := range rowsOf(set) {
		b.rows[row] = slices.Clone(on.rows[row])
		b.states[row.Counter()] = on.states[row.Counter()]
	}
	if o.w.chance(25) {
		b.skew = []time.Duration{-100_000, 100_000}[o.w.rng.IntN(2)] * time.Second
		_, b.skewed = o.w.judge(shifted(set, b.skew), judged)
	}
	return b
}

func rowsOf(set decrypt.ClaimSet) []decrypt.RowKey {
	var rows []decrypt.RowKey
	for i := range set.Claims {
		rows = append(rows, set.Claims[i].Row())
	}
	if set.Closes != nil {
		rows = append(rows, reversed(set))
	}
	return rows
}

func shifted(set decrypt.ClaimSet, d time.Duration) decrypt.ClaimSet {
	set.Time, set.Claims = set.Time.Add(d), slices.Clone(set.Claims)
	for i := range set.Claims {
		set.Claims[i].Horizon = set.Claims[i].Horizon.Add(d)
	}
	return set
}

// settled looks at what a message has changed.
func (o *oracle) settled(on *server, set decrypt.ClaimSet, b touched, out outcome) {
	if b.skew != 0 && codeOfOutcome(b.skewed) != codeOfOutcome(out) {
		o.fail("I8", "%s: %s, with a clock %v off %s", set.Audit.Object, codeOfOutcome(out), b.skew, codeOfOutcome(b.skewed))
	}
	if added := on.leaves[min(b.leaves, len(on.leaves)):]; len(added) != 1 || added[0] != leafOf(set, out) {
		o.fail("I10", "%s: the log got %v, want %v", set.Audit.Object, added, leafOf(set, out))
	}
	for key, was := range b.states {
		o.moved(on, set, key, was, out)
	}
	if out.refusal != nil {
		for row, was := range b.rows {
			if !reflect.DeepEqual(was, slices.Clone(on.rows[row])) {
				o.fail("I7", "%s is refused, and has changed a row", set.Audit.Object)
			}
		}
		return
	}
	o.accepted(on, set, b, out)
}

// moved looks at the counters.
func (o *oracle) moved(on *server, set decrypt.ClaimSet, key decrypt.CounterKey, was decrypt.KeyIDState, out outcome) {
	is := on.states[key]
	if is.High < was.High || is.Floor < was.Floor || is.Seen < was.Seen {
		o.fail("I4", "%s: from %+v back to %+v", set.Audit.Object, was, is)
	}
	if out.refusal == nil {
		for _, c := range set.Claims {
			if c.Row().Counter() == key && c.Authenticated {
				o.vouched[key] = max(o.vouched[key], c.KSN.Ordinal())
			}
		}
	}
	if is.High > o.vouched[key] {
		o.fail("I4", "%s: the highest counter is %d, and no MAC covers more than %d", set.Audit.Object, is.High, o.vouched[key])
	}
	if out.refusal != nil {
		free := is
		free.Conflicts, free.Evidence = was.Conflicts, was.Evidence
		if !reflect.DeepEqual(free, was) {
			o.fail("I7", "%s is refused, and %+v became %+v", set.Audit.Object, was, is)
		}
		if out.refusal.Code == decrypt.CodeKSNReplayed {
			o.conflicting(set, key, was, is)
		}
	}
}

// conflicting counts evidence: of one message once.
func (o *oracle) conflicting(set decrypt.ClaimSet, key decrypt.CounterKey, was, is decrypt.KeyIDState) {
	o.w.counts.conflicts += int(is.Conflicts - was.Conflicts)
	if is.Evidence == was.Evidence {
		return
	}
	if o.evident[key] == nil {
		o.evident[key] = map[message.Digest]bool{}
	}
	if by := set.Digest; o.evident[key][by] {
		o.fail("I13", "%s is evidence twice", set.Audit.Object)
	}
	o.evident[key][set.Digest] = true
}

// accepted looks at what may be released.
func (o *oracle) accepted(on *server, set decrypt.ClaimSet, b touched, out outcome) {
	for i := range set.Claims {
		c := &set.Claims[i]
		row, state := c.Row(), b.states[c.Row().Counter()]
		if !slices.ContainsFunc(on.rows[row], func(e decrypt.Entry) bool { return e.Content == c.Content }) {
			o.fail("I9", "%s: what it claims as %v is not there", set.Audit.Object, c.Purpose)
		}
		if out.Claims[i].Tries > decrypt.TriesCap {
			o.fail("I13", "%s is answered for the %d. time", set.Audit.Object, out.Claims[i].Tries)
		}
		if out.Claims[i].Verdict != decrypt.Fresh {
			continue
		}
		n := c.KSN.Ordinal()
		if n <= c.Floor {
			o.fail("I14", "%s: ordinal %d is accepted, and another host may have released what is up to %d", set.Audit.Object, n, c.Floor)
		}
		if floor := max(state.Floor, c.Floor); n <= floor || c.Windowed && n > max(state.High, floor)+c.J {
			o.fail("I6", "%s: ordinal %d is accepted, with %+v", set.Audit.Object, n, state)
		}
	}
	own := len(set.Claims)
	if set.Digest != set.Original {
		own--
	}
	for _, c := range out.Claims[:own] {
		if c.Verdict != out.Claims[0].Verdict {
			o.fail("I11", "%s: a part is fresh, and a part is not", set.Audit.Object)
		}
	}
	if c := &set.Claims[0]; c.Purpose == decrypt.PurposeMAC && o.reversed[c.Row()] {
		o.fail("I12", "%s was reversed, and is accepted", set.Audit.Object)
	}
	if set.Closes != nil {
		o.reversed[reversed(set)] = true
	}
	if len(set.Grants) > 0 && out.Claims[0].Verdict == decrypt.Fresh {
		if o.drained[set.Grants[0].ID]++; o.drained[set.Grants[0].ID] > int(set.Grants[0].Count) {
			o.fail("I13", "grant %s let %d messages through", set.Grants[0].ID, o.drained[set.Grants[0].ID])
		}
	}
}

// release looks at what leaves a replica.
func (o *oracle) release(l *letter, set decrypt.ClaimSet, out outcome) {
	w := o.w
	w.counts.released++
	if out.Verdict == decrypt.Resend {
		w.counts.resent++
	}
	if l.forged {
		o.fail("I7", "%s does not verify, and is answered", set.Audit.Object)
	}
	if !slices.ContainsFunc(w.db.primary.leaves, func(at leaf) bool { return at.digest == set.Digest && at.code == "" }) {
		o.fail("I10", "%s is answered, and the log does not say so", set.Audit.Object)
	}
	for i := range set.Claims {
		c := &set.Claims[i]
		one := oneContent{c.Row(), c.Content}
		if !slices.Contains(o.contents[one.row], one.content) {
			o.contents[one.row] = append(o.contents[one.row], one.content)
		}
		if len(o.contents[one.row]) > 1 {
			o.fail("I1", "%s: a second content under KSN %v for %v", set.Audit.Object, c.KSN, c.Purpose)
		}
		answer := fmt.Sprintf("%x %d", out.Claims[i].Treatment, out.Claims[i].FillKeyVersion)
		if before, ok := o.answers[one]; ok && before != answer {
			o.fail("I2", "%s: another answer for %v", set.Audit.Object, c.Purpose)
		}
		o.answers[one] = answer
		o.durable(w.db.primary, one)
		o.releases = append(o.releases, one)
	}
	for key, s := range out.states {
		was := o.told[key]
		o.told[key] = counters{max(was.high, s.High), max(was.floor, s.Floor)}
	}
}

// durable looks for what was released.
func (o *oracle) durable(on *server, one oneContent) {
	if !slices.ContainsFunc(on.rows[one.row], func(e decrypt.Entry) bool { return e.Content == one.content }) {
		o.fail("I3", "what was released under KSN %v for %v is not in the database", one.row.KSN, one.row.Purpose)
	}
}

// recovered looks at a database after a crash or a fail-over.
func (o *oracle) recovered(on *server) {
	for _, one := range o.releases {
		o.durable(on, one)
	}
	for key, was := range o.told {
		if is := on.states[key]; is.High < was.high || is.Floor < was.floor {
			o.fail("I4", "after a crash: from %+v back to %+v", was, is)
		}
	}
	// What was not told to anybody may be gone, and then it may come again.
	clear(o.drained)
	for id, n := range on.drained {
		o.drained[id] = int(n)
	}
	for _, by := range o.evident {
		maps.DeleteFunc(by, func(d message.Digest, _ bool) bool { return !on.accused[d] })
	}
	maps.DeleteFunc(o.reversed, func(row decrypt.RowKey, _ bool) bool {
		return !slices.ContainsFunc(on.rows[row], func(e decrypt.Entry) bool { return !e.ClosedBy.IsZero() })
	})
}

// end looks at what is left when all has been well for a while.
func (o *oracle) end() {
	o.recovered(o.w.db.primary)
	for _, t := range o.w.tills {
		if len(t.open) > 0 && !t.cloned {
			o.fail("I5", "till %d waits for the answer to %s", t.index, t.open[0].at.set.Audit.Object)
		}
	}
}

func leafOf(set decrypt.ClaimSet, out outcome) leaf {
	if out.refusal != nil {
		return leaf{set.Digest, decrypt.Refused.String(), out.refusal.Code}
	}
	return leaf{set.Digest, out.Verdict.String(), ""}
}

func codeOfOutcome(out outcome) string {
	if out.refusal != nil {
		return string(out.refusal.Code)
	}
	return out.Verdict.String()
}
