package storetest

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/message"
)

// bug is something that the simulator does wrong on purpose. Each must be found, or what the simulator says of the right
// way proves nothing.
type bug struct {
	name   string
	breaks []string // the invariants that it may be found by

	before func(set *decrypt.ClaimSet)                                              // what is judged is changed
	ledger func(on *server, set *decrypt.ClaimSet) decrypt.Ledger                   // something else is seen
	after  func(on *server, set *decrypt.ClaimSet, s *decrypt.Settlement)           // the judgement is changed
	logged func(set *decrypt.ClaimSet, s *decrypt.Settlement, leaves []leaf) []leaf // the record is
}

func (b *bug) is(name string) bool { return b != nil && b.name == name }

// Bugs of replicas and of the database: their places ask for them by name.
const (
	answerFirst     = "a replica answers before its claim is durable"
	failOpen        = "a replica answers although the store does not"
	unverified      = "a replica believes what it has not verified"
	asyncStandby    = "a commit does not wait for the standby"
	unflushed       = "a commit does not wait for the disk"
	checkThenInsert = "what was judged is written later"
	staleReads      = "claims are judged by the standby"
	splitBrain      = "a primary that was cut off goes on"
)

var bugs = []*bug{
	{name: answerFirst, breaks: []string{"I3", "I10"}},
	{name: failOpen, breaks: []string{"I3", "I10", "I1", "I2"}},
	{name: unverified, breaks: []string{"I7"}},
	{name: asyncStandby, breaks: []string{"I3", "I4", "I10"}},
	{name: unflushed, breaks: []string{"I3", "I4", "I10"}},
	{name: checkThenInsert, breaks: []string{"I1", "I2", "I4", "I13"}},
	{name: staleReads, breaks: []string{"I1", "I2", "I4"}},
	{name: splitBrain, breaks: []string{"I1", "I3", "I10", "I13"}},

	{name: "another content is taken for the same", breaks: []string{"I1", "I9"}, after: accepting(decrypt.CodeKSNReplayed)},
	{name: "the treatment is nothing", breaks: []string{"I2"}, after: accepting(decrypt.CodeTreatmentDiffers)},
	{name: "a resend resolves the outgoing key again", breaks: []string{"I2"}, after: func(_ *server, set *decrypt.ClaimSet, s *decrypt.Settlement) {
		for i := range s.Outcome.Claims {
			s.Outcome.Claims[i].Treatment = set.Claims[i].Treatment
		}
	}},
	{name: "a resend fills with the key of today", breaks: []string{"I2"}, after: func(_ *server, set *decrypt.ClaimSet, s *decrypt.Settlement) {
		for i := range s.Outcome.Claims {
			s.Outcome.Claims[i].FillKeyVersion = set.Claims[i].FillKeyVersion
		}
	}},
	{name: "claims are forgotten after a while", breaks: []string{"I1", "I2", "I8", "I3", "I7"}, ledger: forgetful(func(_ *server, set *decrypt.ClaimSet, _ decrypt.RowKey, e decrypt.Entry) bool {
		return set.Time.Sub(e.FirstSeen) > 20*time.Second
	})},
	{name: "old claims make room for new ones", breaks: []string{"I1", "I2", "I3", "I7"}, ledger: forgetful(func(on *server, _ *decrypt.ClaimSet, row decrypt.RowKey, _ decrypt.Entry) bool {
		return slices.Index(on.order, row) < len(on.order)-30
	})},
	{name: "the floor is nothing", breaks: []string{"I4", "I6"}, ledger: seeing(func(s decrypt.KeyIDState) decrypt.KeyIDState {
		s.Floor = 0
		return s
	})},
	{name: "an import ignores its floor", breaks: []string{"I14"}, before: func(set *decrypt.ClaimSet) {
		for i := range set.Claims {
			set.Claims[i].Floor = 0
		}
	}},
	{name: "the window has no end", breaks: []string{"I6"}, before: func(set *decrypt.ClaimSet) {
		for i := range set.Claims {
			if set.Claims[i].Windowed {
				set.Claims[i].J = 1 << 20
			}
		}
	}},
	{name: "no MAC is needed to move the counter", breaks: []string{"I4", "I5"}, before: func(set *decrypt.ClaimSet) {
		for i := range set.Claims {
			c := &set.Claims[i]
			c.Authenticated, c.MACKSN, c.Windowed, c.W, c.J = true, c.KSN, true, smallW, smallJ
		}
	}},
	{name: "the counter goes back with each message", breaks: []string{"I4"}, after: changing(func(_, is decrypt.KeyIDState, ordinal uint32) decrypt.KeyIDState {
		is.High = ordinal
		return is
	})},
	{name: "the floor goes back", breaks: []string{"I4"}, after: changing(func(was, is decrypt.KeyIDState, _ uint32) decrypt.KeyIDState {
		if was.Floor > 3 {
			is.Floor = was.Floor - 1
		}
		return is
	})},
	{name: "a refusal moves the counter", breaks: []string{"I4", "I7"}, after: func(on *server, set *decrypt.ClaimSet, s *decrypt.Settlement) {
		if s.Refusal != nil {
			key := set.Claims[0].Row().Counter()
			is := on.states[key]
			is.Seen = max(is.Seen, set.Claims[0].KSN.Ordinal()+1)
			s.States = map[decrypt.CounterKey]decrypt.KeyIDState{key: is}
		}
	}},
	{name: "a refused message leaves its first claim", breaks: []string{"I7"}, after: func(on *server, set *decrypt.ClaimSet, s *decrypt.Settlement) {
		c := set.Claims[0]
		if r := decrypt.Judge(on.states[c.Row().Counter()], on.rows[c.Row()], c); s.Refusal != nil && r.Verdict == decrypt.Fresh {
			s.Rows = map[decrypt.RowKey][]decrypt.Entry{c.Row(): r.Row}
		}
	}},
	{name: "a captured part is taken with a new one", breaks: []string{"I11"}, after: func(on *server, set *decrypt.ClaimSet, s *decrypt.Settlement) {
		if s.Refusal == nil || s.Refusal.Code != decrypt.CodeKSNReplayed {
			return
		}
		outcome := decrypt.ClaimOutcome{Verdict: decrypt.Resend}
		rows := map[decrypt.RowKey][]decrypt.Entry{}
		for _, c := range set.Claims {
			r := decrypt.Judge(on.states[c.Row().Counter()], on.rows[c.Row()], c)
			if r.Verdict == decrypt.Refused {
				return
			}
			rows[c.Row()] = r.Row
			outcome.Claims = append(outcome.Claims, decrypt.ClaimResult{Verdict: r.Verdict, Treatment: r.Row[r.Entry].Treatment, FillKeyVersion: r.Row[r.Entry].FillKeyVersion})
		}
		*s = decrypt.Settlement{Outcome: outcome, Rows: rows}
	}},
	{name: "two purposes have one row", breaks: []string{"I9", "I5", "I1"}, before: func(set *decrypt.ClaimSet) {
		for i := range set.Claims {
			if set.Claims[i].Purpose == decrypt.PurposePIN {
				set.Claims[i].Purpose = decrypt.PurposeData
			}
		}
	}},
	{name: "a reversal closes nothing", breaks: []string{"I12"}, before: func(set *decrypt.ClaimSet) { set.Closes = nil }},
	{name: "a reversal closes only what has arrived", breaks: []string{"I12"}, after: func(_ *server, _ *decrypt.ClaimSet, s *decrypt.Settlement) {
		for key, row := range s.Rows {
			if len(row) == 1 && row[0].Tombstone() {
				delete(s.Rows, key)
			}
		}
	}},
	{name: "what was answered often is answered more often", breaks: []string{"I13"}, ledger: forgetting(func(e decrypt.Entry) decrypt.Entry {
		if e.Tries == decrypt.TriesCap {
			e.Tries-- // and it was counted rightly up to here
		}
		return e
	}), after: func(_ *server, _ *decrypt.ClaimSet, s *decrypt.Settlement) {
		for i := range s.Outcome.Claims {
			if s.Outcome.Claims[i].Tries == decrypt.TriesCap {
				s.Outcome.Claims[i].Tries++
			}
		}
	}},
	{name: "one message is evidence again and again", breaks: []string{"I13"}, ledger: func(on *server, _ *decrypt.ClaimSet) decrypt.Ledger { return innocent{on} }},
	{name: "drain grants are not counted", breaks: []string{"I13"}, after: func(_ *server, _ *decrypt.ClaimSet, s *decrypt.Settlement) { s.Drained = nil }},
	{name: "conflicts are not logged", breaks: []string{"I10"}, logged: func(_ *decrypt.ClaimSet, s *decrypt.Settlement, leaves []leaf) []leaf {
		if s.Refusal != nil {
			return nil
		}
		return leaves
	}},
	{name: "resends are not logged", breaks: []string{"I10"}, logged: func(_ *decrypt.ClaimSet, s *decrypt.Settlement, leaves []leaf) []leaf {
		if s.Outcome.Verdict == decrypt.Resend {
			return nil
		}
		return leaves
	}},
}

