// Gen makes the selection functions and the round of internal/des.
//
//	go run ./internal/des/gen            proves the circuits in circuits.txt and writes sbox.go from them, and pairbox.go
//	go run ./internal/des/gen -search 1h looks for smaller ones first
//	go run ./internal/des/gen -order 1m  looks for an order of their gates that needs fewer registers
//
// The circuits were found by this program and by nothing else.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"go/format"
	"log"
	"os"
	"time"
)

// The selection functions of FIPS 46-3, appendix 1, row by row.
var boxes = [8][4][16]uint8{
	{{14, 4, 13, 1, 2, 15, 11, 8, 3, 10, 6, 12, 5, 9, 0, 7}, {0, 15, 7, 4, 14, 2, 13, 1, 10, 6, 12, 11, 9, 5, 3, 8}, {4, 1, 14, 8, 13, 6, 2, 11, 15, 12, 9, 7, 3, 10, 5, 0}, {15, 12, 8, 2, 4, 9, 1, 7, 5, 11, 3, 14, 10, 0, 6, 13}},
	{{15, 1, 8, 14, 6, 11, 3, 4, 9, 7, 2, 13, 12, 0, 5, 10}, {3, 13, 4, 7, 15, 2, 8, 14, 12, 0, 1, 10, 6, 9, 11, 5}, {0, 14, 7, 11, 10, 4, 13, 1, 5, 8, 12, 6, 9, 3, 2, 15}, {13, 8, 10, 1, 3, 15, 4, 2, 11, 6, 7, 12, 0, 5, 14, 9}},
	{{10, 0, 9, 14, 6, 3, 15, 5, 1, 13, 12, 7, 11, 4, 2, 8}, {13, 7, 0, 9, 3, 4, 6, 10, 2, 8, 5, 14, 12, 11, 15, 1}, {13, 6, 4, 9, 8, 15, 3, 0, 11, 1, 2, 12, 5, 10, 14, 7}, {1, 10, 13, 0, 6, 9, 8, 7, 4, 15, 14, 3, 11, 5, 2, 12}},
	{{7, 13, 14, 3, 0, 6, 9, 10, 1, 2, 8, 5, 11, 12, 4, 15}, {13, 8, 11, 5, 6, 15, 0, 3, 4, 7, 2, 12, 1, 10, 14, 9}, {10, 6, 9, 0, 12, 11, 7, 13, 15, 1, 3, 14, 5, 2, 8, 4}, {3, 15, 0, 6, 10, 1, 13, 8, 9, 4, 5, 11, 12, 7, 2, 14}},
	{{2, 12, 4, 1, 7, 10, 11, 6, 8, 5, 3, 15, 13, 0, 14, 9}, {14, 11, 2, 12, 4, 7, 13, 1, 5, 0, 15, 10, 3, 9, 8, 6}, {4, 2, 1, 11, 10, 13, 7, 8, 15, 9, 12, 5, 6, 3, 0, 14}, {11, 8, 12, 7, 1, 14, 2, 13, 6, 15, 0, 9, 10, 4, 5, 3}},
	{{12, 1, 10, 15, 9, 2, 6, 8, 0, 13, 3, 4, 14, 7, 5, 11}, {10, 15, 4, 2, 7, 12, 9, 5, 6, 1, 13, 14, 0, 11, 3, 8}, {9, 14, 15, 5, 2, 8, 12, 3, 7, 0, 4, 10, 1, 13, 11, 6}, {4, 3, 2, 12, 9, 5, 15, 10, 11, 14, 1, 7, 6, 0, 8, 13}},
	{{4, 11, 2, 14, 15, 0, 8, 13, 3, 12, 9, 7, 5, 10, 6, 1}, {13, 0, 11, 7, 4, 9, 1, 10, 14, 3, 5, 12, 2, 15, 8, 6}, {1, 4, 11, 13, 12, 3, 7, 14, 10, 15, 6, 8, 0, 5, 9, 2}, {6, 11, 13, 8, 1, 4, 10, 7, 9, 5, 0, 15, 14, 2, 3, 12}},
	{{13, 2, 8, 4, 6, 15, 11, 1, 10, 9, 3, 14, 5, 0, 12, 7}, {1, 15, 13, 8, 10, 3, 7, 4, 12, 5, 6, 11, 0, 14, 9, 2}, {7, 11, 4, 1, 9, 12, 14, 2, 0, 6, 10, 13, 15, 3, 5, 8}, {2, 1, 14, 7, 4, 10, 8, 13, 15, 12, 9, 0, 3, 5, 6, 11}},
}

// tables returns the four outputs of a box as functions of its six inputs: the outer two bits choose the row.
func tables(box int) (t [4]table) {
	for x := range 64 {
		v := boxes[box][x>>4&2|x&1][x>>1&15]
		for o := range t {
			t[o] |= table(v>>(3-o)&1) << x
		}
	}
	return t
}

