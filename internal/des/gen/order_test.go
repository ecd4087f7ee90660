package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestMoves counts by hand what small circuits need.
func TestMoves(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		gates []gate
		out   [4]int
		want  int
	}{
		{"nothing to compute", nil, [4]int{0, 1, 2, 3}, 0},
		{"operands that are needed no more", []gate{{xor, 0, 1}, {xor, 2, 3}, {and, 6, 7}}, [4]int{8, 8, 8, 8}, 0},
		{"one operand is needed", []gate{{xor, 0, 1}}, [4]int{6, 0, 0, 0}, 0},
		{"both are", []gate{{xor, 0, 1}}, [4]int{6, 0, 1, 1}, 1},
		{"the complement of what is needed", []gate{{not, 0, 0}}, [4]int{6, 0, 0, 0}, 1},
		{"of what is not", []gate{{not, 0, 0}}, [4]int{6, 6, 6, 6}, 0},
		{"the complemented operand is needed", []gate{{andNot, 0, 1}}, [4]int{6, 1, 1, 1}, 1},
		{"the other one is", []gate{{andNot, 0, 1}}, [4]int{6, 0, 0, 0}, 0},
		// Six inputs and five results fill the registers. One more sends one to memory, from where it comes back.
		{"one too many", append(cascade(6), gate{xor, 6, 0}, gate{xor, 12, 1}, gate{xor, 13, 2}, gate{xor, 14, 3}, gate{xor, 15, 4},
			gate{xor, 16, 5}, gate{xor, 17, 7}, gate{xor, 18, 8}, gate{xor, 19, 9}, gate{xor, 20, 10}, gate{xor, 21, 11}), [4]int{22, 22, 22, 22}, 6 + 2},
	} {
		s := solution{circuit: newCircuit(), outputs: c.out}
		for _, g := range c.gates {
			s.gates[s.n] = g
			s.wires[s.n] = g.kind.apply(s.wires[g.a], s.wires[g.b])
			s.n++
		}
		if got := s.moves(); got != c.want {
			t.Errorf("%s: %d moves, want %d", c.name, got, c.want)
		}
	}
}

// cascade is n gates over inputs, each of which is needed later.
func cascade(n int) (gates []gate) {
	for i := range n {
		gates = append(gates, gate{and, uint8(i), uint8((i + 1) % inputs)})
	}
	return gates
}

// TestMove takes gates to and fro: whatever may be moved leaves the circuit a proof of its box, and comes back.
func TestMove(t *testing.T) {
	t.Parallel()
	_, all := circuits(t)
	for box, s := range all {
		moved := 0
		for from := inputs; from < s.n; from++ {
			for to := inputs; to < s.n; to++ {
				c := s.clone()
				if !c.movable(from, to) {
					continue
				}
				c.move(from, to)
				moved++
				for i := inputs; i < c.n; i++ {
					g := c.gates[i]
					if int(g.a) >= i || g.kind != not && int(g.b) >= i || g.kind.apply(c.wires[g.a], c.wires[g.b]) != c.wires[i] {
						t.Fatalf("S%d: from %d to %d: gate %d is not what its wires make", box+1, from, to, i)
					}
				}
				if err := c.prove(box); err != nil {
					t.Fatal(err)
				}
				c.move(to, from)
				if fmt.Sprint(*c.circuit, c.outputs) != fmt.Sprint(*s.circuit, s.outputs) {
					t.Fatalf("S%d: from %d to %d and back is another circuit", box+1, from, to)
				}
			}
		}
		if moved < s.n {
			t.Errorf("S%d: only %d places to move to", box+1, moved)
		}
	}
}

// TestOrder spoils an order and finds a better one, with the same gates.
func TestOrder(t *testing.T) {
	t.Parallel()
	_, all := circuits(t)
	s, random := all[3].clone(), rand.New(rand.NewPCG(3, 4))
	kinds := func(s solution) (n [not + 1]int) {
		for _, g := range s.gates[inputs:s.n] {
			n[g.kind]++
		}
		return n
	}
	for range 2000 {
		if from, to := inputs+random.IntN(s.n-inputs), inputs+random.IntN(s.n-inputs); s.movable(from, to) {
			s.move(from, to)
		}
	}
	spoilt := s.moves()
	better := s.order(random, 20_000)
	if err := better.prove(3); err != nil {
		t.Fatal(err)
	}
	if kinds(better) != kinds(s) || better.moves() >= spoilt {
		t.Errorf("%d moves before and %d after, gates %v and %v", spoilt, better.moves(), kinds(s), kinds(better))
	}
	before := slices.Clone(list(all))
	order(&all, time.Nanosecond, 1)
	for box := range all {
		if err := all[box].prove(box); err != nil {
			t.Fatal(err)
		}
	}
	if len(list(all)) != len(before) {
		t.Error("ordering has changed the circuits")
	}
}