// judge is decrypt.Settle, spoilt by the bug of the run if there is one.
func (w *world) judge(set decrypt.ClaimSet, on *server) (commit, outcome) {
	b := w.bug
	if b == nil {
		b = &bug{}
	}
	seen := set
	seen.Claims = slices.Clone(set.Claims)
	if b.before != nil {
		b.before(&seen)
	}
	var ledger decrypt.Ledger = on
	if b.ledger != nil {
		ledger = b.ledger(on, &seen)
	}
	s, err := decrypt.Settle(&seen, ledger)
	if err != nil {
		panic("storetest: the simulator made no set: " + err.Error())
	}
	if b.after != nil {
		b.after(on, &seen, &s)
	}
	out := outcome{s.Outcome, s.Refusal, s.States}
	c := commit{s, []leaf{leafOf(set, out)}}
	if b.logged != nil {
		c.leaves = b.logged(&set, &s, c.leaves)
	}
	return c, out
}

// taken is an outcome as if all claims of a set had a verdict.
func taken(set *decrypt.ClaimSet, v decrypt.Verdict) outcome {
	out := outcome{ClaimOutcome: decrypt.ClaimOutcome{Verdict: v}}
	for _, c := range set.Claims {
		out.Claims = append(out.Claims, decrypt.ClaimResult{Verdict: v, Treatment: c.Treatment, FillKeyVersion: c.FillKeyVersion})
	}
	return out
}

