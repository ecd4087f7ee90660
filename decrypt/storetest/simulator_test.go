package storetest

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"time"
)

// The simulator runs decrypt.Settle, which is what the stores run, in a small world: tills that sell, lose power and send again,
// attackers, a network that loses, repeats and delays, two replicas that crash and whose clocks are wrong, and a database with a
// standby that takes its place. All of it happens at moments of one virtual clock, in an order that a seed decides; the oracle
// looks at each step. What one seed finds, it finds again.
type world struct {
	rng    *rand.Rand
	bug    *bug // nil: everything is as it should be
	now    time.Duration
	agenda agenda
	serial int

	db       *database
	replicas []*replica
	tills    []*till
	posted   []*letter // by honest tills, as attackers see them
	oracle   *oracle
	version  int  // of the outgoing key, and of the key that fills blocks
	healed   bool // nothing fails any more
	counts   tally
}

// tally says what happened, so that a run that did too little is no proof.
type tally struct {
	events, letters, released, resent, refused, conflicts, attacks, crashes, restarts, failovers, cuts, clocks, imported int
}

func (c *tally) add(d tally) {
	c.events += d.events
	c.letters += d.letters
	c.released += d.released
	c.resent += d.resent
	c.refused += d.refused
	c.conflicts += d.conflicts
	c.attacks += d.attacks
	c.crashes += d.crashes
	c.restarts += d.restarts
	c.failovers += d.failovers
	c.cuts += d.cuts
	c.clocks += d.clocks
	c.imported += d.imported
}

// String tells what happened in one line.
func (c tally) String() string {
	return fmt.Sprintf("%d events, %d letters, %d released, %d released again, %d refused, %d conflicts, %d attacks, %d crashes of replicas, "+
		"%d restarts of the database, %d fail-overs, %d cuts, %d changes of clocks, %d replays of another host's",
		c.events, c.letters, c.released, c.resent, c.refused, c.conflicts, c.attacks, c.crashes, c.restarts, c.failovers, c.cuts, c.clocks, c.imported)
}

const (
	stormy = 80 * time.Second // how long things fail
	calm   = 40 * time.Second // and how long they are left alone then
)

// simulate runs one seed, and returns the first thing that was wrong, or "".
func simulate(seed uint64, b *bug) (wrong string, did tally) {
	w := &world{rng: rand.New(rand.NewPCG(seed, 0x6C61746368)), bug: b, version: 1}
	w.oracle = newOracle(w)
	w.db = newDatabase(w)
	for i := range 2 {
		w.replicas = append(w.replicas, &replica{w: w, index: i, up: true})
	}
	for i := range 2 + w.rng.IntN(3) {
		w.tills = append(w.tills, newTill(w, i))
	}
	for _, t := range w.tills {
		w.after(w.short(), t.sell)
	}
	w.after(w.some(10*time.Second), w.misfortune)
	w.after(w.some(10*time.Second), w.attack)
	w.after(stormy, w.heal)
	for w.oracle.wrong == "" && len(w.agenda) > 0 && w.now < stormy+calm {
		e := heap.Pop(&w.agenda).(event)
		w.now = e.at
		w.counts.events++
		e.do()
	}
	w.oracle.end()
	return w.oracle.wrong, w.counts
}

// after has something done later.
func (w *world) after(d time.Duration, do func()) {
	w.serial++
	heap.Push(&w.agenda, event{w.now + d, w.serial, do})
}

// chance is true so often.
func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

// some is a time up to twice as long as what it is about.
func (w *world) some(about time.Duration) time.Duration {
	return time.Duration(w.rng.Int64N(2*int64(about))) + 1
}

// short is how long a packet takes.
func (w *world) short() time.Duration { return w.some(30 * time.Millisecond) }

// send carries something over the network: it may be lost, come late, or come twice.
func (w *world) send(do func()) {
	copies := 1
	if !w.healed {
		switch {
		case w.chance(20):
			copies = 0
		case w.chance(15):
			copies = 2
		}
	}
	for range copies {
		d := w.short()
		if !w.healed && w.chance(10) {
			d += w.some(5 * time.Second)
		}
		w.after(d, do)
	}
}

// misfortune has one thing fail, and comes back.
func (w *world) misfortune() {
	if w.healed {
		return
	}
	switch w.rng.IntN(6) {
	case 0:
		w.replicas[w.rng.IntN(len(w.replicas))].crash()
	case 1:
		w.db.crash()
	case 2:
		w.db.cut()
	case 3:
		w.db.failover()
	case 4:
		w.counts.clocks++
		r := w.replicas[w.rng.IntN(len(w.replicas))]
		r.skew = time.Duration(w.rng.IntN(200_001)-100_000) * time.Second
	case 5:
		w.version++
	}
	w.after(w.some(8*time.Second), w.misfortune)
}

// heal ends all faults: what is honest must be answered from here on.
func (w *world) heal() {
	w.healed = true
	w.db.mend()
	for _, r := range w.replicas {
		r.up = true
	}
}

// event is something that happens at a moment. Events of one moment happen in the order in which they were put down.
type event struct {
	at     time.Duration
	serial int
	do     func()
}

type agenda []event

func (a agenda) Len() int      { return len(a) }
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].serial < a[j].serial
}
func (a *agenda) Push(x any) { *a = append(*a, x.(event)) }
func (a *agenda) Pop() any {
	last := len(*a) - 1
	e := (*a)[last]
	*a = (*a)[:last]
	return e
}
