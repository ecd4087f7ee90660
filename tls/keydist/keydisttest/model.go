package keydisttest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/keydist"
)

// Model is a store in memory that does what keydist.Store says in the plainest way. It is safe for concurrent use. The zero
// value is empty and open.
type Model struct {
	mu     sync.Mutex
	state  state
	closed bool
	// Fail, if not nil, is asked before every transaction; an error of it is what the transaction ends with.
	Fail func() error
}

var _ keydist.Store = (*Model)(nil)

// state is everything that is stored. Slices are in the order of writing.
type state struct {
	last      map[keyset.ID]dukpt.KeyID
	issued    []keydist.Issued
	certified []keydist.Certified
	leaves    []audit.Record
}

func (s *state) clone() state {
	return state{maps.Clone(s.last), slices.Clone(s.issued), slices.Clone(s.certified), slices.Clone(s.leaves)}
}

// Update implements keydist.Store.
func (m *Model) Update(ctx context.Context, f func(keydist.Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.state.clone()
	if err := m.run(ctx, &tx{state: &next, writes: true}, f); err != nil {
		return err
	}
	m.state = next
	return nil
}

// View implements keydist.Store.
func (m *Model) View(ctx context.Context, f func(keydist.Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := m.state.clone()
	return m.run(ctx, &tx{state: &next}, f)
}

func (m *Model) run(ctx context.Context, t *tx, f func(keydist.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.closed {
		return &keydist.Refusal{Code: keydist.CodeStoreUnavailable, Detail: "the store is closed"}
	}
	if m.Fail != nil {
		if err := m.Fail(); err != nil {
			return err
		}
	}
	return f(t)
}

// Check implements keydist.Store.
func (m *Model) Check(ctx context.Context) error {
	return m.View(ctx, func(keydist.Tx) error { return nil })
}

// Close implements keydist.Store. Reopen undoes it.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

// Reopen opens the model again with what it holds.
func (m *Model) Reopen() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = false
}

// Leaves returns the audit log.
func (m *Model) Leaves() []audit.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.state.leaves)
}

// IssuedAll returns everything that was given out, in its order.
func (m *Model) IssuedAll() []keydist.Issued {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.state.issued)
}

type tx struct {
	*state
	writes bool
}

var errReadOnly = errors.New("keydisttest: a view does not write")

func (t *tx) Last(set keyset.ID) (dukpt.KeyID, error) { return t.last[set], nil }

func (t *tx) SetLast(set keyset.ID, id dukpt.KeyID) error {
	if !t.writes {
		return errReadOnly
	}
	if old := t.last[set]; id.Compare(old) <= 0 {
		return fmt.Errorf("%w: %v is not above %v", keydist.ErrConflict, id, old)
	}
	if t.last == nil {
		t.last = map[keyset.ID]dukpt.KeyID{}
	}
	t.last[set] = id
	return nil
}

func (t *tx) find(set keyset.ID, id dukpt.KeyID) int {
	return slices.IndexFunc(t.issued, func(i keydist.Issued) bool { return i.KeySet == set && i.KeyID == id })
}

func (t *tx) Issue(i keydist.Issued) error {
	if !t.writes {
		return errReadOnly
	}
	if i.State != keyset.SlotPending || t.find(i.KeySet, i.KeyID) >= 0 {
		return fmt.Errorf("%w: %s %v", keydist.ErrConflict, i.KeySet, i.KeyID)
	}
	i.IssuedAt, i.SettledAt = milliseconds(i.IssuedAt), time.Time{}
	t.issued = append(t.issued, i)
	return nil
}

func (t *tx) Issued(set keyset.ID, id dukpt.KeyID) (keydist.Issued, bool, error) {
	if n := t.find(set, id); n >= 0 {
		return t.issued[n], true, nil
	}
	return keydist.Issued{}, false, nil
}

func (t *tx) Pending(terminal keyset.TerminalID, slot uint8) (out []keydist.Issued, _ error) {
	for _, i := range t.issued {
		if i.Terminal == terminal && i.Slot == slot && i.State == keyset.SlotPending {
			out = append(out, i)
		}
	}
	return out, nil
}

func (t *tx) Settle(set keyset.ID, id dukpt.KeyID, to keyset.SlotState, at time.Time) error {
	if !t.writes {
		return errReadOnly
	}
	n := t.find(set, id)
	if n < 0 {
		return fmt.Errorf("%w: %s %v was not given out", keydist.ErrConflict, set, id)
	}
	from := t.issued[n].State
	if (to != keyset.SlotActive && to != keyset.SlotRetired) || from >= to {
		return fmt.Errorf("%w: %v does not become %v", keydist.ErrConflict, from, to)
	}
	t.issued[n].State, t.issued[n].SettledAt = to, milliseconds(at)
	return nil
}

func (t *tx) Certify(c keydist.Certified) error {
	if !t.writes {
		return errReadOnly
	}
	c.IssuedAt = milliseconds(c.IssuedAt)
	t.certified = slices.DeleteFunc(t.certified, func(o keydist.Certified) bool { return o.Terminal == c.Terminal && o.SPKI == c.SPKI })
	t.certified = append(t.certified, c)
	return nil
}

func (t *tx) Certified(terminal keyset.TerminalID, spki [32]byte) (keydist.Certified, bool, error) {
	for _, c := range t.certified {
		if c.Terminal == terminal && c.SPKI == spki {
			return c, true, nil
		}
	}
	return keydist.Certified{}, false, nil
}

func (t *tx) AgreementKeys(terminal keyset.TerminalID) (n int, _ error) {
	for _, c := range t.certified {
		if c.Terminal == terminal {
			n++
		}
	}
	return n, nil
}

func (t *tx) Audit(r audit.Record) error {
	if !t.writes {
		return errReadOnly
	}
	r.Sequence = uint64(len(t.leaves)) + 1
	leaf, err := r.Encode()
	if err != nil {
		return err
	}
	if r, err = audit.ParseRecord(leaf); err != nil {
		return err
	}
	t.leaves = append(t.leaves, r)
	return nil
}

func milliseconds(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
