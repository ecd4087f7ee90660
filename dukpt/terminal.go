package dukpt

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/latchkey-pos/latchkey/internal/secret"
)

// MaxReserve is how many keys a terminal can hold reserved.
const MaxReserve = 32

var errSaving = errors.New("dukpt: the terminal is being saved")

// Terminal is the terminal's side of a key: the future-key registers of ANSI X9.24-1:2009, A.3 and X9.24-3:2017, 6.4.
//
// The order of use is fixed by its methods: [Terminal.Reserve] computes some keys, has the state behind them saved, and only
// then makes them available; [Terminal.Next] hands them out one by one. After a crash the saved state goes on behind the
// reserved keys, so none is ever used twice, and nothing in the state leads back to them. A Terminal is not safe for
// concurrent use.
type Terminal struct {
	_ noCopy
	registers
	spare     secret.Bytes // registers to be, while they are computed; zeros otherwise
	room      secret.Bytes // the state, while it is saved; zeros otherwise
	state     secret.Bytes // room, lent to who saves it; empty otherwise
	reserved  secret.Bytes // MaxReserve keys; those at first..first+available-1 are unspent
	counters  [MaxReserve]uint32
	first     int
	available int
	saving    bool // between Reserve or SkipTo and the end of their save
	live      *Transaction
}

// registers hold the key of every subtree of the derivation tree that no transaction has entered yet.
//
// With next as the next counter, register i holds: at the lowest one bit of next, the key of next itself; above it, where
// next has a zero, the key of the bits of next above i with bit i set, if a counter may have so many ones; elsewhere
// zeros. So each counter from next on has exactly one ancestor or itself in a register, and none before next has.
type registers struct {
	family family
	id     KeyID
	next   uint32 // 0: exhausted, all registers are zero
	cell   secret.Bytes
	work   secret.Bytes // scratch of derivations; shared by copies
}

// NewTerminal loads the registers from an initial key and wipes that key, as the standard demands. Nothing is saved yet: the
// first Reserve does that.
func NewTerminal(ik *InitialKey) (*Terminal, error) {
	if ik.key.IsZero() {
		return nil, ErrWiped
	}
	if err := ik.family.check(); err != nil {
		return nil, err
	}
	defer ik.Wipe()
	r := newRegisters(ik.family, ik.id)
	r.next = 1
	root := ik.key.Material().Expose()
	secret.Do(func() { r.family.children(r.cell.Expose(), root, r.work.Expose(), &r.id, 0) })
	return newTerminal(r), nil
}

func newTerminal(r registers) *Terminal {
	return &Terminal{
		registers: r,
		spare:     secret.New(r.cell.Len()),
		room:      secret.New(r.stateSize()),
		state:     secret.New(0),
		reserved:  secret.New(MaxReserve * r.family.size),
	}
}

// KeyID returns the name of the initial key.
func (t *Terminal) KeyID() KeyID { return t.id }

// NextKSN returns the KSN that the next key will have, reserved or not, and false when all are used.
func (t *Terminal) NextKSN() (KSN, bool) {
	if t.available > 0 {
		return KSN{id: t.id, counter: t.counters[t.first]}, true
	}
	return KSN{id: t.id, counter: t.next}, t.next != 0
}

// Available returns how many keys are reserved and not yet handed out.
func (t *Terminal) Available() int { return t.available }

// Reserve computes the next n keys, 1 to [MaxReserve] with those still available, and calls save with the state that follows
// them. They become available when save has returned nil, which it must do only when the state is durable. If save fails,
// its error is returned and nothing has changed. Near the end of the life fewer keys than asked for are reserved.
//
// The state is wiped when save returns. Inside save the terminal may be wiped, and Reserve fails then; Reserve and SkipTo are
// refused there. Reserve fails with [ErrExhausted] when no key is left.
func (t *Terminal) Reserve(n int, save func(state secret.Bytes) error) error {
	if t.saving {
		return errSaving
	}
	if n < 1 || n > MaxReserve-t.available {
		return fmt.Errorf("dukpt: cannot reserve %d keys beside %d of %d", n, t.available, MaxReserve)
	}
	if t.next == 0 {
		return ErrExhausted
	}
	if err := t.family.check(); err != nil {
		return err
	}
	t.compact()
	size := t.family.size
	fresh := t.reserved.Expose()[t.available*size:]
	saved := false
	defer func() {
		if !saved {
			secret.Wipe(fresh)
		}
	}()
	after := t.registers
	after.cell = t.spare
	copy(after.cell.Expose(), t.cell.Expose())
	taken := 0
	secret.Do(func() {
		for ; taken < n && after.next != 0; taken++ {
			t.counters[t.available+taken] = after.next
			after.take(fresh[taken*size:][:size])
		}
	})
	if err := t.commit(after, save); err != nil {
		return err
	}
	saved = true
	t.available += taken
	return nil
}

// Next binds tx to the next reserved key and wipes that key here. It fails with [ErrNotReserved] when none is reserved and
// with [ErrExhausted] when the last key is used. It panics when the transaction before has not ended.
func (t *Terminal) Next(tx *Transaction) error {
	if t.live != nil && t.live.s.live {
		panic("dukpt: Next before End of the transaction before")
	}
	tx.s.free("Next")
	if t.available == 0 && t.next == 0 {
		return ErrExhausted
	}
	if t.available == 0 {
		return ErrNotReserved
	}
	ksn, _ := t.NextKSN()
	k := t.reservedKey(t.first)
	secret.Do(func() { copy(tx.s.cell.Expose(), k) }) // by way of registers
	tx.s.bind(t.family, ksn)
	t.live = tx
	t.drop(1)
	return nil
}