// accepting turns a refusal into a resend.
func accepting(code decrypt.Code) func(*server, *decrypt.ClaimSet, *decrypt.Settlement) {
	return func(_ *server, set *decrypt.ClaimSet, s *decrypt.Settlement) {
		if s.Refusal != nil && s.Refusal.Code == code {
			*s = decrypt.Settlement{Outcome: taken(set, decrypt.Resend).ClaimOutcome}
		}
	}
}

// changing changes the states of what is accepted.
func changing(f func(was, is decrypt.KeyIDState, ordinal uint32) decrypt.KeyIDState) func(*server, *decrypt.ClaimSet, *decrypt.Settlement) {
	return func(on *server, set *decrypt.ClaimSet, s *decrypt.Settlement) {
		if s.Refusal != nil {
			return
		}
		for key, is := range s.States {
			s.States[key] = f(on.states[key], is, set.Claims[0].KSN.Ordinal())
		}
	}
}

// glasses is a ledger that shows something else than what is there.
type glasses struct {
	*server
	state func(decrypt.KeyIDState) decrypt.KeyIDState
	row   func(decrypt.RowKey, []decrypt.Entry) []decrypt.Entry
}

func (g glasses) State(k decrypt.CounterKey) (decrypt.KeyIDState, error) {
	s, err := g.server.State(k)
	if g.state != nil {
		s = g.state(s)
	}
	return s, err
}

func (g glasses) Row(k decrypt.RowKey) ([]decrypt.Entry, error) {
	row, err := g.server.Row(k)
	if g.row != nil {
		row = g.row(k, slices.Clone(row))
	}
	return row, err
}

func seeing(f func(decrypt.KeyIDState) decrypt.KeyIDState) func(*server, *decrypt.ClaimSet) decrypt.Ledger {
	return func(on *server, _ *decrypt.ClaimSet) decrypt.Ledger { return glasses{server: on, state: f} }
}

func forgetful(gone func(*server, *decrypt.ClaimSet, decrypt.RowKey, decrypt.Entry) bool) func(*server, *decrypt.ClaimSet) decrypt.Ledger {
	return func(on *server, set *decrypt.ClaimSet) decrypt.Ledger {
		return glasses{server: on, row: func(k decrypt.RowKey, row []decrypt.Entry) []decrypt.Entry {
			return slices.DeleteFunc(row, func(e decrypt.Entry) bool { return gone(on, set, k, e) })
		}}
	}
}

func forgetting(f func(decrypt.Entry) decrypt.Entry) func(*server, *decrypt.ClaimSet) decrypt.Ledger {
	return func(on *server, _ *decrypt.ClaimSet) decrypt.Ledger {
		return glasses{server: on, row: func(_ decrypt.RowKey, row []decrypt.Entry) []decrypt.Entry {
			for i := range row {
				row[i] = f(row[i])
			}
			return row
		}}
	}
}

// innocent is a ledger that has never heard of a message before.
type innocent struct{ *server }

func (innocent) Accused(_ message.Digest) (bool, error) { return false, nil }

var treatments sync.Map // by name and version

// treated is the treatment of a name, as a replica resolves it.
func treated(name []byte, version int) []byte {
	type key struct {
		name    string
		version int
	}
	k := key{string(name), version}
	if t, ok := treatments.Load(k); ok {
		return t.([]byte)
	}
	t := treatment(k.name, fmt.Sprint("v", version))
	treatments.Store(k, t)
	return t
}
