package storetest

import (
	"time"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/message"
)

// leaf is an audit record, as far as the oracle looks at it.
type leaf struct {
	digest message.Digest
	result string
	code   decrypt.Code
}

// commit is what one message changed.
type commit struct {
	settlement decrypt.Settlement
	leaves     []leaf
}

// server is a database, as its commits have made it. It is a decrypt.Ledger.
type server struct {
	commits []commit
	states  map[decrypt.CounterKey]decrypt.KeyIDState
	rows    map[decrypt.RowKey][]decrypt.Entry
	order   []decrypt.RowKey // of rows, the oldest first
	accused map[message.Digest]bool
	drained map[string]uint32
	leaves  []leaf
}

// replay makes a server out of commits, as recovery does.
func replay(commits []commit) *server {
	s := &server{
		states: make(map[decrypt.CounterKey]decrypt.KeyIDState), rows: make(map[decrypt.RowKey][]decrypt.Entry),
		accused: make(map[message.Digest]bool), drained: make(map[string]uint32),
	}
	for _, c := range commits {
		s.apply(c)
	}
	return s
}

func (s *server) apply(c commit) {
	s.commits = append(s.commits, c)
	for k, v := range c.settlement.States {
		s.states[k] = v
	}
	for k, v := range c.settlement.Rows {
		if _, ok := s.rows[k]; !ok {
			s.order = append(s.order, k)
		}
		s.rows[k] = v
	}
	for k, v := range c.settlement.Drained {
		s.drained[k] = v
	}
	if !c.settlement.Accused.IsZero() {
		s.accused[c.settlement.Accused] = true
	}
	s.leaves = append(s.leaves, c.leaves...)
}

func (s *server) State(k decrypt.CounterKey) (decrypt.KeyIDState, error) { return s.states[k], nil }
func (s *server) Row(k decrypt.RowKey) ([]decrypt.Entry, error)          { return s.rows[k], nil }
func (s *server) Fences() (uint32, error)                                { return 0, nil }
func (s *server) Drained(grant string) (uint32, error)                   { return s.drained[grant], nil }
func (s *server) Accused(d message.Digest) (bool, error)                 { return s.accused[d], nil }

// outcome is what a replica learns about its claims.
type outcome struct {
	decrypt.ClaimOutcome
	refusal *decrypt.Refusal // nil: release
	states  map[decrypt.CounterKey]decrypt.KeyIDState
}

var unavailable = outcome{refusal: &decrypt.Refusal{Code: decrypt.CodeStoreUnavailable}}

// database is a primary that tells nobody of a commit before its standby has it.
type database struct {
	w         *world
	primary   *server
	old       *server // that was cut off by a fail-over
	confirmed int     // commits that the standby has
	flushed   int     // commits that are on the disk of the primary, for the bug that does not wait for it
	up        bool
	linked    bool // with the standby
	epoch     int  // restarts and fail-overs: who has waited since before them gets an error
	waiting   []waiter
}

type waiter struct {
	commit int // it waits for so many
	epoch  int
	reply  func(outcome)
	out    outcome
}

func newDatabase(w *world) *database {
	return &database{w: w, primary: replay(nil), up: true, linked: true}
}

// claim settles a message. The reply comes when what was settled is durable, or an error when nobody knows.
func (d *database) claim(set decrypt.ClaimSet, from *replica, reply func(outcome)) {
	d.w.after(d.w.short(), func() {
		if !d.up {
			d.w.after(d.w.short(), func() { reply(unavailable) })
			return
		}
		d.settle(set, from, reply)
	})
}

func (d *database) settle(set decrypt.ClaimSet, from *replica, reply func(outcome)) {
	on := d.primary
	if d.w.bug.is(splitBrain) && d.old != nil && from.index == 0 {
		on = d.old
	}
	judged := on
	if d.w.bug.is(staleReads) {
		judged = replay(on.commits[:min(d.confirmed, len(on.commits))])
	}
	before := d.w.oracle.before(on, judged, set)
	c, out := d.w.judge(set, judged)
	write := func() {
		on.apply(c)
		d.w.oracle.settled(on, set, before, out)
		d.written(on, len(on.commits), out, reply)
	}
	if d.w.bug.is(checkThenInsert) { // what was judged is written a moment later, whatever there is by then
		epoch := d.epoch
		d.w.after(d.w.some(100*time.Millisecond), func() {
			if epoch == d.epoch {
				before.leaves = len(on.leaves)
				write()
			}
		})
		return
	}
	write()
}

// written has a commit confirmed, and its replica told then.
func (d *database) written(on *server, n int, out outcome, reply func(outcome)) {
	w := d.w
	if on != d.primary || w.bug.is(asyncStandby) || w.bug.is(unflushed) {
		early := reply
		w.after(w.short(), func() { early(out) })
		reply = func(outcome) {}
	}
	if on != d.primary {
		return
	}
	d.waiting = append(d.waiting, waiter{n, d.epoch, reply, out})
	epoch := d.epoch
	w.after(w.some(300*time.Millisecond), func() {
		if epoch == d.epoch {
			d.flushed = max(d.flushed, n)
		}
	})
	if d.linked {
		w.after(w.short(), func() { d.confirm(n, epoch) })
	}
}

// confirm says that the standby has so many commits.
func (d *database) confirm(n, epoch int) {
	if epoch != d.epoch || !d.linked {
		return
	}
	d.confirmed = max(d.confirmed, n)
	left := d.waiting[:0]
	for _, one := range d.waiting {
		if one.commit > d.confirmed {
			left = append(left, one)
			continue
		}
		d.w.after(d.w.short(), func() { one.reply(one.out) })
	}
	d.waiting = left
}

// forget ends all that waits: nobody knows what became of it.
func (d *database) forget() {
	d.epoch++
	for _, one := range d.waiting {
		d.w.after(d.w.short(), func() { one.reply(unavailable) })
	}
	d.waiting = nil
}

// crash kills the primary. What it has written is there when it comes back.
func (d *database) crash() {
	if !d.up {
		return
	}
	d.w.counts.restarts++
	d.up = false
	d.forget()
	if d.w.bug.is(unflushed) {
		d.primary = replay(d.primary.commits[:d.flushed])
		d.confirmed = min(d.confirmed, len(d.primary.commits))
	}
	epoch := d.epoch
	d.w.after(d.w.some(4*time.Second), func() {
		if epoch == d.epoch {
			d.start()
		}
	})
}

func (d *database) start() {
	d.up = true
	d.w.oracle.recovered(d.primary)
	if n, epoch := len(d.primary.commits), d.epoch; d.linked {
		d.w.after(d.w.short(), func() { d.confirm(n, epoch) })
	}
}

// cut takes the standby away for a while.
func (d *database) cut() {
	d.w.counts.cuts++
	d.linked = false
	d.w.after(d.w.some(3*time.Second), d.link)
}

func (d *database) link() {
	d.linked = true
	n, epoch := len(d.primary.commits), d.epoch
	d.w.after(d.w.short(), func() { d.confirm(n, epoch) })
}

// failover puts the standby in the place of the primary, which nobody reaches any more.
func (d *database) failover() {
	d.w.counts.failovers++
	d.forget()
	d.old = d.primary
	d.primary = replay(d.primary.commits[:d.confirmed])
	d.confirmed, d.flushed, d.up, d.linked = len(d.primary.commits), len(d.primary.commits), true, true
	d.w.oracle.recovered(d.primary)
}

// mend ends all faults.
func (d *database) mend() {
	d.old = nil
	if !d.up {
		d.epoch++
		d.start()
	}
	if !d.linked {
		d.link()
	}
}
