package main

import (
	"log"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"
)

// breadths are how many inputs are tried for a split at each depth, in turn: broad at the top is better, and slower.
var breadths = [][7]int{{6, 4, 2, 1, 1, 1, 6}, {6, 3, 2, 2, 1, 1, 6}, {6, 2, 2, 2, 1, 1, 6}, {4, 3, 2, 1, 1, 1, 6}, {3, 2, 2, 1, 1, 1, 6}}

// improve looks for smaller circuits until the time is over, and has every one that it finds kept.
func improve(best *[8]solution, how time.Duration, seed uint64, keep func() error) {
	end := time.Now().Add(how)
	var mu sync.Mutex
	var all sync.WaitGroup
	for worker := range uint64(runtime.GOMAXPROCS(0)) {
		all.Go(func() {
			for try := uint64(0); time.Now().Before(end); try++ {
				box := int(try % 8)
				random := rand.New(rand.NewPCG(seed, try<<8|worker))
				mu.Lock()
				known := best[box]
				mu.Unlock()
				s := attempt(known, box, random)
				mu.Lock()
				if s.circuit != nil && s.prove(box) == nil && (known.circuit == nil || s.cost() <= best[box].cost()) {
					if known.circuit == nil || s.cost() < best[box].cost() {
						log.Printf("S%d: %d gates, %d instructions", box+1, s.n-inputs, s.cost())
					}
					best[box] = s
					if complete(best) {
						if err := keep(); err != nil {
							log.Print(err)
						}
					}
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
}

// attempt makes a new circuit, or changes the known one, whichever chance says.
func attempt(known solution, box int, random *rand.Rand) solution {
	limit := 80
	if known.circuit != nil {
		limit = known.n + 2
		if random.IntN(3) == 0 {
			n := networkOf(known, random)
			evolve(n, tables(box), random, 10_000_000)
			return n.solution()
		}
	}
	s := &search{random: random, limit: limit, widths: breadths[random.IntN(len(breadths))]}
	found, ok := s.box(tables(box), random.Perm(4))
	if !ok {
		return solution{}
	}
	n := networkOf(found, random)
	evolve(n, tables(box), random, 3_000_000)
	return n.solution()
}

func complete(all *[8]solution) bool {
	for _, s := range all {
		if s.circuit == nil {
			return false
		}
	}
	return true
}
