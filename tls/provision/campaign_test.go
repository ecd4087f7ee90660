package provision_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/keydist"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

var compromise = provision.Operation{Action: provision.ActionCompromiseSet, KeySet: "DATA", Successor: "OTHER", Reason: "a custodian is gone"}

// apart gives the set OTHER a base key of its own.
func (l *laboratory) apart() {
	l.t.Helper()
	l.sets["OTHER"].BaseKeyFingerprint = must[keys.Fingerprint](l.t)(keys.ParseFingerprint("ffeeddccbbaa99887766554433221100"))
}

// progress counts the slots of a campaign.
func (l *laboratory) progress(set keyset.ID) (c *provision.Campaign, counts string) {
	l.t.Helper()
	c = must[*provision.Campaign](l.t)(l.engine.Campaign(l.t.Context(), set, "", provision.MaxListed))
	return c, fmt.Sprint(maps.Collect(maps.All(c.Slots)))
}

// TestCompromise takes a key set out of use, with a real key-distribution host: from the approval on no key of it is
// delivered, its terminals are ordered to fetch keys of the other one, and it is seen how far each is.
func TestCompromise(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.apart()
	host := l.withHost()
	first, _ := l.active("T-1")
	second, _ := l.active("T-2")
	late := l.enrolled("T-3") // it has no key yet
	l.active("T-4")
	other := l.enrolled("T-5", provision.SlotAssignment{Slot: 1, KeySet: "OTHER"})
	check(t, other.confirm(1, "OTHER", must[*remote.Delivery](t)(other.fetch(1)).KeyID))
	l.active("T-6")
	l.act(provision.ActionRevoke, "T-6")
	l.sweep()
	c, counts := l.progress("DATA")
	if c.Stopped || c.Successor != "" || c.Ordering || counts != "map[waiting:4 out:1]" || len(c.Hit) != 5 || c.Hit[2].Terminal != "T-3" {
		t.Errorf("before: %+v", c)
	}

	l.do2(compromise)
	if c, counts = l.progress("DATA"); !c.Stopped || c.Told || !c.Ordering || c.Successor != "OTHER" || c.Names[0] != "ANNA" || counts != "map[waiting:4 out:1]" {
		t.Errorf("at once: %+v", c)
	}
	refusal := refused(t, "a key before the host knows", second2(late.fetch(1)), provision.CodeDistributorRefused)
	if refusal.Detail == "" {
		t.Errorf("%v", refusal)
	}
	l.sweep()
	if c, counts = l.progress("DATA"); !c.Told || c.Ordering || counts != "map[ordered:4 out:1]" {
		t.Errorf("ordered: %+v", c)
	}
	if n := l.audited("terminal/rekey", "DONE", "key set DATA is compromised"); n != 4 {
		t.Errorf("%d orders in the audit log", n)
	}
	check(t, host.store.View(t.Context(), func(tx keydist.Tx) error {
		last, err := tx.Last("DATA")
		if err == nil && last != l.sets["DATA"].LastID {
			t.Errorf("the host goes on behind %v", last)
		}
		return err
	}))

	// The registry orders no key of the set, and nothing brings it back.
	l.try("compromised again", anna, compromise, provision.CodeCampaignExists)
	l.try("a rekey back", anna, provision.Operation{Action: provision.ActionRekey, Terminal: "T-1", Slots: []provision.SlotAssignment{{Slot: 1, KeySet: "DATA"}}}, provision.CodeKeySetNotPermitted)
	l.try("a new terminal", anna, provision.Operation{
		Action: provision.ActionRegister, Terminal: "T-9", Slots: []provision.SlotAssignment{{Slot: 1, KeySet: "DATA"}}, Endpoints: []string{"https://a.example"},
	}, provision.CodeKeySetNotPermitted)

	// One after the other they come.
	key := must[*remote.Delivery](t)(first.fetch(1)).KeyID
	if !l.sets["OTHER"].Contains(key) {
		t.Errorf("%v is no key of OTHER", key)
	}
	if _, counts = l.progress("DATA"); counts != "map[ordered:3 delivered:1 out:1]" {
		t.Errorf("one has its key: %s", counts)
	}
	check(t, first.confirm(1, "OTHER", key))
	check(t, second.confirm(1, "OTHER", must[*remote.Delivery](t)(second.fetch(1)).KeyID))
	if c, counts = l.progress("DATA"); counts != "map[ordered:2 rekeyed:2 out:1]" || c.Hit[0].Progress != provision.ProgressRekeyed || c.Hit[0].KeySet != "OTHER" {
		t.Errorf("two are done: %s %+v", counts, c.Hit)
	}
	l.clock.forward(8 * 24 * time.Hour) // the keys of before have drained
	l.sweep()
	if _, counts = l.progress("DATA"); counts != "map[ordered:2 rekeyed:2 out:1]" {
		t.Errorf("a week later: %s", counts)
	}
	// Pages.
	page := must[*provision.Campaign](t)(l.engine.Campaign(t.Context(), "DATA", "T-1", 2))
	if len(page.Hit) != 2 || page.Hit[0].Terminal != "T-2" || !page.More || page.Slots[provision.ProgressRekeyed] != 2 {
		t.Errorf("page %+v", page)
	}
	_, err := l.engine.Campaign(t.Context(), "NONE", "", 1)
	refused(t, "a set that is not there", err, provision.CodeKeySetUnknown)
}

func second2[A any](_ A, err error) error { return err }

