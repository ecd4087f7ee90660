package decrypt

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
)

// Registry is the registration authority, as far as a service has to do with it: it learns from the service what messages
// have proved, and the catalog has its terminals from it. It is safe for concurrent use.
type Registry interface {
	// Current returns nil while what the catalog says about terminals counts, and why not otherwise. It answers from memory.
	Current() error
	// Confirm tells the registry that a terminal has keys that the catalog has as pending. It returns nil once the catalog
	// shows what became of that.
	Confirm(ctx context.Context, c Confirmation) error
	// Used notes the use of a key after the claims on it are durable. It does not wait, and what is noted may come again.
	Used(u Use)
	// Suspected says that a refusal is evidence of a clone or a roll-back, after that is durable. It does not wait. What the
	// registry does not know of yet stands in the store, and after a crash nothing else says so: see Store.EachUnreported.
	Suspected(counter CounterKey)
}

// Confirmation says which keys a sign-in has proved.
type Confirmation struct {
	Tenant   keyset.TenantID
	Terminal keyset.TerminalID
	Keys     []KeyPlace // at least one, ascending by slot
}

// KeyPlace is a key of a terminal. It is comparable.
type KeyPlace struct {
	Slot   uint8
	KeySet keyset.ID
	KeyID  dukpt.KeyID
}

// Use says that a key was used.
type Use struct {
	Tenant   keyset.TenantID
	Terminal keyset.TerminalID
	Key      KeyPlace
	Ordinal  uint32    // highest that a MAC which is evidence covers, of one message; 0 when there is none
	Time     time.Time // of the claims
}

// terminalOf returns the record of a terminal, as long as the registry answers for it.
func (s *Service) terminalOf(tenant keyset.TenantID, id keyset.TerminalID) (*keyset.Terminal, error) {
	if s.registry != nil && s.registry.Current() != nil { // why is for readiness to say
		return nil, refuse(CodeRegistryStale, "terminal %s", id)
	}
	terminal, ok := s.catalog.Terminal(tenant, id)
	if !ok {
		return nil, refuse(CodeTerminalUnknown, "terminal %s", id)
	}
	return terminal, nil
}

// admitted returns the record of a terminal whose status lets a message of a type through.
func (s *Service) admitted(tenant keyset.TenantID, id keyset.TerminalID, typ message.Type) (*keyset.Terminal, error) {
	terminal, err := s.terminalOf(tenant, id)
	if err != nil {
		return nil, err
	}
	return terminal, checkStatus(terminal, typ)
}

// confirm has the registry confirm what a sign-in has proved and what waits for that, and looks at the terminal again.
func (t *transaction) confirm(ctx context.Context) error {
	c := Confirmation{Tenant: t.terminal.Tenant, Terminal: t.terminal.ID}
	for _, k := range t.order {
		if k.state == keyset.SlotPending || t.terminal.Status == keyset.StatusPending {
			c.Keys = append(c.Keys, k.at())
		}
	}
	if t.registry == nil || len(c.Keys) == 0 {
		return nil
	}
	slices.SortFunc(c.Keys, func(a, b KeyPlace) int { return int(a.Slot) - int(b.Slot) })
	if err := t.registry.Confirm(ctx, c); err != nil {
		t.log.LogAttrs(ctx, slog.LevelError, "confirmation failed", slog.String("terminal", string(c.Terminal)), slog.String("error", err.Error()))
		return refuse(CodeRegistryUnavailable, "terminal %s has signed in and is not confirmed", c.Terminal)
	}
	return t.confirmed(c)
}

// confirmed believes a confirmation when the catalog shows it, and goes on with the record that does.
func (t *transaction) confirmed(c Confirmation) error {
	terminal, err := t.admitted(c.Tenant, c.Terminal, t.m.Payload.Type)
	if err != nil {
		return err
	}
	for _, key := range c.Keys {
		slot, ok := terminal.Key(key.Slot, key.KeyID)
		switch {
		case !ok || slot.State == keyset.SlotRetired:
			return refuse(CodeSlotNotActive, "the key in slot %d was taken out while the terminal signed in", key.Slot)
		case slot.State == keyset.SlotPending:
			return refuse(CodeRegistryUnavailable, "the key in slot %d is still pending", key.Slot)
		}
	}
	t.terminal = terminal
	return nil
}

// used notes the keys of a message whose claims are durable.
func (t *transaction) used(set *ClaimSet) {
	if t.registry == nil {
		return
	}
	for _, k := range t.order {
		t.registry.Used(k.use(t.terminal, set))
	}
}

// use is what there is to note of a key of a terminal after the claims of a set.
func (k *located) use(terminal *keyset.Terminal, set *ClaimSet) Use {
	u := Use{Tenant: terminal.Tenant, Terminal: terminal.ID, Key: k.at(), Time: set.Time}
	for i := range set.Claims {
		if c := &set.Claims[i]; c.Authenticated && c.KSN == k.ksn && c.BaseKey == k.set.BaseKeyFingerprint {
			u.Ordinal = k.ksn.Ordinal()
		}
	}
	return u
}

// suspected raises the alarm about the counter that a refusal is evidence against; the zero value is none.
func (s *Service) suspected(ctx context.Context, terminal keyset.TerminalID, counter CounterKey) {
	if counter == (CounterKey{}) {
		return
	}
	s.log.LogAttrs(ctx, slog.LevelWarn, "evidence of a clone or a roll-back",
		slog.String("terminal", string(terminal)), slog.String("key-id", counter.KeyID.String()))
	if s.registry != nil {
		s.registry.Suspected(counter)
	}
}