// SkipTo gives up all keys before ksn, so that the next one handed out is ksn's. It is how a terminal continues where its
// host says it must, after its state came back older than it was.
//
// When ksn is among the reserved keys, those before it are wiped and the others stay; the saved state is good as it is and
// save is not called. Otherwise all reserved keys are wiped, the registers move forward, and save is called with the new
// state as by [Terminal.Reserve]; if it fails nothing has changed. It fails with [ErrKSN] when ksn belongs to another key
// or lies before [Terminal.NextKSN], and with [ErrExhausted] when no key is left.
func (t *Terminal) SkipTo(ksn KSN, save func(state secret.Bytes) error) error {
	if t.saving {
		return errSaving
	}
	current, ok := t.NextKSN()
	if !ok {
		return ErrExhausted
	}
	if ksn.KeyID() != t.id {
		return fmt.Errorf("%w: %v is not of the key %v", ErrKSN, ksn, t.id)
	}
	if ksn.Counter() < current.Counter() {
		return fmt.Errorf("%w: %v lies before %v", ErrKSN, ksn, current)
	}
	for i := range t.available {
		if t.counters[t.first+i] == ksn.Counter() {
			t.drop(i)
			return nil
		}
	}
	if err := t.family.check(); err != nil {
		return err
	}
	after := t.registers
	after.cell = t.spare
	secret.Do(func() { after.skip(&t.registers, ksn.Counter()) })
	if err := t.commit(after, save); err != nil {
		return err
	}
	t.drop(t.available)
	return nil
}

// Wipe zeroes all keys, reserved ones and that of a live transaction included. Afterwards the terminal counts as
// exhausted. It is idempotent.
func (t *Terminal) Wipe() {
	if t.live != nil {
		t.live.End()
	}
	for _, cell := range []secret.Bytes{t.cell, t.reserved, t.spare, t.room, t.work} {
		secret.Wipe(cell.Expose())
	}
	t.next, t.first, t.available, t.saving, t.live = 0, 0, 0, false, nil
}

// commit has after, which is in spare, saved and, if that works, puts it in the place of the registers. Whichever of the two
// is not wanted any more is wiped, also when save panics.
func (t *Terminal) commit(after registers, save func(state secret.Bytes) error) error {
	defer func() { secret.Wipe(t.spare.Expose()) }()
	if save == nil {
		return errors.New("dukpt: no save function given")
	}
	after.append(t.room.Expose()[:0])
	t.state.Lend(t.room.Expose())
	t.saving = true
	defer func() {
		t.state.Wipe()
		t.saving = false
	}()
	if err := save(t.state); err != nil {
		return err
	}
	if !t.saving { // wiped meanwhile: what was computed before must not come back
		return ErrWiped
	}
	t.registers, t.spare = after, t.cell
	return nil
}

// drop wipes the first n reserved keys.
func (t *Terminal) drop(n int) {
	for range n {
		secret.Wipe(t.reservedKey(t.first))
		t.first++
		t.available--
	}
}

// compact moves the reserved keys to the front and wipes the places they leave.
func (t *Terminal) compact() {
	k := t.reserved.Expose()
	size := t.family.size
	copy(k, k[t.first*size:][:t.available*size])
	copy(t.counters[:], t.counters[t.first:][:t.available])
	secret.Wipe(k[t.available*size:])
	t.first = 0
}

func (t *Terminal) reservedKey(i int) []byte {
	return t.reserved.Expose()[i*t.family.size:][:t.family.size]
}

func newRegisters(f family, id KeyID) registers {
	return registers{family: f, id: id, cell: secret.New(f.scheme.counterBits() * f.size), work: secret.New(aesScratch)}
}

// at is register i.
func (r *registers) at(i int) []byte { return r.cell.Expose()[i*r.family.size:][:r.family.size] }

// node returns the counter whose key register i holds, and 0 if it holds none.
func (r *registers) node(i int) uint32 {
	low := bits.TrailingZeros32(r.next)
	switch {
	case r.next == 0 || i < low:
		return 0
	case i == low:
		return r.next
	}
	node := r.next>>i<<i | 1<<i
	if r.next>>i&1 == 1 || !r.id.scheme.validCounter(node) {
		return 0
	}
	return node
}

// take moves the key of next to dst and goes on to the counter after it. It returns how many keys it computed. The key's
// children, if a counter may have so many ones, take the registers below, because the key that they come from is gone
// afterwards.
func (r *registers) take(dst []byte) (steps int) {
	low := bits.TrailingZeros32(r.next)
	k := r.at(low)
	copy(dst, k)
	if bits.OnesCount32(r.next) < r.id.scheme.maxOnes() {
		r.family.children(r.cell.Expose()[:low*r.family.size], k, r.work.Expose(), &r.id, r.next)
		steps = low
	}
	secret.Wipe(k)
	r.next = r.id.scheme.nextCounter(r.next)
	return steps
}

// skip makes r, which is empty, the registers as they are when to, which is valid and not before the next of before, comes
// next. Each key of the new registers comes down from the one register that holds its ancestor.
func (r *registers) skip(before *registers, to uint32) {
	r.next = to
	for i := range r.id.scheme.counterBits() {
		node := r.node(i)
		if node == 0 {
			continue
		}
		j := before.above(node)
		r.family.descend(r.at(i), before.at(j), r.work.Expose(), &r.id, before.node(j), node)
	}
}

// above returns the register that holds the key of node, which is not before next, or of its ancestor.
func (r *registers) above(node uint32) int {
	for j := range r.id.scheme.counterBits() {
		if n := r.node(j); n != 0 && n>>j == node>>j {
			return j
		}
	}
	panic("dukpt: no register leads to a counter")
}
