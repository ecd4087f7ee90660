package decrypt_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/latchkey-pos/latchkey/decrypt"
	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
)

// office is a registration authority that tests rule. What it confirms it writes into the books.
type office struct {
	mu        sync.Mutex
	books     *books
	stale     error // why it is not current
	fault     error // why it confirms nothing
	deaf      bool  // it says that it has confirmed, and has not
	first     func()
	confirmed []decrypt.Confirmation
	uses      []decrypt.Use
	suspects  []decrypt.CounterKey
}

func (o *office) Current() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stale
}

func (o *office) Confirm(_ context.Context, c decrypt.Confirmation) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fault != nil {
		return o.fault
	}
	o.confirmed = append(o.confirmed, c)
	if o.first != nil {
		o.first()
	}
	if o.deaf {
		return nil
	}
	o.books.changeTerminal(func(t *keyset.Terminal) {
		for i, s := range t.Slots {
			if slices.Contains(c.Keys, decrypt.KeyPlace{Slot: s.Slot, KeySet: s.KeySet, KeyID: s.KeyID}) && s.State == keyset.SlotPending {
				t.Slots[i].State = keyset.SlotActive
			}
		}
		if t.Status == keyset.StatusPending {
			t.Status = keyset.StatusActive
		}
	})
	return nil
}

func (o *office) Used(u decrypt.Use) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.uses = append(o.uses, u)
}

func (o *office) Suspected(counter decrypt.CounterKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.suspects = append(o.suspects, counter)
}

// registered is a laboratory whose service has a registry.
func registered(tb testing.TB, scheme dukpt.Scheme) (*laboratory, *office) {
	tb.Helper()
	l := newLaboratory(tb, scheme)
	o := &office{books: l.books}
	l.registry = o
	l.service = l.with(l.store)
	return l, o
}
