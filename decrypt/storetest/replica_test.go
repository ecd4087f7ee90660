package storetest

import (
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
)

// letter is a message on its way.
type letter struct {
	set    decrypt.ClaimSet
	from   *till // nil: of an insider, who calls with what was captured
	forged bool  // its MAC does not verify
}

// verdict is what a replica says to a letter.
type verdict struct {
	code decrypt.Code // empty: answered
}

// replica is a host service: it verifies, claims, and releases what was claimed.
type replica struct {
	w     *world
	index int
	up    bool
	epoch int
	skew  time.Duration
}

// receive works on a letter. No reply comes from a replica that crashes on the way.
func (r *replica) receive(l *letter, reply func(verdict)) {
	if !r.up {
		return
	}
	r.w.counts.letters++
	if l.forged && !r.w.bug.is(unverified) {
		r.reply(verdict{decrypt.CodeMACInvalid}, reply)
		return
	}
	set := r.stamped(l.set)
	if r.w.bug.is(answerFirst) {
		_, out := r.w.judge(set, r.w.db.primary)
		r.w.db.claim(set, r, func(outcome) {})
		if out.refusal == nil {
			r.release(l, set, out, reply)
		}
		return
	}
	epoch := r.epoch
	r.w.db.claim(set, r, func(out outcome) {
		if r.up && r.epoch == epoch {
			r.claimed(l, set, out, reply)
		}
	})
}

// stamped is a set with the time of this replica, and with the versions of now.
func (r *replica) stamped(set decrypt.ClaimSet) decrypt.ClaimSet {
	set.Time, set.Claims = noon.Add(r.w.now+r.skew), slices.Clone(set.Claims)
	for i := range set.Claims {
		c := &set.Claims[i]
		c.Horizon = set.Time.Add(-rememberedFor)
		c.Treatment = treated(c.Treatment, r.w.version)
		c.FillKeyVersion = uint32(r.w.version)
	}
	return set
}

func (r *replica) claimed(l *letter, set decrypt.ClaimSet, out outcome, reply func(verdict)) {
	if out.refusal != nil && out.refusal.Code == decrypt.CodeStoreUnavailable && r.w.bug.is(failOpen) {
		out = taken(&set, decrypt.Fresh)
	}
	if out.refusal != nil {
		r.w.counts.refused++
		r.reply(verdict{out.refusal.Code}, reply)
		return
	}
	r.release(l, set, out, reply)
}

func (r *replica) release(l *letter, set decrypt.ClaimSet, out outcome, reply func(verdict)) {
	r.w.oracle.release(l, set, out)
	r.reply(verdict{}, reply)
}

func (r *replica) reply(v verdict, reply func(verdict)) {
	r.w.send(func() { reply(v) })
}

func (r *replica) crash() {
	if !r.up {
		return
	}
	r.w.counts.crashes++
	r.up = false
	r.epoch++
	r.w.after(r.w.some(3*time.Second), func() { r.up = true })
}
