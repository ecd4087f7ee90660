package provision_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/audit"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// Adopt notes which keys terminals have from elsewhere.
func (k *kdh) Adopt(_ context.Context, a remote.Adoption) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return k.fail
	}
	k.adopted = append(k.adopted, a)
	return nil
}

// injectedSet has the set DATA come from elsewhere, and returns its first n key ids.
func (l *laboratory) injectedSet(n int) []dukpt.KeyID {
	l.t.Helper()
	set := l.sets["DATA"]
	set.Delivery = keyset.DeliveryNone
	ids := []dukpt.KeyID{set.FirstID}
	for len(ids) < n {
		next, ok := ids[len(ids)-1].Next()
		if !ok {
			l.t.Fatal("the set is too small")
		}
		ids = append(ids, next)
	}
	return ids
}

func injectedTerminal(id keyset.TerminalID, key dukpt.KeyID, counter uint32) provision.Registration {
	return provision.Registration{
		Terminal: id, Slots: []provision.SlotAssignment{{Slot: 1, KeySet: "DATA"}}, Endpoints: []string{"https://acquirer.example:8450"},
		Keys: []provision.InjectedKey{{Slot: 1, KeyID: key, Counter: counter}},
	}
}

// imported has a list imported that two people stand behind.
func (l *laboratory) imported(all ...provision.Registration) ([]provision.Enlisted, error) {
	l.t.Helper()
	id := l.importApproved(all...)
	return l.engine.Enlist(l.t.Context(), anna, provision.Part{Approval: id, All: all})
}

func (l *laboratory) importApproved(all ...provision.Registration) string {
	l.t.Helper()
	op := provision.Operation{Action: provision.ActionImport, Total: len(all), Parts: []provision.Digest{must[provision.Digest](l.t)(provision.PartDigest(all))}}
	id := must[*provision.Outcome](l.t)(l.engine.Do(l.t.Context(), anna, op)).Approval.ID
	must[*provision.Outcome](l.t)(l.engine.Approve(l.t.Context(), bert, id))
	return id
}

// TestImport imports terminals whose keys were injected elsewhere. Their keys are in use at once, behind the floors of the list, in the
// feed too; the same list again changes nothing, a higher counter raises, a lower one is refused.
func TestImport(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Production)
	ids := l.injectedSet(4)
	all := []provision.Registration{injectedTerminal("K-1", ids[0], 0x1F), injectedTerminal("K-2", ids[2], 0)}
	id := l.importApproved(all...)
	part := provision.Part{Approval: id, All: all}
	var leaves int
	for n := range 3 {
		for _, one := range must[[]provision.Enlisted](t)(l.engine.Enlist(t.Context(), anna, part)) {
			if one.Code != "" || one.Ticket.Len() != 0 {
				t.Fatalf("%d: %+v", n, one)
			}
		}
		row := l.row("K-1")
		k := row.Slots[0].Keys[0]
		if row.Status != keyset.StatusActive || row.Generation != 1 || k.State != keyset.SlotActive || !k.Imported || k.Floor != 31 || row.Slots[0].Wanted {
			t.Fatalf("%d: row %+v", n, row)
		}
		if got := row.Record().Slots[0]; got.Floor != 31 {
			t.Errorf("the feed says %+v", got)
		}
		if n == 0 {
			leaves = len(l.store.Leaves())
		}
	}
	if got := len(l.store.Leaves()); got != leaves {
		t.Errorf("the same list again was audited %d times", got-leaves)
	}
	about := slices.ContainsFunc(l.store.Leaves(), func(r audit.Record) bool {
		return r.Action == "terminal/import" && strings.Contains(r.Object, "floor 31") && slices.Equal(r.Approvals, []string{"ANNA", "BERT"})
	})
	if !about {
		t.Error("no record says who stands behind the floor")
	}
	if len(l.kdh.adopted) != 1 || len(l.kdh.adopted[0].Keys) != 2 {
		t.Errorf("the key-distribution host was told %+v", l.kdh.adopted)
	}
	out := must[[]provision.Enlisted](t)(l.imported(injectedTerminal("K-1", ids[0], 0x1E), injectedTerminal("K-2", ids[2], 0x10)))
	if out[0].Code != provision.CodeCounterLower || out[1].Code != "" {
		t.Errorf("a lower counter: %q, a higher one: %q", out[0].Code, out[1].Code)
	}
	if a, b := l.row("K-1"), l.row("K-2"); a.Slots[0].Keys[0].Floor != 31 || b.Slots[0].Keys[0].Floor != 16 || b.Generation != 2 {
		t.Errorf("floors %d and %d, generation %d", a.Slots[0].Keys[0].Floor, b.Slots[0].Keys[0].Floor, b.Generation)
	}
	// between the two: it was never given out, though a higher one was
	if out := must[[]provision.Enlisted](t)(l.imported(injectedTerminal("K-3", ids[1], 1))); out[0].Code != "" {
		t.Errorf("a second list between the ids of the first: %+v", out[0])
	}
}

