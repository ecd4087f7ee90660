package provision_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// listed makes a list of n terminals, and the operation that it needs.
func listed(t *testing.T, n int) ([][]provision.Registration, provision.Operation) {
	t.Helper()
	var all []provision.Registration
	for i := range n {
		all = append(all, provision.Registration{
			Terminal: keyset.TerminalID(fmt.Sprintf("F-%04d", i)), Slots: []provision.SlotAssignment{{Slot: 1, KeySet: "DATA"}},
			Endpoints: []string{"https://acquirer.example:8450"}, Group: "NORTH",
			Labels: []provision.Label{{Key: "model", Value: "P2"}, {Key: "shop", Value: fmt.Sprint(i % 3)}},
		})
	}
	op := provision.Operation{Action: provision.ActionFleet, Total: n, Lifetime: time.Hour}
	parts := slices.Collect(slices.Chunk(all, provision.MaxPart))
	for _, p := range parts {
		op.Parts = append(op.Parts, must[provision.Digest](t)(provision.PartDigest(p)))
	}
	return parts, op
}

func seed(n byte) secret.Bytes { return secret.From(bytes.Repeat([]byte{n}, provision.SeedSize)) }

// TestFleet registers a list that two people stand behind, part by part. A part that is sent again, as after an answer that
// was lost, gives the same codes.
func TestFleet(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Production)
	parts, op := listed(t, provision.MaxPart+20)
	for _, one := range parts[0][:2] { // the dry run finds who is there
		l.register(one.Terminal)
	}
	dry := must[[]provision.Enlisted](t)(l.engine.Enlist(t.Context(), anna, provision.Part{Dry: true, All: parts[0]}))
	for i, one := range dry {
		if (one.Code == provision.CodeTerminalExists) != (i < 2) || one.Ticket.Len() != 0 {
			t.Errorf("%s: %q", one.Terminal, one.Code)
		}
	}
	out := must[*provision.Outcome](t)(l.engine.Do(t.Context(), anna, op))
	id := out.Approval.ID
	enlist := func(by provision.Actor, s byte, part []provision.Registration) ([]provision.Enlisted, error) {
		return l.engine.Enlist(t.Context(), by, provision.Part{Approval: id, Seed: seed(s), All: part})
	}
	_, err := enlist(anna, 1, parts[0])
	refused(t, "a list that waits", err, provision.CodeApprovalWaits)
	approved := must[*provision.Outcome](t)(l.engine.Approve(t.Context(), bert, id))
	if approved.Approval.Approver != bert.Identity || approved.Terminal != nil {
		t.Errorf("approved: %+v", approved)
	}
	_, err = enlist(bert, 1, parts[0])
	refused(t, "another person", err, provision.CodeRoleNotPermitted)
	_, err = enlist(actor(identity.Auditor, "AUDITOR"), 1, parts[0])
	refused(t, "an auditor", err, provision.CodeRoleNotPermitted)
	_, err = enlist(anna, 1, parts[0][:5])
	refused(t, "a part that is not of the list", err, provision.CodeOperationMalformed)
	changed := slices.Clone(parts[0])
	changed[7].Group = "SOUTH"
	_, err = enlist(anna, 1, changed)
	refused(t, "a part that was changed", err, provision.CodeOperationMalformed)

	first := must[[]provision.Enlisted](t)(enlist(anna, 1, parts[0]))
	again := must[[]provision.Enlisted](t)(enlist(anna, 1, parts[0]))
	codes := map[string]bool{}
	for i := range first {
		if !first[i].Ticket.Equal(again[i].Ticket) || first[i].Code != again[i].Code || !first[i].Expires.Equal(again[i].Expires) {
			t.Fatalf("%s: another answer", first[i].Terminal)
		}
		if (first[i].Code == provision.CodeTerminalExists) != (i < 2) {
			t.Errorf("%s: %q", first[i].Terminal, first[i].Code)
		}
		codes[string(first[i].Ticket.Expose())] = true
	}
	if n := len(codes); n != provision.MaxPart-2+1 { // those that are there have none
		t.Errorf("%d codes", n)
	}
	repeated := fmt.Sprintf("%d codes of approval %s handed out again", provision.MaxPart-2, id)
	if n := l.audited("terminal/register-fleet", "REPEATED", repeated); n != 1 || l.audited("", "REPEATED", "") != 1 {
		t.Errorf("%d records say that codes were handed out again", n)
	}
	other := must[[]provision.Enlisted](t)(enlist(anna, 2, parts[0]))
	if other[5].Code != provision.CodeTerminalExists || other[5].Ticket.Len() != 0 {
		t.Errorf("with another seed: %+v", other[5])
	}
	row := l.row(first[9].Terminal)
	if row.Group != "NORTH" || len(row.Labels) != 2 || row.Registrar != "ANNA" {
		t.Errorf("kept as %+v", row)
	}
	if n := l.audited("terminal/register", "DONE", "list of approval "+id); n != provision.MaxPart-2 {
		t.Errorf("%d registrations in the audit log", n)
	}

	// The codes are good, for their terminals.
	code := codeOf(t, first[9].Ticket)
	if l.device(first[8].Terminal).enroll(code) == nil {
		t.Error("a code of another terminal is taken")
	}
	check(t, l.device(first[9].Terminal).enroll(code))
	after := must[[]provision.Enlisted](t)(enlist(anna, 1, parts[0]))
	if after[9].Code != provision.CodeOneTimeCodeSpent || after[9].Ticket.Len() != 0 || after[10].Code != "" {
		t.Errorf("after an enrolment: %+v", after[9])
	}
	l.clock.forward(time.Hour)
	after = must[[]provision.Enlisted](t)(enlist(anna, 1, parts[0]))
	if after[10].Code != provision.CodeOneTimeCodeExpired || after[10].Ticket.Len() != 0 {
		t.Errorf("an hour later: %+v", after[10])
	}
	l.clock.forward(7 * 24 * time.Hour)
	_, err = enlist(anna, 1, parts[1])
	refused(t, "a week later", err, provision.CodeApprovalSettled)
}

