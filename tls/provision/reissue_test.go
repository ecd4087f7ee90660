package provision_test

import (
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// named is a part with names, and the operation that it needs.
func named(t *testing.T, ids ...keyset.TerminalID) ([]provision.Registration, provision.Operation) {
	t.Helper()
	var all []provision.Registration
	for _, id := range ids {
		all = append(all, provision.Registration{Terminal: id})
	}
	d := must[provision.Digest](t)(provision.PartDigest(all))
	return all, provision.Operation{Action: provision.ActionCodes, Total: len(all), Lifetime: time.Hour, Parts: []provision.Digest{d}}
}

// TestReissue hands out codes for a list of terminals that are registered: the ones before are void, the same part gives the same
// codes, and a code that somebody has made since stays.
func TestReissue(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Production)
	for _, id := range []keyset.TerminalID{"T-1", "T-2", "T-3", "T-4"} {
		l.register(id)
	}
	before := l.code("T-1")
	must[*provision.Outcome](t)(l.engine.Do(t.Context(), anna, provision.Operation{Action: provision.ActionRevoke, Terminal: "T-3"}))
	all, op := named(t, "T-1", "T-2", "T-3", "T-4", "T-9")
	dry := must[[]provision.Enlisted](t)(l.engine.Enlist(t.Context(), anna, provision.Part{Dry: true, Codes: true, All: all}))
	for i, want := range []provision.Code{"", "", provision.CodeStatusNotPermitted, "", provision.CodeTerminalUnknown} {
		if dry[i].Code != want {
			t.Errorf("%s: the dry run says %q, want %q", dry[i].Terminal, dry[i].Code, want)
		}
	}
	id := must[*provision.Outcome](t)(l.engine.Do(t.Context(), anna, op)).Approval.ID
	part := provision.Part{Approval: id, Codes: true, Seed: seed(1), All: all}
	_, err := l.engine.Enlist(t.Context(), anna, part)
	refused(t, "a list that waits", err, provision.CodeApprovalWaits)
	must[*provision.Outcome](t)(l.engine.Approve(t.Context(), bert, id))
	first := must[[]provision.Enlisted](t)(l.engine.Enlist(t.Context(), anna, part))
	if err := l.device("T-1").enroll(before); err == nil {
		t.Error("the code before is good")
	}
	if err := l.device("T-1").enroll(codeOf(t, first[0].Ticket)); err != nil {
		t.Errorf("the new code: %v", err)
	}
	l.clock.forward(time.Minute)
	newer := l.code("T-4")
	again := must[[]provision.Enlisted](t)(l.engine.Enlist(t.Context(), anna, part))
	if !again[1].Ticket.Equal(first[1].Ticket) || again[0].Code != provision.CodeOneTimeCodeSpent || again[3].Code != provision.CodeOneTimeCodeVoid {
		t.Errorf("again: %+v", again)
	}
	if err := l.device("T-4").enroll(newer); err != nil {
		t.Errorf("the list has voided a code that is newer: %v", err)
	}
	for i, want := range map[int]provision.Code{2: provision.CodeStatusNotPermitted, 4: provision.CodeTerminalUnknown} {
		if first[i].Code != want || first[i].Ticket.Len() != 0 {
			t.Errorf("%+v, want %s", first[i], want)
		}
	}
	part.Codes = false
	_, err = l.engine.Enlist(t.Context(), anna, part)
	refused(t, "names that are to be registered", err, provision.CodeOperationMalformed)
	parts, _ := listed(t, 1)
	_, err = l.engine.Enlist(t.Context(), anna, provision.Part{Approval: id, Codes: true, Seed: seed(1), All: parts[0]})
	refused(t, "more than names", err, provision.CodeOperationMalformed)
}
