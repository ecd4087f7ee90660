package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
)

// InjectedKey is an initial key that a terminal has from elsewhere, and how far it was used there.
type InjectedKey struct {
	Slot    uint8
	KeyID   dukpt.KeyID
	Counter uint32 // the last one that was used, as it stands in a KSN; 0: none
}

// Ordinal is the place of the counter among the valid ones, 0 for none. An error says that no terminal gets to it.
func (k *InjectedKey) Ordinal() (uint32, error) {
	if k.KeyID.IsZero() {
		return 0, errors.New("provision: no key id")
	}
	if k.Counter == 0 {
		return 0, nil
	}
	ksn, err := k.KeyID.KSN(k.Counter)
	if err != nil {
		return 0, err
	}
	return ksn.Ordinal(), nil
}

// checkKeys wants a key for each slot, with a counter that a terminal gets to.
func (r *Registration) checkKeys() error {
	if len(r.Keys) == 0 {
		return nil
	}
	if len(r.Keys) != len(r.Slots) {
		return fmt.Errorf("%d keys for %d slots, want one for each", len(r.Keys), len(r.Slots))
	}
	for i := range r.Keys {
		k := &r.Keys[i]
		if k.Slot != r.Slots[i].Slot {
			return fmt.Errorf("there is no key for slot %d", r.Slots[i].Slot)
		}
		if _, err := k.Ordinal(); err != nil {
			return fmt.Errorf("slot %d: %w", k.Slot, err)
		}
		for _, other := range r.Keys[:i] {
			if other.KeyID == k.KeyID { // also under two base keys: messages name an original by its KSN alone
				return fmt.Errorf("slots %d and %d have key id %v", other.Slot, k.Slot, k.KeyID)
			}
		}
	}
	return nil
}

// held is a key id of a key set.
type held struct {
	set keyset.ID
	id  dukpt.KeyID
}

// imports reports whether the terminals of a part have their keys from elsewhere.
func (p *Part) imports() bool { return !p.Codes && len(p.All) > 0 && len(p.All[0].Keys) > 0 }

// action is what has to be approved for a part.
func (p *Part) action() Action {
	switch {
	case p.imports():
		return ActionImport
	case p.Codes:
		return ActionCodes
	}
	return ActionFleet
}

// checkKeyIDs refuses a key id that two terminals of a part have.
func (p *Part) checkKeyIDs() error {
	owner := make(map[held]keyset.TerminalID)
	for i := range p.All {
		r := &p.All[i]
		for n, k := range r.Keys {
			at := held{r.Slots[n].KeySet, k.KeyID}
			if other, taken := owner[at]; taken {
				return fmt.Errorf("%s and %s have key id %v", other, r.Terminal, k.KeyID)
			}
			owner[at] = r.Terminal
		}
	}
	return nil
}