// TestFleetOfOnePerson registers a list in a test environment, where somebody approves their own. What is wrong with one
// terminal is no matter to the others.
func TestFleetOfOnePerson(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	parts, op := listed(t, 3)
	parts[0][1].Slots[0].KeySet = "NONE"
	op.Parts[0], op.Short = must[provision.Digest](t)(provision.PartDigest(parts[0])), true
	out := must[*provision.Outcome](t)(l.engine.Do(t.Context(), anna, op))
	if !out.Approval.SelfApproved {
		t.Fatalf("%+v", out.Approval)
	}
	p := provision.Part{Approval: out.Approval.ID, Seed: seed(1), All: parts[0]}
	all := must[[]provision.Enlisted](t)(l.engine.Enlist(t.Context(), anna, p))
	if all[0].Code != "" || all[1].Code != provision.CodeKeySetUnknown || all[2].Code != "" {
		t.Errorf("%+v", all)
	}
	if n := codeOf(t, all[0].Ticket).Len(); n != 13 {
		t.Errorf("a short code of %d characters", n)
	}
	_, err := l.engine.Terminal(t.Context(), parts[0][1].Terminal)
	refused(t, "the one that was wrong", err, provision.CodeTerminalUnknown)
	l.store.Fail = func() error { return &provision.Refusal{Code: provision.CodeStoreFull} }
	_, err = l.engine.Enlist(t.Context(), anna, p)
	refused(t, "a full disk", err, provision.CodeStoreFull)
}