// TestCompromiseNeedsTwo files the order in production, and refuses one that would not help.
func TestCompromiseNeedsTwo(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Production)
	l.register("T-1")
	l.try("over the same base key", anna, compromise, provision.CodeKeySetNotPermitted)
	l.apart()
	pins := *l.sets["OTHER"]
	pins.Usages = append(pins.Usages, keyset.UsagePIN)
	for name, c := range map[string]struct {
		change func(*provision.Operation)
		want   provision.Code
	}{
		"itself":            {func(o *provision.Operation) { o.Successor = "DATA" }, provision.CodeOperationMalformed},
		"no successor":      {func(o *provision.Operation) { o.Successor = "" }, provision.CodeOperationMalformed},
		"a terminal":        {func(o *provision.Operation) { o.Terminal = "T-1" }, provision.CodeOperationMalformed},
		"unknown":           {func(o *provision.Operation) { o.KeySet = "NONE" }, provision.CodeKeySetUnknown},
		"an unknown one":    {func(o *provision.Operation) { o.Successor = "NONE" }, provision.CodeKeySetUnknown},
		"for less purposes": {func(o *provision.Operation) { l.sets["DATA"].Usages = pins.Usages }, provision.CodeKeySetNotPermitted},
	} {
		o := compromise
		before := l.sets["DATA"].Usages
		c.change(&o)
		l.try(name, anna, o, c.want)
		l.sets["DATA"].Usages = before
	}
	out := must[*provision.Outcome](t)(l.engine.Do(t.Context(), anna, compromise))
	if c, _ := l.progress("DATA"); c.Stopped || out.Approval == nil {
		t.Error("one person has stopped a key set")
	}
	_, err := l.engine.Approve(t.Context(), anna, out.Approval.ID)
	refused(t, "their own", err, provision.CodeApprovalSelf)
	must[*provision.Outcome](t)(l.engine.Approve(t.Context(), bert, out.Approval.ID))
	if r := l.lastAudit(); r.Action != "key-set/compromise" || r.Object != "DATA to OTHER" || len(r.Approvals) != 2 {
		t.Errorf("audited as %+v", r)
	}
	l.sets["OTHER"].State = keyset.Blocked // somebody blocks the other one: orders wait
	l.sweep()
	if c, counts := l.progress("DATA"); !c.Ordering || counts != "map[waiting:1]" {
		t.Errorf("%+v", c)
	}
	l.sets["OTHER"].State = keyset.Active
	l.clock.forward(time.Minute)
	l.sweep()
	if c, counts := l.progress("DATA"); c.Ordering || counts != "map[ordered:1]" {
		t.Errorf("%+v", c)
	}
}

// TestSuccessor refuses to move terminals to a set over a base key that is as open as the one they leave, and to one whose keys
// they could not fetch.
func TestSuccessor(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.apart()
	third := l.set("THIRD", "1234567800020000", "123456780002FFFF", keyset.Test)
	l.sets["THIRD"] = third // over the base key of DATA
	l.do2(compromise)
	next := provision.Operation{Action: provision.ActionCompromiseSet, KeySet: "OTHER", Successor: "THIRD"}
	_, err := l.engine.Do(t.Context(), anna, next)
	if r := refused(t, "over the base key of a set that is compromised", err, provision.CodeKeySetNotPermitted); !strings.Contains(r.Detail, "DATA") {
		t.Errorf("it says %q", r.Detail)
	}
	third.BaseKeyFingerprint = must[keys.Fingerprint](t)(keys.ParseFingerprint("102132435465768798a9bacbdcedfe0f"))
	third.Algorithm = keys.AES256
	_, err = l.engine.Do(t.Context(), anna, next)
	if r := refused(t, "over another curve", err, provision.CodeKeySetNotPermitted); !strings.Contains(r.Detail, "P-521") {
		t.Errorf("it says %q", r.Detail)
	}
	third.Algorithm = keys.AES128
	l.do2(next)
}

// TestCompromiseOfMany gives the orders step by step; wherever the process dies in between, everybody gets one in the end.
func TestCompromiseOfMany(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.apart()
	const many = 450
	parts, op := listed(t, many)
	id := l.do2(op).Approval.ID
	for _, p := range parts {
		must[[]provision.Enlisted](t)(l.engine.Enlist(t.Context(), anna, provision.Part{Approval: id, Seed: seed(1), All: p}))
	}
	l.do2(compromise)
	l.kdh.failing(&kdhRefusal{unavailable: true})
	for n := range 4 { // the store takes a few transactions, and then the process is gone
		left := n + 1
		l.store.Lose = func() error {
			if left--; left < 0 {
				return &provision.Refusal{Code: provision.CodeStoreUnavailable}
			}
			return nil
		}
		_ = l.engine.Sweep(t.Context(), l.clock.time()) // it fails, as it should
		l.store.Lose = nil
		l.clock.forward(time.Minute)
		l.start()
	}
	l.kdh.failing(nil)
	l.clock.forward(10 * time.Minute)
	l.sweep()
	c, counts := l.progress("DATA")
	if counts != fmt.Sprintf("map[ordered:%d]", many) || c.Ordering || !c.Told || len(c.Hit) != many {
		t.Errorf("%s, ordering %t, told %t", counts, c.Ordering, c.Told)
	}
	if n := len(l.kdh.withdrawn); n != 1 || l.kdh.withdrawn[0].Through != l.sets["DATA"].LastID {
		t.Errorf("the host was told %d times", n)
	}
	if n := l.audited("terminal/rekey", "DONE", ""); n != many {
		t.Errorf("%d orders for %d terminals", n, many)
	}
}

// do2 is do for what leaves no terminal.
func (l *laboratory) do2(op provision.Operation) *provision.Outcome {
	l.t.Helper()
	return must[*provision.Outcome](l.t)(l.engine.Do(l.t.Context(), anna, op))
}