// solution is a circuit for a box, with the wires of its outputs.
type solution struct {
	*circuit
	outputs [4]int
}

// cost is that of all gates.
func (s *solution) cost() (n int) {
	for _, g := range s.gates[inputs:s.n] {
		n += g.kind.cost()
	}
	return n
}

// prove holds every output against the table of the standard, for all 64 inputs.
func (s *solution) prove(box int) error {
	want := tables(box)
	for o, wire := range s.outputs {
		if s.wires[wire] != want[o] {
			return fmt.Errorf("box S%d: output %d is %016x, not %016x", box+1, o, s.wires[wire], want[o])
		}
	}
	return nil
}

func main() {
	log.SetFlags(0)
	how := flag.Duration("search", 0, "look for smaller circuits for this long")
	again := flag.Duration("order", 0, "order the gates for this long, after the search")
	seed := flag.Uint64("seed", 0, "of the search")
	dir := flag.String("dir", "internal/des", "where sbox.go and gen/circuits.txt are")
	flag.Parse()
	if err := run(*dir, *how, *again, *seed); err != nil {
		log.Fatal(err)
	}
}

func run(dir string, how, again time.Duration, seed uint64) error {
	found := dir + "/gen/circuits.txt"
	text, err := os.ReadFile(found)
	if err != nil && how == 0 {
		return err
	}
	best, err := parse(text)
	if err != nil && how == 0 {
		return err
	}
	if how > 0 {
		improve(&best, how, seed, func() error { return os.WriteFile(found, list(best), 0o644) })
	}
	if again > 0 {
		order(&best, again, seed)
		if err := os.WriteFile(found, list(best), 0o644); err != nil {
			return err
		}
	}
	code, err := generate(best)
	if err != nil {
		return err
	}
	if err := os.WriteFile(dir+"/sbox.go", code, 0o644); err != nil {
		return err
	}
	code, err = generatePair()
	if err != nil {
		return err
	}
	return os.WriteFile(dir+"/pairbox.go", code, 0o644)
}

// generate proves the circuits and gives the source that is made of them.
func generate(all [8]solution) ([]byte, error) {
	for box := range all {
		if err := all[box].prove(box); err != nil {
			return nil, err
		}
	}
	return format.Source([]byte(emit(all)))
}

// list writes circuits one gate a line: its wire, what it does, and to which wires. Wires 0 to 5 are the inputs.
func list(all [8]solution) []byte {
	var b bytes.Buffer
	for box, s := range all {
		fmt.Fprintf(&b, "S%d %d gates\n", box+1, s.n-inputs)
		for i := inputs; i < s.n; i++ {
			g := s.gates[i]
			fmt.Fprintf(&b, "%d %s %d %d\n", i, kindNames[g.kind], g.a, g.b)
		}
		fmt.Fprintf(&b, "out %d %d %d %d\n", s.outputs[0], s.outputs[1], s.outputs[2], s.outputs[3])
	}
	return b.Bytes()
}

var kindNames = [...]string{and: "and", or: "or", xor: "xor", andNot: "andnot", not: "not"}

// parse reads what list gives, and computes the tables of all wires.
func parse(text []byte) (all [8]solution, err error) {
	r := bytes.NewReader(text)
	for box := range all {
		var number, gates int
		if _, err := fmt.Fscanf(r, "S%d %d gates\n", &number, &gates); err != nil || number != box+1 {
			return all, fmt.Errorf("circuits: S%d is missing: %v", box+1, err)
		}
		c := newCircuit()
		for range gates {
			var wire int
			var name string
			var g gate
			if _, err := fmt.Fscanf(r, "%d %s %d %d\n", &wire, &name, &g.a, &g.b); err != nil || wire != c.n {
				return all, fmt.Errorf("circuits: S%d: gate %d: %v", box+1, c.n, err)
			}
			for k, n := range kindNames {
				if n == name {
					g.kind = kind(k)
				}
			}
			if g.kind == input || int(g.a) >= c.n || int(g.b) >= c.n || c.n >= maxWires {
				return all, fmt.Errorf("circuits: S%d: gate %d is none", box+1, c.n)
			}
			c.gates[c.n], c.wires[c.n] = g, g.kind.apply(c.wires[g.a], c.wires[g.b])
			c.n++
		}
		s := solution{circuit: c}
		if _, err := fmt.Fscanf(r, "out %d %d %d %d\n", &s.outputs[0], &s.outputs[1], &s.outputs[2], &s.outputs[3]); err != nil {
			return all, fmt.Errorf("circuits: S%d: outputs: %v", box+1, err)
		}
		all[box] = s
	}
	return all, nil
}
