package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

func circuits(t *testing.T) (text []byte, all [8]solution) {
	t.Helper()
	text, err := os.ReadFile("circuits.txt")
	if err != nil {
		t.Fatal(err)
	}
	all, err = parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return text, all
}

// TestGenerated proves every circuit for all inputs, and holds sbox.go against what is made of them.
func TestGenerated(t *testing.T) {
	text, all := circuits(t)
	want, err := generate(all)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../sbox.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("sbox.go is not what the circuits give: run go generate ./internal/des")
	}
	if !bytes.Equal(list(all), text) {
		t.Error("circuits.txt is not as it is written")
	}
	gates := 0
	for _, s := range all {
		gates += s.n - inputs
	}
	t.Logf("gates: %d, %.1f a selection function", gates, float64(gates)/8)
}

// TestGeneratedPair proves the polynomial, holds pairbox.go against what is made of it, and changes each bit of it in turn:
// the proof fails.
func TestGeneratedPair(t *testing.T) {
	want, err := generatePair()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../pairbox.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("pairbox.go is not what is made of the tables: run go generate ./internal/des")
	}
	o := place()
	t.Logf("rotations: %d", o.count())
	k := o.coefficients()
	for i := range k {
		for bit := range 64 {
			k[i] ^= 1 << bit
			if o.prove(&k) == nil {
				t.Errorf("bit %d of coefficient %d does not count", bit, i)
			}
			k[i] ^= 1 << bit
		}
	}
}

// TestProofFindsEveryFault changes one gate after the other: each is either not needed for any output, or the proof fails.
func TestProofFindsEveryFault(t *testing.T) {
	text, _ := circuits(t)
	lines := strings.Split(string(text), "\n")
	found, same := 0, 0
	for i, line := range lines {
		for from, to := range map[string]string{" and ": " or ", " or ": " xor ", " xor ": " and ", " andnot ": " and "} {
			if !strings.Contains(line, from) {
				continue
			}
			changed := append([]string(nil), lines...)
			changed[i] = strings.Replace(line, from, to, 1)
			all, err := parse([]byte(strings.Join(changed, "\n")))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := generate(all); err != nil {
				found++
			} else {
				same++
			}
		}
	}
	if found < 300 || same > 25 {
		t.Errorf("%d changed gates found, %d make no difference", found, same)
	}
}

func TestParseRefuses(t *testing.T) {
	text, _ := circuits(t)
	for name, change := range map[string]func(string) string{
		"empty":           func(string) string { return "" },
		"half":            func(s string) string { return s[:len(s)/2] },
		"another box":     func(s string) string { return strings.Replace(s, "S1", "S2", 1) },
		"unknown gate":    func(s string) string { return strings.Replace(s, " xor ", " nand ", 1) },
		"wire after it":   func(s string) string { return strings.Replace(s, "\n6 xor", "\n6 xor 90", 1) },
		"wrong number":    func(s string) string { return strings.Replace(s, "\n7 ", "\n8 ", 1) },
		"outputs missing": func(s string) string { return strings.Replace(s, "out", "", 1) },
	} {
		changed := change(string(text))
		if _, err := parse([]byte(changed)); err == nil && changed != string(text) {
			t.Errorf("%s: taken", name)
		}
	}
}

// TestSearch finds a circuit from nothing, and evolves it without changing what it computes.
func TestSearch(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	s := &search{random: random, limit: 90, widths: [7]int{2, 1, 1, 1, 1, 1, 6}}
	found, ok := s.box(tables(3), random.Perm(4))
	if !ok {
		t.Fatal("no circuit for S4 within 84 gates")
	}
	if err := found.prove(3); err != nil {
		t.Fatal(err)
	}
	n := networkOf(found, random)
	cost := evolve(n, tables(3), random, 200_000)
	after := n.solution()
	if err := after.prove(3); err != nil {
		t.Fatal(err)
	}
	if after.cost() != cost || cost > found.cost() {
		t.Errorf("%d gates at a cost of %d, before %d", after.n-inputs, cost, found.n-inputs)
	}
}

// TestImprove keeps what it is given when it has no time, and writes what it finds.
func TestImprove(t *testing.T) {
	_, all := circuits(t)
	before := list(all)
	improve(&all, time.Nanosecond, 1, func() error { return nil })
	for box := range all {
		if err := all[box].prove(box); err != nil {
			t.Fatal(err)
		}
	}
	if text := list(all); len(text) > len(before)+200 {
		t.Error("the circuits have grown")
	}
}