// TestFleetMalformed asks for lists and parts that are none.
func TestFleetMalformed(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	parts, op := listed(t, 3)
	for name, change := range map[string]func(*provision.Operation){
		"no terminals": func(o *provision.Operation) { o.Total = 0 },
		"no parts":     func(o *provision.Operation) { o.Parts = nil },
		"too many":     func(o *provision.Operation) { o.Total = provision.MaxPart + 1 },
		"too few":      func(o *provision.Operation) { o.Parts = make([]provision.Digest, 4) },
		"uneven parts": func(o *provision.Operation) { o.Total, o.Parts = 300, make([]provision.Digest, 3) },
		"a terminal":   func(o *provision.Operation) { o.Terminal = "T-1" },
		"a group":      func(o *provision.Operation) { o.Group = "G" },
		"a long life":  func(o *provision.Operation) { o.Lifetime = 25 * time.Hour },
		"far too many": func(o *provision.Operation) { o.Total, o.Parts = provision.MaxFleet+1, make([]provision.Digest, 401) },
		"no terminal":  func(o *provision.Operation) { *o = provision.Operation{Action: provision.ActionLabel, Group: "G"} },
		"a small group": func(o *provision.Operation) {
			*o = provision.Operation{Action: provision.ActionLabel, Terminal: "T", Group: "g"}
		},
	} {
		o := op
		change(&o)
		_, err := l.engine.Do(t.Context(), anna, o)
		refused(t, name, err, provision.CodeOperationMalformed)
	}
	id := must[*provision.Outcome](t)(l.engine.Do(t.Context(), anna, op)).Approval.ID
	for name, p := range map[string]provision.Part{
		"no seed":     {Approval: id, All: parts[0]},
		"no approval": {Seed: seed(1), All: parts[0]},
		"nobody":      {Approval: id, Seed: seed(1)},
		"twice":       {Dry: true, All: append(slices.Clone(parts[0]), parts[0][0])},
		"no slot":     {Dry: true, All: []provision.Registration{{Terminal: "T-1"}}},
	} {
		_, err := l.engine.Enlist(t.Context(), anna, p)
		refused(t, name, err, provision.CodeOperationMalformed)
	}
	few := op
	few.Total = 2 // people read that there are two terminals
	id = must[*provision.Outcome](t)(l.engine.Do(t.Context(), anna, few)).Approval.ID
	_, err := l.engine.Enlist(t.Context(), anna, provision.Part{Approval: id, Seed: seed(1), All: parts[0]})
	refused(t, "more than the total says", err, provision.CodeOperationMalformed)
	_, err = l.engine.Enlist(t.Context(), anna, provision.Part{Approval: string(bytes.Repeat([]byte("0"), 26)), Seed: seed(1), All: parts[0]})
	refused(t, "an approval that is none", err, provision.CodeApprovalUnknown)
}

// TestLabels puts terminals into groups, and finds them again.
func TestLabels(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	for i := range 5 {
		l.register(keyset.TerminalID(fmt.Sprint("T-", i)), provision.SlotAssignment{Slot: 1, KeySet: []keyset.ID{"DATA", "OTHER"}[i%2]})
	}
	mark := func(id keyset.TerminalID, group provision.Group, labels ...provision.Label) {
		before := l.row(id).Generation
		row := must[*provision.Outcome](t)(l.engine.Do(t.Context(), anna, provision.Operation{
			Action: provision.ActionLabel, Terminal: id, Group: group, Labels: labels,
		})).Terminal
		if row.Group != group || row.Generation != before {
			t.Errorf("%s: %q, generation %d after %d", id, row.Group, row.Generation, before)
		}
	}
	city, model := provision.Label{Key: "city", Value: "Graz"}, provision.Label{Key: "model", Value: "P 2"}
	mark("T-1", "NORTH", city)
	mark("T-2", "NORTH", city, model)
	mark("T-3", "SOUTH", city)
	mark("T-3", "")
	for name, c := range map[string]struct {
		f    provision.Filter
		want string
	}{
		"all":        {provision.Filter{}, "[T-0 T-1 T-2 T-3 T-4]"},
		"group":      {provision.Filter{Group: "NORTH"}, "[T-1 T-2]"},
		"no group":   {provision.Filter{Group: "SOUTH"}, "[]"},
		"label":      {provision.Filter{Labels: []provision.Label{city}}, "[T-1 T-2]"},
		"two labels": {provision.Filter{Labels: []provision.Label{model, city}}, "[T-2]"},
		"set":        {provision.Filter{KeySet: "OTHER"}, "[T-1 T-3]"},
		"both":       {provision.Filter{KeySet: "OTHER", Group: "NORTH"}, "[T-1]"},
	} {
		var got []keyset.TerminalID
		for after, more := keyset.TerminalID(""), true; more; {
			page, m, err := l.engine.Select(t.Context(), c.f, after, 1)
			check(t, err)
			for _, row := range page {
				got, after = append(got, row.ID), row.ID
			}
			more = m
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v, want %s", name, got, c.want)
		}
	}
	for _, bad := range []string{"", "x", "=v", "k=", "K=v", "k=v ", "k= v", "k=a,b", "k=a;b", "k=\x7f", "k=ä"} {
		if label, err := provision.ParseLabel(bad); err == nil {
			t.Errorf("%q is read as %v", bad, label)
		}
	}
	if got, err := provision.SortLabels([]provision.Label{model, city}); err != nil || got[0] != city {
		t.Errorf("sorted: %v, %v", got, err)
	}
	if _, err := provision.SortLabels([]provision.Label{city, city}); err == nil {
		t.Error("a label twice")
	}
}
