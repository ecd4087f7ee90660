package main

import (
	"math/bits"
	"math/rand/v2"
)

// table is a function of six bits: bit i is its value where the input is i.
type table = uint64

// gate is what one operation makes of two wires; the kinds are those that cost one instruction, or two.
type gate struct {
	kind kind
	a, b uint8
}

type kind uint8

const (
	input  kind = iota
	and         // a & b
	or          // a | b
	xor         // a ^ b
	andNot      // a &^ b
	not         // ^a
)

func (k kind) apply(a, b table) table {
	switch k {
	case and:
		return a & b
	case or:
		return a | b
	case xor:
		return a ^ b
	case andNot:
		return a &^ b
	case not:
		return ^a
	}
	panic("gen: an input is not computed")
}

// cost is in instructions, where a machine has none for andNot.
func (k kind) cost() int {
	if k == andNot {
		return 2
	}
	return 1
}

// inputs are the six wires that come in, the first being the highest bit of the input.
const inputs = 6

// maxWires bounds a circuit under search.
const maxWires = 96

// circuit is a list of wires: the six inputs, then gates over wires before them.
type circuit struct {
	n     int
	gates [maxWires]gate
	wires [maxWires]table
}

func newCircuit() *circuit {
	c := &circuit{n: inputs}
	for i := range inputs {
		c.gates[i].kind = input
		for x := range 64 {
			c.wires[i] |= table(x>>(inputs-1-i)&1) << x
		}
	}
	return c
}

// add appends a gate, or finds the wire that has its table already.
func (c *circuit) add(k kind, a, b int) int {
	t := k.apply(c.wires[a], c.wires[b])
	for i := range c.n {
		if c.wires[i] == t {
			return i
		}
	}
	c.gates[c.n] = gate{k, uint8(a), uint8(b)}
	c.wires[c.n] = t
	c.n++
	return c.n - 1
}

// search finds a circuit for one S-box after the other. It is greedy with chance: what it returns depends on the seed.
//
// A wanted function is known where it matters only: inside a mask. It is taken from a wire that agrees there, made of two or
// three wires by one or two gates, or put together of its halves for both values of one input: f = a ^ (b & x), where a
// agrees with f where x is 0, and b with f ^ a where x is 1. The halves are wanted under half the mask, so that the search
// ends.
type search struct {
	random *rand.Rand
	limit  int    // of wires; what needs more is given up
	widths [7]int // how many inputs are tried for a split at each depth
}

// box returns a circuit with the four outputs, the first being the highest bit, or false when it found none within the limit.
func (s *search) box(wanted [4]table, order []int) (solution, bool) {
	found := solution{circuit: newCircuit()}
	for _, o := range order {
		next, wire, ok := s.make(found.circuit, wanted[o], ^table(0), 0)
		if !ok {
			return solution{}, false
		}
		found.circuit, found.outputs[o] = next, wire
	}
	return found, true
}

// make returns c with a wire that agrees with f inside the mask. used has a one for each input that a split has fixed.
func (s *search) make(c *circuit, f, mask table, used uint) (*circuit, int, bool) {
	if wire, ok := s.one(c, f, mask); ok {
		return c, wire, true
	}
	if c.n >= s.limit {
		return nil, 0, false
	}
	if next, wire, ok := s.two(c, f, mask); ok {
		return next, wire, true
	}
	if c.n+1 < s.limit {
		if next, wire, ok := s.three(c, f, mask); ok {
			return next, wire, true
		}
	}
	if c.n+2 >= s.limit {
		return nil, 0, false
	}
	return s.split(c, f, mask, used)
}

// one looks for a wire that agrees already.
func (s *search) one(c *circuit, f, mask table) (int, bool) {
	found, seen := 0, 0
	for i := range c.n {
		if (c.wires[i]^f)&mask == 0 {
			if seen++; s.random.IntN(seen) == 0 {
				found = i
			}
		}
	}
	return found, seen > 0
}

type pair struct {
	kind kind
	a, b int
}

func (s *search) two(c *circuit, f, mask table) (*circuit, int, bool) {
	var found pair
	seen := 0
	keep := func(k kind, a, b int) {
		if seen++; s.random.IntN(seen) == 0 {
			found = pair{k, a, b}
		}
	}
	for i := range c.n {
		x := c.wires[i]
		if (^x^f)&mask == 0 {
			keep(not, i, i)
		}
		for j := range i {
			y := c.wires[j]
			if (x&y^f)&mask == 0 {
				keep(and, i, j)
			}
			if ((x|y)^f)&mask == 0 {
				keep(or, i, j)
			}
			if (x^y^f)&mask == 0 {
				keep(xor, i, j)
			}
			if (x&^y^f)&mask == 0 {
				keep(andNot, i, j)
			}
			if (y&^x^f)&mask == 0 {
				keep(andNot, j, i)
			}
		}
	}
	if seen == 0 {
		return nil, 0, false
	}
	next := *c
	wire := next.add(found.kind, found.a, found.b)
	return &next, wire, true
}