// TestImportRefusals: what is wrong with one terminal of a list does not keep the others from it.
func TestImportRefusals(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Production)
	ids := l.injectedSet(3)
	must[[]provision.Enlisted](t)(l.imported(injectedTerminal("K-1", ids[1], 7)))
	foreign := l.sets["OTHER"].FirstID
	attested := injectedTerminal("K-5", foreign, 1)
	attested.Slots[0].KeySet = "OTHER"
	for name, c := range map[string]struct {
		r    provision.Registration
		want provision.Code
	}{
		"another set's key id":        {injectedTerminal("K-2", foreign, 1), provision.CodeKeyIDForeign},
		"another terminal's key id":   {injectedTerminal("K-3", ids[1], 9), provision.CodeKeyIDTaken},
		"the terminal with other key": {injectedTerminal("K-1", ids[0], 9), provision.CodeTerminalExists},
		"an attested set":             {attested, provision.CodeKeySetNotPermitted},
	} {
		before := l.row("K-1")
		if dry := must[[]provision.Enlisted](t)(l.engine.Enlist(t.Context(), anna, provision.Part{Dry: true, All: []provision.Registration{c.r}})); dry[0].Code != c.want {
			t.Errorf("%s: the dry run says %q, want %s", name, dry[0].Code, c.want)
		}
		if out := must[[]provision.Enlisted](t)(l.imported(c.r)); out[0].Code != c.want {
			t.Errorf("%s: %q, want %s", name, out[0].Code, c.want)
		}
		if after := l.row("K-1"); after.Generation != before.Generation {
			t.Errorf("%s has changed another row", name)
		}
	}
	for name, part := range map[string][]provision.Registration{
		"one key id twice":       {injectedTerminal("A-1", ids[2], 1), injectedTerminal("A-2", ids[2], 1)},
		"too many one-bits":      {injectedTerminal("A-1", ids[2], 0x1FFFFF)},
		"a counter out of range": {injectedTerminal("A-1", ids[2], 0xFFFFFFFF)},
		"no key for a slot": {func() provision.Registration {
			r := injectedTerminal("A-1", ids[2], 1)
			r.Keys[0].Slot = 2
			return r
		}()},
		"keys for some only": {injectedTerminal("A-1", ids[2], 1), {
			Terminal: "A-2", Slots: []provision.SlotAssignment{{Slot: 1, KeySet: "DATA"}}, Endpoints: []string{"https://acquirer.example:8450"},
		}},
	} {
		_, err := l.engine.Enlist(t.Context(), anna, provision.Part{Dry: true, All: part})
		refused(t, name, err, provision.CodeOperationMalformed)
	}
	// Leave to register is no leave to import, and the other way round.
	parts, op := listed(t, 1)
	all := []provision.Registration{injectedTerminal("K-9", ids[2], 1)}
	op.Parts = []provision.Digest{must[provision.Digest](t)(provision.PartDigest(all))}
	id := must[*provision.Outcome](t)(l.engine.Do(t.Context(), anna, op)).Approval.ID
	must[*provision.Outcome](t)(l.engine.Approve(t.Context(), bert, id))
	_, err := l.engine.Enlist(t.Context(), anna, provision.Part{Approval: id, All: all})
	refused(t, "leave to register", err, provision.CodeApprovalUnknown)
	_, err = l.engine.Enlist(t.Context(), anna, provision.Part{Approval: l.importApproved(parts[0]...), Seed: seed(1), All: parts[0]})
	refused(t, "leave to import", err, provision.CodeApprovalUnknown)
	_, err = l.engine.Enlist(t.Context(), anna, provision.Part{Approval: l.importApproved(all...), Seed: seed(1), All: all})
	refused(t, "a seed", err, provision.CodeOperationMalformed)
	changed := []provision.Registration{injectedTerminal("K-9", ids[2], 0)} // a lower floor than people have approved
	_, err = l.engine.Enlist(t.Context(), anna, provision.Part{Approval: l.importApproved(all...), All: changed})
	refused(t, "another counter than was approved", err, provision.CodeOperationMalformed)
}

// TestImportAsksTheHost: a key id that the key-distribution host gave out is refused, though the registry has forgotten it; and when
// the host does not answer, nothing is imported.
func TestImportAsksTheHost(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	host := l.withHost() // its sets are delivered by code
	d := l.enrolled("T-1")
	given := must[*remote.Delivery](t)(d.fetch(1)).KeyID
	next, _ := given.Next()
	after, _ := next.Next()
	check(t, host.Adopt(t.Context(), remote.Adoption{Tenant: tenant, KeySet: "DATA", Keys: []remote.AdoptedKey{{Terminal: "ELSEWHERE", Slot: 1, KeyID: next}}}))
	all := []provision.Registration{injectedTerminal("K-1", given, 1), injectedTerminal("K-2", next, 1), injectedTerminal("K-3", after, 1)}
	op := provision.Operation{Action: provision.ActionImport, Total: len(all), Parts: []provision.Digest{must[provision.Digest](t)(provision.PartDigest(all))}}
	id := must[*provision.Outcome](t)(l.engine.Do(t.Context(), anna, op)).Approval.ID
	out := must[[]provision.Enlisted](t)(l.engine.Enlist(t.Context(), anna, provision.Part{Approval: id, All: all}))
	if out[0].Code != provision.CodeKeyIDTaken || out[1].Code != provision.CodeDistributorRefused || !strings.Contains(out[1].Detail, "KeyIdMismatch") || out[2].Code != "" {
		t.Fatalf("%+v", out)
	}
	if got := must[*remote.Delivery](t)(d.fetch(1)).KeyID; got.Compare(after) <= 0 {
		t.Errorf("the next key that is given out is %v, and %v was imported", got, after)
	}
}