// importPart imports the terminals of a part of an approved list. The key-distribution host, which gives key ids out, is asked for
// each of them before the registry has it: what it has given out, or has heard to be another terminal's, is refused. The same
// part once more changes nothing; one with higher counters, of another list, raises the floors.
func (e *Engine) importPart(ctx context.Context, actor Actor, p Part, digest Digest) ([]Enlisted, error) {
	var out []Enlisted
	var unknown []*Registration // to the registry
	err := e.view(ctx, func(tx Tx) error {
		t := &transaction{Tx: tx, engine: e, now: e.now()}
		out, unknown = nil, nil
		if _, err := t.granted(actor, &p, digest); err != nil {
			return err
		}
		for i := range p.All {
			r := &p.All[i]
			one := Enlisted{Terminal: r.Terminal}
			if err := one.refused(t.importable(r)); err != nil {
				return err
			}
			_, known, err := t.Terminal(r.Terminal)
			if err != nil {
				return err
			}
			if one.Code == "" && !known {
				unknown = append(unknown, r)
			}
			out = append(out, one)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	refusals, err := e.adopt(ctx, unknown)
	if err != nil {
		return nil, err
	}
	before := slices.Clone(out)
	err = e.update(ctx, func(t *transaction) error {
		out = slices.Clone(before)
		a, err := t.granted(actor, &p, digest)
		if err != nil {
			return err
		}
		for i := range p.All {
			r := &p.All[i]
			if out[i].Code != "" {
				continue
			}
			if refusal, ok := refusals[r.Terminal]; ok {
				out[i].Code, out[i].Detail = refusal.Code, refusal.Detail
				continue
			}
			if err := out[i].refused(t.inject(actor, a, r)); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

// importable refuses a terminal of a list that cannot be imported as the registry is now.
func (t *transaction) importable(r *Registration) error {
	row, ok, err := t.Terminal(r.Terminal)
	if err != nil {
		return err
	}
	if ok {
		_, err := raised(row, r)
		return err
	}
	for i, k := range r.Keys {
		set, err := t.importableSet(r.Slots[i].KeySet)
		if err != nil {
			return err
		}
		if !set.Contains(k.KeyID) {
			return refuse(CodeKeyIDForeign, "%v is not between %v and %v of %s", k.KeyID, set.FirstID, set.LastID, set.ID)
		}
	}
	return t.vacant(r)
}

// importableSet returns a key set whose keys terminals may have from elsewhere. Those of attested sets are in devices only that
// a maker vouches for.
func (t *transaction) importableSet(id keyset.ID) (*keyset.KeySet, error) {
	set, ok := t.engine.config.KeySets(id)
	if !ok {
		return nil, refuse(CodeKeySetUnknown, "%s", id)
	}
	c := &t.engine.config
	if set.Tenant != c.Tenant || set.Environment != c.Environment || !set.State.Permits(keyset.Process) || set.Delivery == keyset.Attested {
		return nil, refuse(CodeKeySetNotPermitted, "%s is %v, for %v, with delivery %v: keys are imported of active sets of this environment whose delivery is none or code",
			set.ID, set.State, set.Environment, set.Delivery)
	}
	return set, nil
}

// vacant refuses key ids that a terminal has. Above the highest that was ever seen of a set there is none; below, every terminal is
// looked at: the key-distribution host knows better, unless its database was restored.
func (t *transaction) vacant(r *Registration) error {
	wanted := make(map[held]bool)
	for i, k := range r.Keys {
		highest, err := t.Highest(r.Slots[i].KeySet)
		if err != nil {
			return err
		}
		if !highest.IsZero() && k.KeyID.Compare(highest) <= 0 {
			wanted[held{r.Slots[i].KeySet, k.KeyID}] = true
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	if t.holders == nil {
		t.holders = make(map[held]keyset.TerminalID)
		err := t.Terminals("", 0, func(row *Terminal) error {
			for _, s := range row.Slots {
				for _, k := range s.Keys {
					t.holders[held{k.KeySet, k.ID}] = row.ID
				}
			}
			return nil
		})
		if err != nil {
			t.holders = nil
			return err
		}
	}
	for at := range wanted {
		if other, taken := t.holders[at]; taken {
			return refuse(CodeKeyIDTaken, "%v of %s is that of %s", at.id, at.set, other)
		}
	}
	return nil
}

// adopt tells the key-distribution host of the keys of terminals, and returns which terminals it refuses, and why. It is asked for all
// of a set at once, and for one terminal after the other where it refuses that.
func (e *Engine) adopt(ctx context.Context, all []*Registration) (map[keyset.TerminalID]*Refusal, error) {
	refusals := make(map[keyset.TerminalID]*Refusal)
	for _, order := range e.adoptions(all) {
		err := e.adoptOne(ctx, order)
		if err == nil {
			continue
		}
		if codeOf(err) != CodeDistributorRefused {
			return nil, err
		}
		for _, k := range order.Keys {
			single := order
			single.Keys = []remote.AdoptedKey{k}
			switch err := e.adoptOne(ctx, single); {
			case err == nil:
			case codeOf(err) == CodeDistributorRefused:
				refusals[k.Terminal], _ = errors.AsType[*Refusal](err)
			default:
				return nil, err
			}
		}
	}
	return refusals, nil
}

func (e *Engine) adoptOne(ctx context.Context, order remote.Adoption) error {
	ctx, cancel := context.WithTimeout(ctx, issueTimeout)
	defer cancel()
	if err := e.config.Distributor.Adopt(ctx, order); err != nil {
		return distributorFailure(err)
	}
	return nil
}

// adoptions are the orders about the keys of terminals: by key set, in the order of key ids.
func (e *Engine) adoptions(all []*Registration) (out []remote.Adoption) {
	bySet := make(map[keyset.ID][]remote.AdoptedKey)
	var sets []keyset.ID
	for _, r := range all {
		for i, k := range r.Keys {
			set := r.Slots[i].KeySet
			if bySet[set] == nil {
				sets = append(sets, set)
			}
			bySet[set] = append(bySet[set], remote.AdoptedKey{Terminal: r.Terminal, Slot: k.Slot, KeyID: k.KeyID})
		}
	}
	for _, set := range sets {
		keys := bySet[set]
		slices.SortFunc(keys, func(a, b remote.AdoptedKey) int { return a.KeyID.Compare(b.KeyID) })
		for chunk := range slices.Chunk(keys, remote.MaxAdopted) {
			out = append(out, remote.Adoption{Tenant: e.config.Tenant, KeySet: set, Keys: chunk})
		}
	}
	return out
}

// inject registers a terminal with the keys that it has, or raises the floors of one that was imported before. Its keys are in use: the
// two people who stand behind the list say so, and no sign-in has to.
func (t *transaction) inject(actor Actor, a *Approval, r *Registration) error {
	if err := t.importable(r); err != nil {
		return err
	}
	p := &execution{op: r.operation(), actor: actor, approval: a}
	row, ok, err := t.Terminal(r.Terminal)
	if err != nil {
		return err
	}
	if ok {
		return t.raise(p, row, r)
	}
	if err := t.roomForTerminal(); err != nil {
		return err
	}
	row = &Terminal{
		Tenant: t.engine.config.Tenant, ID: r.Terminal, Status: keyset.StatusActive, StatusSince: t.now, Confirmed: true,
		Endpoints: slices.Clone(r.Endpoints), Registered: t.now, Registrar: a.Requester.Name, Group: r.Group, Labels: slices.Clone(r.Labels),
	}
	for i, k := range r.Keys {
		floor, err := k.Ordinal()
		if err != nil {
			return refuse(CodeOperationMalformed, "%v", err)
		}
		set := r.Slots[i].KeySet
		row.Slots = append(row.Slots, Slot{Number: k.Slot, KeySet: set, Keys: []Key{{
			ID: k.KeyID, KeySet: set, State: keyset.SlotActive, Delivered: t.now, Imported: true, Floor: floor,
		}}})
		if err := t.RaiseHighest(set, k.KeyID); err != nil {
			return err
		}
		if t.holders != nil {
			t.holders[held{set, k.KeyID}] = r.Terminal
		}
	}
	if err := t.save(row); err != nil {
		return err
	}
	return t.note(p.imported(row))
}

// raise raises the floors of a terminal that was imported before.
func (t *transaction) raise(p *execution, row *Terminal, r *Registration) error {
	t.loaded[row.ID] = row.Record()
	changed, err := raised(row, r)
	if err != nil || !changed {
		return err
	}
	if err := t.save(row); err != nil {
		return err
	}
	return t.note(p.imported(row))
}

// raised raises the floors in a row, and reports whether one has moved. It refuses a terminal that was not imported with these keys,
// and a counter that is lower than before.
func raised(row *Terminal, r *Registration) (changed bool, _ error) {
	for i, k := range r.Keys {
		slot := row.slot(k.Slot)
		if slot == nil {
			return false, refuse(CodeTerminalExists, "%s is %v, and has no slot %d", row.ID, row.Status, k.Slot)
		}
		key := slot.key(k.KeyID)
		if key == nil || !key.Imported || key.KeySet != r.Slots[i].KeySet {
			return false, refuse(CodeTerminalExists, "%s is %v, and was not imported with key id %v of %s in slot %d",
				row.ID, row.Status, k.KeyID, r.Slots[i].KeySet, k.Slot)
		}
		floor, err := k.Ordinal()
		if err != nil {
			return false, refuse(CodeOperationMalformed, "%v", err)
		}
		if floor < key.Floor {
			return false, refuse(CodeCounterLower, "%v has counter %d of its key, the list says %d", k.KeyID, key.Floor, floor)
		}
		changed = changed || floor > key.Floor
		key.Floor = floor
	}
	return changed, nil
}

// imported is the audit record of a terminal that was imported, or whose floors were raised.
func (p *execution) imported(row *Terminal) audit.Record {
	r := p.record()
	r.Action = "terminal/import"
	for _, s := range row.Slots {
		for _, k := range s.Keys {
			if k.Imported {
				r.Object += fmt.Sprintf(" %d=%s/%v floor %d", s.Number, k.KeySet, k.ID, k.Floor)
			}
		}
	}
	r.Reason = "list of approval " + p.approval.ID
	if p.approval.SelfApproved {
		r.Reason = selfApproved + ": " + r.Reason
	}
	return r
}
