package feed

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/planted"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

var _ tlsconf.Gate = (*Follower)(nil)

// Admit is the gate for a listener. A terminal is admitted if it is known, its status lets it connect, and the serial
// number is that of its current certificate or, until its end, of the one before. Without a sign of life from the
// authority, and when the last is too old, no terminal is. Peers of other roles are none of its business: they pass.
func (f *Follower) Admit(id identity.Identity, serial string) error {
	if id.Role != identity.Terminal || planted.On(planted.GuardFeedGate) {
		return nil
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	if err := f.fresh(); err != nil {
		return err
	}
	r, known := f.state.terminals[keyset.TerminalID(id.Name)]
	if !known || id.Tenant != string(f.options.Tenant) {
		return errors.New("feed: unknown terminal")
	}
	return f.admits(&r.Terminal, serial)
}

func (f *Follower) admits(t *keyset.Terminal, serial string) error {
	switch t.Status {
	case keyset.StatusPending, keyset.StatusActive, keyset.StatusBlocked, keyset.StatusQuarantined:
	default:
		return fmt.Errorf("feed: terminal is %v", t.Status)
	}
	switch {
	case serial == "":
	case serial == t.Serial:
		return nil
	case serial == t.PreviousSerial && f.options.Clock().Before(t.PreviousUntil):
		return nil
	}
	return errors.New("feed: not the current certificate of the terminal")
}

// Terminal returns what is known about a terminal. It is shared and not to be changed. It may be out of date: see Check.
func (f *Follower) Terminal(tenant keyset.TenantID, id keyset.TerminalID) (*keyset.Terminal, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	r, known := f.state.terminals[id]
	if !known || tenant != f.options.Tenant {
		return nil, false
	}
	return &r.Terminal, true
}

// Holder returns what is known about the terminal that has a key, as Terminal does.
func (f *Follower) Holder(tenant keyset.TenantID, set keyset.ID, id dukpt.KeyID) (*keyset.Terminal, bool) {
	f.mu.RLock()
	holder, known := f.state.holders[heldKey{set, id}]
	f.mu.RUnlock()
	if !known {
		return nil, false
	}
	return f.Terminal(tenant, holder)
}

// Terminals returns all terminals that are known, ascending by id. They are shared and not to be changed.
func (f *Follower) Terminals() []*keyset.Terminal {
	f.mu.RLock()
	defer f.mu.RUnlock()
	out := make([]*keyset.Terminal, 0, len(f.state.terminals))
	for _, r := range f.state.terminals {
		out = append(out, &r.Terminal)
	}
	slices.SortFunc(out, func(a, b *keyset.Terminal) int { return cmp.Compare(a.ID, b.ID) })
	return out
}