// three looks for two gates over three wires.
func (s *search) three(c *circuit, f, mask table) (*circuit, int, bool) {
	var inner, outer pair // b of outer is the inner gate
	seen := 0
	keep := func(in pair, k kind, i int, flipped bool) {
		if seen++; s.random.IntN(seen) == 0 {
			inner, outer = in, pair{k, i, -1}
			if flipped {
				outer = pair{k, -1, i}
			}
		}
	}
	// Who is to be one side of an and has to be 1 wherever f is, of an or 0 wherever f is 0, and so on: few are.
	var above, below, apart [maxWires]int
	na, nb, np := 0, 0, 0
	for i := range c.n {
		y := c.wires[i]
		if f&^y&mask == 0 {
			above[na] = i
			na++
		}
		if y&^f&mask == 0 {
			below[nb] = i
			nb++
		}
		if y&f&mask == 0 {
			apart[np] = i
			np++
		}
	}
	try := func(in pair, t table) {
		d := (t ^ f) & mask
		if d == mask {
			keep(in, not, in.a, true)
		}
		for i, y := range c.wires[:c.n] {
			if y&mask == d {
				keep(in, xor, i, false)
			}
		}
		if f&^t&mask == 0 {
			for _, i := range above[:na] {
				if d&c.wires[i] == 0 {
					keep(in, and, i, false)
				}
			}
			for _, i := range apart[:np] {
				if d&^c.wires[i] == 0 {
					keep(in, andNot, i, true)
				}
			}
		}
		if t&^f&mask == 0 {
			for _, i := range below[:nb] {
				if d&^c.wires[i] == 0 {
					keep(in, or, i, false)
				}
			}
		}
		if t&f&mask == 0 {
			for _, i := range above[:na] {
				if (c.wires[i]&^t^f)&mask == 0 {
					keep(in, andNot, i, false)
				}
			}
		}
	}
	for i := range c.n {
		x := c.wires[i]
		for j := range i {
			y := c.wires[j]
			try(pair{and, i, j}, x&y)
			try(pair{or, i, j}, x|y)
			try(pair{xor, i, j}, x^y)
			try(pair{andNot, i, j}, x&^y)
			try(pair{andNot, j, i}, y&^x)
		}
	}
	if seen == 0 {
		return nil, 0, false
	}
	next := *c
	middle := next.add(inner.kind, inner.a, inner.b)
	if outer.a < 0 {
		outer.a = middle
	} else {
		outer.b = middle
	}
	if outer.kind == not {
		outer.a, outer.b = middle, middle
	}
	wire := next.add(outer.kind, outer.a, outer.b)
	return &next, wire, true
}

// split puts f together of its halves for one input, whichever of those tried costs least.
func (s *search) split(c *circuit, f, mask table, used uint) (*circuit, int, bool) {
	var best *circuit
	wire := 0
	limit := s.limit
	defer func() { s.limit = limit }()
	tries := s.widths[bits.OnesCount(used)]
	for _, x := range s.random.Perm(inputs) {
		if used>>x&1 == 1 {
			continue
		}
		if tries--; tries < 0 {
			break
		}
		for _, high := range s.random.Perm(2) {
			next, w, ok := s.halves(c, f, mask, used|1<<x, x, high == 1)
			if ok && (best == nil || next.n < best.n) {
				best, wire = next, w
				s.limit = min(s.limit, best.n-1) // anything else must be better
			}
		}
	}
	return best, wire, best != nil
}

// halves makes the half of f where input x is 1 (high) or 0 first.
func (s *search) halves(c *circuit, f, mask table, used uint, x int, high bool) (*circuit, int, bool) {
	half := c.wires[x]
	if high {
		half = ^half
	}
	g := f
	if high { // f = a ^ (b | x), where b|x is 1 if x is: a has to be ^f there
		g = ^f
	}
	first, a, ok := s.make(c, g, mask&^half, used)
	if !ok {
		return nil, 0, false
	}
	second, b, ok := s.make(first, f^first.wires[a], mask&half, used)
	if !ok || second.n+2 > s.limit {
		return nil, 0, false
	}
	next := *second
	k := and
	if high {
		k = or
	}
	gated := next.add(k, b, x)
	wire := next.add(xor, a, gated)
	return &next, wire, true
}
