package main

import "math/rand/v2"

// network is a circuit that is changed at random. Its nodes stand in an order in which each takes its inputs from before it.
// Some of them lead to no output: they are what later changes connect to.
type network struct {
	nodes   []gate // the wires are the inputs and then these
	outputs [4]uint8
}

// spare is how many nodes beside those that are in use.
const spare = 12

func networkOf(c solution, random *rand.Rand) *network {
	n := &network{nodes: append([]gate(nil), c.gates[inputs:c.n]...)}
	for i, o := range c.outputs {
		n.outputs[i] = uint8(o)
	}
	for range spare {
		n.nodes = append(n.nodes, randomGate(random, inputs+len(n.nodes)))
	}
	return n
}

func randomGate(random *rand.Rand, wires int) gate {
	return gate{and + kind(random.IntN(int(not))), uint8(random.IntN(wires)), uint8(random.IntN(wires))}
}

func (n *network) copyTo(m *network) {
	m.nodes = append(m.nodes[:0], n.nodes...)
	m.outputs = n.outputs
}

// used marks the nodes that lead to an output, and returns what they cost.
func (n *network) used(mark *[maxWires]bool) (cost int) {
	*mark = [maxWires]bool{}
	for _, o := range n.outputs {
		mark[o] = true
	}
	for i := len(n.nodes) - 1; i >= 0; i-- {
		if g := n.nodes[i]; mark[inputs+i] {
			mark[g.a] = true
			if g.kind != not {
				mark[g.b] = true
			}
			cost += g.kind.cost()
		}
	}
	return cost
}

func (n *network) computes(wanted *[4]table, in *[inputs]table) bool {
	var w [maxWires]table
	copy(w[:], in[:])
	for i, g := range n.nodes {
		w[inputs+i] = g.kind.apply(w[g.a], w[g.b])
	}
	for i, o := range n.outputs {
		if w[o] != wanted[i] {
			return false
		}
	}
	return true
}

// change changes one to four things.
func (n *network) change(random *rand.Rand) {
	for range 1 + random.IntN(4) {
		i := random.IntN(len(n.nodes)*3 + 1)
		if i == len(n.nodes)*3 {
			n.outputs[random.IntN(4)] = uint8(random.IntN(inputs + len(n.nodes)))
			continue
		}
		g := &n.nodes[i/3]
		switch i % 3 {
		case 0:
			g.kind = and + kind(random.IntN(int(not)))
		case 1:
			g.a = uint8(random.IntN(inputs + i/3))
		case 2:
			g.b = uint8(random.IntN(inputs + i/3))
		}
	}
}

// shuffle puts the nodes into another order that works too, with those not in use made anew.
func (n *network) shuffle(random *rand.Rand) {
	var mark [maxWires]bool
	n.used(&mark)
	var place [maxWires]uint8
	for i := range inputs {
		place[i] = uint8(i)
	}
	var done [maxWires]bool
	var out []gate
	size := len(n.nodes)
	left := 0
	for i := range n.nodes {
		if mark[inputs+i] {
			left++
		}
	}
	spareLeft := size - left
	for left > 0 || spareLeft > 0 {
		if spareLeft > 0 && random.IntN(left+spareLeft) < spareLeft {
			out = append(out, randomGate(random, inputs+len(out)))
			spareLeft--
			continue
		}
		var ready []int
		for i, g := range n.nodes {
			if !mark[inputs+i] || done[i] {
				continue
			}
			ok := func(w uint8) bool { return w < inputs || done[w-inputs] }
			if ok(g.a) && (g.kind == not || ok(g.b)) {
				ready = append(ready, i)
			}
		}
		i := ready[random.IntN(len(ready))]
		g := n.nodes[i]
		g.a = place[g.a]
		if g.kind == not {
			g.b = g.a
		} else {
			g.b = place[g.b]
		}
		place[inputs+i] = uint8(inputs + len(out))
		out = append(out, g)
		done[i] = true
		left--
	}
	for i, o := range n.outputs {
		n.outputs[i] = place[o]
	}
	n.nodes = out
}

// evolve changes n at random and keeps what computes the same and costs no more.
func evolve(n *network, wanted [4]table, random *rand.Rand, rounds int) int {
	in := [inputs]table{}
	copy(in[:], newCircuit().wires[:inputs])
	var mark [maxWires]bool
	cost := n.used(&mark)
	var m network
	for r := range rounds {
		if r&0xFFFF == 0 {
			n.shuffle(random)
		}
		n.copyTo(&m)
		m.change(random)
		if !m.computes(&wanted, &in) {
			continue
		}
		if c := m.used(&mark); c <= cost {
			cost = c
			m.copyTo(n)
		}
	}
	return cost
}

// solution is what is in use of n.
func (n *network) solution() solution {
	var mark [maxWires]bool
	n.used(&mark)
	c := newCircuit()
	var place [maxWires]uint8
	for i := range inputs {
		place[i] = uint8(i)
	}
	for i, g := range n.nodes {
		if !mark[inputs+i] {
			continue
		}
		g.a = place[g.a]
		if g.b = place[g.b]; g.kind == not {
			g.b = g.a
		}
		place[inputs+i] = uint8(c.n)
		c.gates[c.n], c.wires[c.n] = g, g.kind.apply(c.wires[g.a], c.wires[g.b])
		c.n++
	}
	s := solution{circuit: c}
	for i, o := range n.outputs {
		s.outputs[i] = int(place[o])
	}
	return s
}
