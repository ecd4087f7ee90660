package main

import (
	"log"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// registers is how many registers hold wires. The compiler has 13 on amd64 and 12 on 32-bit ARM; it does not choose as well
// as moves does, and two fewer gave the fewest instructions.
const registers = 11

// order puts the gates of all circuits in better orders, in turn, until the time is over.
func order(all *[8]solution, how time.Duration, seed uint64) {
	end := time.Now().Add(how)
	for try := uint64(0); time.Now().Before(end); try++ {
		for box, s := range all {
			random := rand.New(rand.NewPCG(seed, try<<8|uint64(box)))
			if t := s.order(random, 200_000); t.moves() < s.moves() {
				log.Printf("S%d: %d moves", box+1, t.moves())
				all[box] = t
			}
		}
	}
}

// order puts the gates of a circuit in the order that needs the fewest moves between registers and memory, as far as chance
// finds it in so many rounds. What the circuit computes, and its gates, stay the same.
func (s solution) order(random *rand.Rand, rounds int) solution {
	now, best := s.clone(), s.clone()
	cost := now.moves()
	least := cost
	for round := range rounds {
		heat := 1.5 * (1 - float64(round)/float64(rounds))
		from, to := inputs+random.IntN(s.n-inputs), inputs+random.IntN(s.n-inputs)
		if !now.movable(from, to) {
			continue
		}
		now.move(from, to)
		next := now.moves()
		if next > cost && random.Float64() >= math.Exp(float64(cost-next)/(heat+1e-9)) {
			now.move(to, from)
			continue
		}
		if cost = next; cost < least {
			least = cost
			best = now.clone()
		}
	}
	return best
}

func (s solution) clone() solution {
	c := *s.circuit
	s.circuit = &c
	return s
}

// movable reports whether a gate may stand at another place: after those that it needs, before those that need it.
func (s solution) movable(from, to int) bool {
	g := s.gates[from]
	if to < from {
		return int(g.a) < to && (g.kind == not || int(g.b) < to)
	}
	for i := from + 1; i <= to; i++ {
		h := s.gates[i]
		if int(h.a) == from || h.kind != not && int(h.b) == from {
			return false
		}
	}
	return from != to
}

// move takes a gate to another place, and gives all wires their new numbers.
func (s *solution) move(from, to int) {
	step := 1
	if to < from {
		step = -1
	}
	g, w := s.gates[from], s.wires[from]
	for i := from; i != to; i += step {
		s.gates[i], s.wires[i] = s.gates[i+step], s.wires[i+step]
	}
	s.gates[to], s.wires[to] = g, w
	number := func(i int) int {
		switch {
		case i == from:
			return to
		case step > 0 && i > from && i <= to:
			return i - 1
		case step < 0 && i >= to && i < from:
			return i + 1
		}
		return i
	}
	for i := inputs; i < s.n; i++ {
		h := &s.gates[i]
		h.a, h.b = uint8(number(int(h.a))), uint8(number(int(h.b)))
	}
	for o, wire := range s.outputs {
		s.outputs[o] = number(wire)
	}
}

// moves is how many instructions a compiler adds to the gates: a copy where an operation would overwrite what is needed
// later, a store and loads for wires that find no register, which are those that are needed last.
func (s solution) moves() (n int) {
	f := file{uses: s.uses(), held: make([]uint8, inputs, registers)}
	for i := range f.held {
		f.held[i] = uint8(i)
	}
	for i := inputs; i < s.n; i++ {
		f.compute(uint8(i), s.gates[i])
	}
	for _, o := range s.outputs {
		f.need(uint8(o), uint8(o), uint8(o))
	}
	return f.moves
}

// uses are the gates that need each wire, the last one first. An output is needed after all gates.
func (s solution) uses() (all [maxWires][]int) {
	for _, o := range s.outputs {
		all[o] = append(all[o], s.n)
	}
	for i := s.n - 1; i >= inputs; i-- {
		g := s.gates[i]
		all[g.a] = append(all[g.a], i)
		if g.kind != not && g.b != g.a {
			all[g.b] = append(all[g.b], i)
		}
	}
	return all
}

// file is a machine's registers while a circuit is computed.
type file struct {
	uses   [maxWires][]int // those that are still to come
	held   []uint8         // wires in registers
	stored [maxWires]bool  // wires that have a copy in memory
	moves  int
}

const never = math.MaxInt

// next is the gate that needs a wire next.
func (f *file) next(w uint8) int {
	if u := f.uses[w]; len(u) > 0 {
		return u[len(u)-1]
	}
	return never
}

// compute has gate g make wire w.
func (f *file) compute(w uint8, g gate) {
	if g.kind == not {
		g.b = g.a
	}
	f.need(g.a, g.a, g.b)
	f.need(g.b, g.a, g.b)
	f.used(g.a)
	if g.b != g.a {
		f.used(g.b)
	}
	// The result takes the place of an operand; of andNot that of the second, whose complement is made first.
	free := f.next(g.b) == never || g.kind != andNot && f.next(g.a) == never
	if !free {
		f.moves++
	}
	f.drop(g.a)
	f.drop(g.b)
	f.take(w, g.a, g.b)
}

// need loads a wire that is in no register, while a and b stay.
func (f *file) need(w, a, b uint8) {
	if !slices.Contains(f.held, w) {
		f.moves++
		f.take(w, a, b)
	}
}

// take gives a wire a register, for which the one that is needed last goes, but not a or b.
func (f *file) take(w, a, b uint8) {
	if len(f.held) < registers {
		f.held = append(f.held, w)
		return
	}
	out, last := 0, -1
	for i, x := range f.held {
		if u := f.next(x); u > last && x != a && x != b {
			out, last = i, u
		}
	}
	if x := f.held[out]; last != never && !f.stored[x] {
		f.stored[x] = true
		f.moves++
	}
	f.held[out] = w
}

func (f *file) used(w uint8) { f.uses[w] = f.uses[w][:len(f.uses[w])-1] }

// drop frees the register of a wire that nothing needs any more.
func (f *file) drop(w uint8) {
	if i := slices.Index(f.held, w); i >= 0 && f.next(w) == never {
		f.held[i] = f.held[len(f.held)-1]
		f.held = f.held[:len(f.held)-1]
	}
}
