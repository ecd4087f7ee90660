package dukpt

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"

	"github.com/latchkey-pos/latchkey/internal/des"
	"github.com/latchkey-pos/latchkey/internal/secret"
)

// DeriveBatch derives the keys of many transactions, of many terminals, and calls use for each of them, once, with its place
// in ksns and a transaction that is bound to it and ends when use returns. The order is not that of ksns: transactions of
// one terminal are taken together, in the order of their counters, and under TDES as many terminals side by side as the
// engine has lanes. All keys in between are wiped before DeriveBatch returns.
//
// It fails with [ErrKSN], before any call, when one of ksns is the zero value or of the other scheme. An error of use ends
// it and is returned. Memory grows with the number of ksns; a few thousand at a time are as good as more.
func (b *BaseKey) DeriveBatch(ksns []KSN, use func(i int, tx *HostTransaction) error) error {
	for i, k := range ksns {
		if k.Scheme() != b.family.scheme {
			return fmt.Errorf("%w: %v, number %d, is not of the scheme %v", ErrKSN, k, i, b.family.scheme)
		}
	}
	order := inOrder(ksns)
	tx := NewHostTransaction()
	defer tx.End()
	if b.family.scheme == AES {
		return b.batchAES(ksns, order, tx, use)
	}
	return b.batchTDES(ksns, order, tx, use)
}

// inOrder returns the places of ksns by terminal and counter.
func inOrder(ksns []KSN) []int {
	type entry struct {
		high, low uint64 // the KSN
		at        int
	}
	entries := make([]entry, len(ksns))
	for i, k := range ksns {
		entries[i] = entry{binary.BigEndian.Uint64(k.id.b[:]), uint64(k.id.b[8])<<40 | uint64(k.id.b[9])<<32 | uint64(k.counter), i}
	}
	slices.SortFunc(entries, func(x, y entry) int {
		if c := cmp.Compare(x.high, y.high); c != 0 {
			return c
		}
		return cmp.Compare(x.low, y.low)
	})
	order := make([]int, len(entries))
	for i, e := range entries {
		order[i] = e.at
	}
	return order
}

// batchAES walks from one transaction to the next.
func (b *BaseKey) batchAES(ksns []KSN, order []int, tx *HostTransaction, use func(int, *HostTransaction) error) error {
	p := b.NewPath()
	defer p.Wipe()
	for _, i := range order {
		if err := p.Seek(tx, ksns[i]); err != nil {
			return err
		}
		err := use(i, tx)
		tx.End()
		if err != nil {
			return err
		}
	}
	return nil
}

// batchTDES has every lane of the engine walk through the transactions of a terminal, or of a part of them.
func (b *BaseKey) batchTDES(ksns []KSN, order []int, tx *HostTransaction, use func(int, *HostTransaction) error) error {
	runs := runsOf(ksns, order)
	room := &lanes{roots: make([]tdesKey, min(len(runs), maxRoots))}
	defer room.wipe()
	for len(runs) > 0 {
		n := min(len(runs), maxRoots)
		err := b.use(&runs[0].id, func(base *prepared) { room.begin(base.tdes, runs[:n]) })
		if err != nil {
			return err
		}
		err = room.walk(b.family, ksns, runs[:n], tx, use)
		if err != nil {
			return err
		}
		runs = runs[n:]
	}
	return nil
}

// run is some transactions of one terminal, in the order of their counters.
type run struct {
	id    KeyID
	order []int
}

// runsOf parts an order at every change of terminal. Where that leaves lanes idle, long runs are parted further: the path
// to where a part begins is walked twice, which pays from eight keys on.
func runsOf(ksns []KSN, order []int) []run {
	longest := max(8, len(order)/des.Lanes)
	runs := make([]run, 0, min(len(order), maxRoots)) // of one key each at worst
	for start := 0; start < len(order); {
		end := start + 1
		for end < len(order) && end-start < longest && ksns[order[end]].id == ksns[order[start]].id {
			end++
		}
		runs = append(runs, run{ksns[order[start]].id, order[start:end]})
		start = end
	}
	return runs
}

// maxRoots is how many initial keys are computed ahead: enough for lanes that finish early to find another run.
const maxRoots = 16 * des.Lanes

// lanes is the room of a batch: initial keys, and for each lane of the engine its path.
type lanes struct {
	engine multiplier
	roots  []tdesKey
	lane   [des.Lanes]lane
	// the lanes that need a step, and what it takes
	at       [des.Lanes]int
	keys     [des.Lanes]tdesKey
	ids      [des.Lanes]KeyID
	counters [des.Lanes]uint32
}

// tdesDepth is the greatest number of one bits of a TDES counter.
const tdesDepth = 10

// lane walks one run.
type lane struct {
	run   run
	depth int
	nodes nodes
	keys  [tdesDepth + 1]tdesKey
}

// begin computes the initial keys of runs, as many at once as there are lanes.
func (l *lanes) begin(base *tdesBase, runs []run) {
	for start := 0; start < len(runs); start += des.Lanes {
		n := min(des.Lanes, len(runs)-start)
		for i := range n {
			l.ids[i] = runs[start+i].id
		}
		l.engine.initials(l.roots[start:start+n], base, l.ids[:n])
	}
}

// walk takes all lanes through runs, a step of each at a time.
func (l *lanes) walk(f family, ksns []KSN, runs []run, tx *HostTransaction, use func(int, *HostTransaction) error) error {
	begun := 0
	for {
		n := 0
		for i := range l.lane {
			w := &l.lane[i]
			for {
				if len(w.run.order) == 0 {
					if begun == len(runs) {
						break
					}
					w.begin(runs[begun], &l.roots[begun])
					begun++
				}
				ksn := ksns[w.run.order[0]]
				w.depth = w.nodes.shared(w.depth, ksn.counter)
				if w.nodes[w.depth] != ksn.counter {
					l.at[n], l.keys[n], l.ids[n] = i, w.keys[w.depth], ksn.id
					l.counters[n] = below(w.nodes[w.depth], ksn.counter)
					n++
					break
				}
				secret.Do(func() { copy(tx.s.cell.Expose(), w.keys[w.depth][:]) })
				tx.s.bind(f, ksn)
				err := use(w.run.order[0], tx)
				tx.End()
				if err != nil {
					return err
				}
				w.run.order = w.run.order[1:]
			}
		}
		if n == 0 {
			return nil
		}
		secret.Do(func() {
			l.engine.steps(l.keys[:n], l.ids[:n], l.counters[:n])
			for i := range n {
				l.lane[l.at[i]].down(&l.keys[i], l.counters[i])
			}
		})
	}
}

func (w *lane) begin(r run, root *tdesKey) {
	w.run, w.depth, w.nodes[0], w.keys[0] = r, 0, 0, *root
}

func (w *lane) down(key *tdesKey, node uint32) {
	w.depth++
	w.nodes[w.depth], w.keys[w.depth] = node, *key
}

func (l *lanes) wipe() {
	clear(l.roots)
	*l = lanes{}
	runtime.KeepAlive(l)
}
