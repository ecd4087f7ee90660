package provision_test

import (
	"crypto/x509"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// try does something that must be refused, and demands that it is audited.
func (l *laboratory) try(what string, who provision.Actor, op provision.Operation, want provision.Code) {
	l.t.Helper()
	before := l.audited("", "REFUSED", string(want))
	_, err := l.engine.Do(l.t.Context(), who, op)
	refused(l.t, what, err, want)
	if l.audited("", "REFUSED", string(want)) != before+1 {
		l.t.Errorf("%s: not audited", what)
	}
}

func op(action provision.Action, id keyset.TerminalID) provision.Operation {
	return provision.Operation{Action: action, Terminal: id}
}

// TestStatusRules walks every action from every status.
func TestStatusRules(t *testing.T) {
	t.Parallel()
	const (
		pending, active, blocked, quarantined = keyset.StatusPending, keyset.StatusActive, keyset.StatusBlocked, keyset.StatusQuarantined
		compromised, revoked, retired         = keyset.StatusCompromised, keyset.StatusRevoked, keyset.StatusRetired
	)
	type outcome struct {
		to   keyset.Status
		code provision.Code
	}
	to := func(s keyset.Status) outcome { return outcome{to: s} }
	no := outcome{code: provision.CodeStatusNotPermitted}
	same := outcome{code: provision.CodeStatusUnchanged}
	rules := map[keyset.Status]map[provision.Action]outcome{
		pending:     {"block": to(blocked), "unblock": same, "compromised": to(compromised), "revoke": to(revoked), "retire": to(retired), "code": to(pending), "rekey": to(pending)},
		active:      {"block": to(blocked), "unblock": same, "compromised": to(compromised), "revoke": to(revoked), "retire": to(retired), "code": to(active), "rekey": to(active)},
		blocked:     {"block": same, "unblock": to(active), "compromised": to(compromised), "revoke": to(revoked), "retire": to(retired), "code": to(blocked), "rekey": to(blocked)},
		quarantined: {"block": no, "unblock": to(active), "compromised": to(compromised), "revoke": to(revoked), "retire": to(retired), "code": to(quarantined), "rekey": to(quarantined)},
		compromised: {"block": no, "unblock": no, "compromised": same, "revoke": no, "retire": no, "code": no, "rekey": no},
		revoked:     {"block": no, "unblock": no, "compromised": to(compromised), "revoke": same, "retire": no, "code": no, "rekey": no},
		retired:     {"block": no, "unblock": no, "compromised": to(compromised), "revoke": to(revoked), "retire": same, "code": no, "rekey": no},
	}
	l := newLaboratory(t, keyset.Test)
	n := 0
	for from, actions := range rules {
		for action, want := range actions {
			n++
			id := keyset.TerminalID("T-" + strings.Repeat("X", n%20) + "-" + string(rune('A'+n/20)))
			l.bring(id, from)
			before := l.row(id)
			out, err := l.engine.Do(t.Context(), anna, op(action, id))
			if want.code != "" {
				refused(t, from.String()+" "+string(action), err, want.code)
				if row := l.row(id); row.Status != from || row.Generation != before.Generation {
					t.Errorf("%v %s: refused, and it is %v", from, action, row.Status)
				}
				continue
			}
			check(t, err)
			out.Ticket.Wipe()
			if row := l.row(id); row.Status != want.to || out.Terminal.Status != want.to {
				t.Errorf("%v %s: %v, want %v", from, action, row.Status, want.to)
			}
		}
	}
}

// bring registers a terminal and brings it into a status.
func (l *laboratory) bring(id keyset.TerminalID, s keyset.Status) {
	l.t.Helper()
	if s == keyset.StatusPending {
		l.register(id)
		return
	}
	d, key := l.active(id)
	switch s {
	case keyset.StatusBlocked:
		l.act(provision.ActionBlock, id)
	case keyset.StatusQuarantined:
		check(l.t, d.quarantine("DATA", key))
	case keyset.StatusCompromised:
		l.act(provision.ActionCompromised, id)
	case keyset.StatusRevoked:
		l.act(provision.ActionRevoke, id)
	case keyset.StatusRetired:
		l.act(provision.ActionRetire, id)
	}
	if got := l.row(id).Status; got != s {
		l.t.Fatalf("terminal %s is %v, want %v", id, got, s)
	}
}

// TestCutOff revokes at once, at the issuer and for connections, also when the issuer is away.
func TestCutOff(t *testing.T) {
	t.Parallel()
	for action, reason := range map[provision.Action]int{
		provision.ActionRevoke: 9, provision.ActionCompromised: 1, provision.ActionRetire: 5,
	} {
		l := newLaboratory(t, keyset.Test)
		d, _ := l.active("T-1")
		old := d.serial()
		for range 2 {
			d.chain = must[[]certificate](t)(d.renew(newKey(t)))
		}
		l.clock.forward(16 * time.Minute) // the same agreement key gets a new certificate
		check(t, d.agree(d.agreement))
		away := errors.New("issuer away")
		l.terminals.fail.Store(&away)
		told := l.changes.Load()
		l.act(action, "T-1")
		if l.admits("T-1", old) || d.admitted() || l.changes.Load() != told+1 {
			t.Errorf("%s: still admitted, or nobody was told", action)
		}
		l.sweep()
		if l.terminals.revocation(old) != 0 {
			t.Fatal("the issuer was away")
		}
		l.terminals.fail.Store(nil)
		l.clock.forward(time.Minute)
		l.start() // the outbox is durable
		l.sweep()
		if l.terminals.revocation(old) != reason || l.terminals.revocation(d.serial()) != reason {
			t.Errorf("%s: revoked for %d and %d, want %d", action, l.terminals.revocation(old), l.terminals.revocation(d.serial()), reason)
		}
		all := append(l.certificates("T-1", identity.Terminal), l.certificates("T-1", identity.Agreement)...)
		if len(all) != 5 {
			t.Errorf("%s: %d certificates, want 3 and 2 of the agreement key", action, len(all))
		}
		listed, _, err := l.engine.Certificates(t.Context(), "T-1", "", provision.MaxListed)
		check(t, err)
		for _, i := range listed {
			if i.State != provision.CertificateRevoked {
				t.Errorf("%s: certificate %s of role %s is listed as %s", action, i.Serial, i.Role, i.State)
			}
		}
		crl := must[*x509.RevocationList](t)(x509.ParseRevocationList(must[[]byte](t)(l.engine.CRL(t.Context()))))
		if len(crl.RevokedCertificateEntries) != 3 {
			t.Errorf("%s: %d certificates in the revocation list, want 3", action, len(crl.RevokedCertificateEntries))
		}
		for _, c := range all {
			if c.Revoked.IsZero() || c.Reason != reason {
				t.Errorf("%s: certificate %s: revoked %v for %d", action, c.Serial, c.Revoked, c.Reason)
			}
		}
		if s := l.states("T-1", 0); s[0] != keyset.SlotActive {
			t.Errorf("%s: key is %v; nothing else is retired", action, s[0])
		}
		l.try("register again", anna, provision.Operation{
			Action: provision.ActionRegister, Terminal: "T-1", Slots: []provision.SlotAssignment{{Slot: 1, KeySet: "DATA"}},
		}, provision.CodeTerminalExists)
	}
}

func TestRegisterRefusals(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	blocked := l.set("BLOCKED", "1234567800020000", "123456780002FFFF", keyset.Test)
	blocked.State = keyset.Blocked
	none := l.set("NONE", "1234567800030000", "123456780003FFFF", keyset.Test)
	none.Delivery = keyset.DeliveryNone
	foreign := l.set("FOREIGN", "1234567800040000", "123456780004FFFF", keyset.Test)
	foreign.Tenant = "OTHER"
	l.sets["BLOCKED"], l.sets["NONE"], l.sets["FOREIGN"] = blocked, none, foreign
	l.sets["PRODUCTION"] = l.set("PRODUCTION", "1234567800050000", "123456780005FFFF", keyset.Production)
	l.register("T-1")
	one := func(set keyset.ID) []provision.SlotAssignment {
		return []provision.SlotAssignment{{Slot: 1, KeySet: set}}
	}
	for name, tc := range map[string]struct {
		op   provision.Operation
		want provision.Code
	}{
		"twice":                   {provision.Operation{Terminal: "T-1", Slots: one("DATA")}, provision.CodeTerminalExists},
		"no slots":                {provision.Operation{Terminal: "T-2"}, provision.CodeOperationMalformed},
		"slot 0":                  {provision.Operation{Terminal: "T-2", Slots: []provision.SlotAssignment{{KeySet: "DATA"}}}, provision.CodeOperationMalformed},
		"slot 17":                 {provision.Operation{Terminal: "T-2", Slots: []provision.SlotAssignment{{Slot: 17, KeySet: "DATA"}}}, provision.CodeOperationMalformed},
		"a slot twice":            {provision.Operation{Terminal: "T-2", Slots: append(one("DATA"), one("OTHER")...)}, provision.CodeOperationMalformed},
		"no name":                 {provision.Operation{Slots: one("DATA")}, provision.CodeOperationMalformed},
		"a name in lower case":    {provision.Operation{Terminal: "t-2", Slots: one("DATA")}, provision.CodeOperationMalformed},
		"an unknown set":          {provision.Operation{Terminal: "T-2", Slots: one("NOWHERE")}, provision.CodeKeySetUnknown},
		"a blocked set":           {provision.Operation{Terminal: "T-2", Slots: one("BLOCKED")}, provision.CodeKeySetNotPermitted},
		"a set not delivered":     {provision.Operation{Terminal: "T-2", Slots: one("NONE")}, provision.CodeKeySetNotPermitted},
		"a set of another":        {provision.Operation{Terminal: "T-2", Slots: one("FOREIGN")}, provision.CodeKeySetNotPermitted},
		"a set for production":    {provision.Operation{Terminal: "T-2", Slots: one("PRODUCTION")}, provision.CodeKeySetNotPermitted},
		"a plain endpoint":        {provision.Operation{Terminal: "T-2", Slots: one("DATA"), Endpoints: []string{"http://a.example"}}, provision.CodeOperationMalformed},
		"an endpoint twice":       {provision.Operation{Terminal: "T-2", Slots: one("DATA"), Endpoints: []string{"https://a.example", "https://a.example"}}, provision.CodeOperationMalformed},
		"too many endpoints":      {provision.Operation{Terminal: "T-2", Slots: one("DATA"), Endpoints: make([]string, 17)}, provision.CodeOperationMalformed},
		"fields of another":       {provision.Operation{Terminal: "T-2", Slots: one("DATA"), Short: true}, provision.CodeOperationMalformed},
		"a reason with a newline": {provision.Operation{Terminal: "T-2", Slots: one("DATA"), Reason: "a\nb"}, provision.CodeOperationMalformed},
		"a long reason":           {provision.Operation{Terminal: "T-2", Slots: one("DATA"), Reason: strings.Repeat("x", 201)}, provision.CodeOperationMalformed},
	} {
		tc.op.Action = provision.ActionRegister
		l.try(name, anna, tc.op, tc.want)
	}
	l.try("an unknown action", anna, op("delete", "T-1"), provision.CodeOperationMalformed)
	l.try("an unknown terminal", anna, op(provision.ActionBlock, "T-9"), provision.CodeTerminalUnknown)
	l.try("a code for an unknown terminal", anna, op(provision.ActionCode, "T-9"), provision.CodeTerminalUnknown)
	for _, lifetime := range []time.Duration{time.Second, -time.Minute, 25 * time.Hour, time.Minute + time.Millisecond} {
		o := op(provision.ActionCode, "T-1")
		o.Lifetime = lifetime
		l.try(lifetime.String(), anna, o, provision.CodeOperationMalformed)
	}
	l.trustError = errors.New("no such file: /srv/trust")
	l.try("a code without a trust list", anna, op(provision.ActionCode, "T-1"), provision.CodeTrustListUnavailable)
	if all, _, err := l.engine.Terminals(t.Context(), "", 10); err != nil || len(all) != 1 {
		t.Errorf("%d terminals, want 1", len(all))
	}
}

func TestWhoOperates(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.register("T-1")
	for _, role := range identity.Roles() {
		who := actor(role, "X")
		if role != identity.Operator {
			l.try(string(role), who, op(provision.ActionBlock, "T-1"), provision.CodeRoleNotPermitted)
			_, err := l.engine.Approve(t.Context(), who, strings.Repeat("0", 26))
			refused(t, string(role), err, provision.CodeRoleNotPermitted)
		}
		if got, want := l.engine.MayRead(who) == nil, role == identity.Operator || role == identity.Auditor; got != want {
			t.Errorf("%s may read: %t, want %t", role, got, want)
		}
		if got, want := l.engine.MayFollow(who) == nil, role == identity.Decrypt || role == identity.AcquirerHost; got != want {
			t.Errorf("%s may follow: %t, want %t", role, got, want)
		}
	}
	stranger := anna
	stranger.Identity.Tenant = "OTHER"
	l.try("another tenant", stranger, op(provision.ActionBlock, "T-1"), provision.CodeTenantMismatch)
	refused(t, "another tenant", l.engine.MayRead(stranger), provision.CodeTenantMismatch)
	if l.row("T-1").Status != keyset.StatusPending {
		t.Error("blocked by somebody who may not")
	}
}

// TestDeny audits who was refused what.
func TestDeny(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	stranger := anna
	stranger.Identity.Tenant = "OTHER"
	for _, tc := range []struct {
		who  provision.Actor
		want provision.Code
	}{{actor(identity.AcquirerHost, "HOST-1"), provision.CodeRoleNotPermitted}, {stranger, provision.CodeTenantMismatch}} {
		err := l.engine.Deny(t.Context(), tc.who, "read/terminals")
		refusal := refused(t, tc.who.Identity.Name, err, tc.want)
		if r := l.lastAudit(); r.Action != "read/terminals" || r.Actor != tc.who.Identity.Name || r.Role != string(tc.who.Identity.Role) ||
			r.Source != tc.who.Source || r.Result != "REFUSED" || r.Reason != string(tc.want) || refusal.Status() != 403 {
			t.Errorf("audit record %+v", r)
		}
	}
	l.store.Fail = func() error { return errors.New("the disk is gone") }
	refused(t, "when it cannot be audited", l.engine.Deny(t.Context(), stranger, "read/terminals"), provision.CodeStoreUnavailable)
}

// TestAuditedOperations says of a rekey which slots, and of a drain which messages, when it is filed, done and refused.
func TestAuditedOperations(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Production)
	d := l.enrolled("T-1", provision.SlotAssignment{Slot: 1, KeySet: "DATA"}, provision.SlotAssignment{Slot: 3, KeySet: "DATA"})
	key := must[*remote.Delivery](t)(d.fetch(1)).KeyID
	grant := provision.Operation{
		Action: provision.ActionDrain, Terminal: "T-1", Slot: 1, KeyID: key, First: 2, Last: 10, Count: 3, Until: noon.Add(time.Hour), Reason: "till 4",
	}
	about := "T-1/1/" + key.String() + " ordinals 2 to 10, 3 messages, until 2026-03-01T13:00:00Z"
	_, err := l.engine.Do(t.Context(), anna, grant)
	refused(t, "not blocked", err, provision.CodeStatusNotPermitted)
	if r := l.lastAudit(); r.Object != about || r.Result != "REFUSED" {
		t.Errorf("audit record %+v", r)
	}
	l.act(provision.ActionBlock, "T-1")
	for _, tc := range []struct {
		op   provision.Operation
		want string
	}{
		{grant, about},
		{provision.Operation{Action: provision.ActionRekey, Terminal: "T-1"}, "T-1 slots 1=DATA 3=DATA"},
		{provision.Operation{Action: provision.ActionRekey, Terminal: "T-1", Slot: 3}, "T-1 slots 3=DATA"},
		{provision.Operation{Action: provision.ActionRekey, Terminal: "T-1", Slots: []provision.SlotAssignment{{Slot: 2, KeySet: "OTHER"}}}, "T-1 slots 2=OTHER"},
		{provision.Operation{Action: provision.ActionUnblock, Terminal: "T-1"}, "T-1"},
	} {
		out := must[*provision.Outcome](t)(l.engine.Do(t.Context(), anna, tc.op))
		if r := l.lastAudit(); r.Object != tc.want || r.Result != "FILED" {
			t.Errorf("audit record %+v, want %s", r, tc.want)
		}
		must[*provision.Outcome](t)(l.engine.Approve(t.Context(), bert, out.Approval.ID))
		if r := l.lastAudit(); r.Object != tc.want || r.Result != "DONE" || r.Reason != tc.op.Reason {
			t.Errorf("audit record %+v, want %s", r, tc.want)
		}
	}
	l.try("an unknown slot", anna, provision.Operation{Action: provision.ActionRekey, Terminal: "T-1", Slot: 9}, provision.CodeSlotUnknown)
	if r := l.lastAudit(); r.Object != "T-1 slots 9" {
		t.Errorf("audit record %+v", r)
	}
}

func TestDrainGrants(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	d, key := l.active("T-1")
	grant := provision.Operation{
		Action: provision.ActionDrain, Terminal: "T-1", Slot: 1, KeyID: key, First: 1, Last: 10, Count: 3, Until: noon.Add(time.Hour),
	}
	l.try("an active terminal", anna, grant, provision.CodeStatusNotPermitted)
	l.act(provision.ActionBlock, "T-1")
	change := func(f func(*provision.Operation)) provision.Operation { o := grant; f(&o); return o }
	for name, tc := range map[string]struct {
		op   provision.Operation
		want provision.Code
	}{
		"no slot":          {change(func(o *provision.Operation) { o.Slot = 0 }), provision.CodeOperationMalformed},
		"no key":           {change(func(o *provision.Operation) { o.KeyID = keyID(t, "0000000000000000") }), provision.CodeKeyUnknown},
		"another slot":     {change(func(o *provision.Operation) { o.Slot = 2 }), provision.CodeKeyUnknown},
		"ordinal 0":        {change(func(o *provision.Operation) { o.First = 0 }), provision.CodeOperationMalformed},
		"backwards":        {change(func(o *provision.Operation) { o.First, o.Last = 9, 8 }), provision.CodeOperationMalformed},
		"too many":         {change(func(o *provision.Operation) { o.Count = 11 }), provision.CodeOperationMalformed},
		"none":             {change(func(o *provision.Operation) { o.Count = 0 }), provision.CodeOperationMalformed},
		"no end":           {change(func(o *provision.Operation) { o.Until = time.Time{} }), provision.CodeOperationMalformed},
		"over":             {change(func(o *provision.Operation) { o.Until = noon }), provision.CodeOperationMalformed},
		"too long":         {change(func(o *provision.Operation) { o.Until = noon.Add(32 * 24 * time.Hour) }), provision.CodeOperationMalformed},
		"parts of seconds": {change(func(o *provision.Operation) { o.Until = noon.Add(time.Millisecond) }), provision.CodeOperationMalformed},
	} {
		l.try(name, anna, tc.op, tc.want)
	}
	local := change(func(o *provision.Operation) { o.Until = o.Until.In(time.FixedZone("x", 3600)) })
	for range 16 {
		l.do(local)
	}
	row := l.row("T-1")
	if len(row.DrainGrants) != 16 || row.DrainGrants[0].Count != 3 || !row.DrainGrants[0].Until.Equal(noon.Add(time.Hour)) {
		t.Errorf("grants %+v", row.DrainGrants)
	}
	l.try("a seventeenth", anna, grant, provision.CodeOperationMalformed)
	l.clock.forward(time.Hour)
	l.do(change(func(o *provision.Operation) { o.Until = noon.Add(2 * time.Hour) }))
	if n := len(l.row("T-1").DrainGrants); n != 1 {
		t.Errorf("%d grants, those that are over included", n)
	}
	l.act(provision.ActionUnblock, "T-1")
	if n := len(l.row("T-1").DrainGrants); n != 0 {
		t.Errorf("%d grants after the block has ended", n)
	}
	_ = d
}

// TestSecondPerson goes through production: what gives something waits for somebody else.
func TestSecondPerson(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Production)
	register := provision.Operation{
		Action: provision.ActionRegister, Terminal: "T-1", Slots: []provision.SlotAssignment{{Slot: 1, KeySet: "DATA"}}, Reason: "shop 7",
	}
	out := must[*provision.Outcome](t)(l.engine.Do(t.Context(), anna, register))
	if out.Terminal != nil || out.Approval == nil || !out.Approval.Approver.IsZero() {
		t.Fatalf("outcome %+v", out)
	}
	again := must[*provision.Outcome](t)(l.engine.Do(t.Context(), anna, register))
	if again.Approval.ID != out.Approval.ID {
		t.Error("the same operation waits twice")
	}
	if _, err := l.engine.Terminal(t.Context(), "T-1"); err == nil {
		t.Error("registered by one person")
	}
	if waiting := must[[]*provision.Approval](t)(l.engine.Approvals(t.Context())); len(waiting) != 1 || waiting[0].Operation.Reason != "shop 7" {
		t.Errorf("waiting %+v", waiting)
	}
	_, err := l.engine.Approve(t.Context(), anna, out.Approval.ID)
	refused(t, "one's own", err, provision.CodeApprovalSelf)
	otherPlace := anna
	otherPlace.Source = "198.51.100.1:9"
	_, err = l.engine.Approve(t.Context(), otherPlace, out.Approval.ID)
	refused(t, "one's own from elsewhere", err, provision.CodeApprovalSelf)
	done := must[*provision.Outcome](t)(l.engine.Approve(t.Context(), bert, out.Approval.ID))
	if done.Terminal.Registrar != "ANNA" || done.Approval.Approver != bert.Identity || done.Approval.SelfApproved {
		t.Errorf("outcome %+v", done)
	}
	if r := l.lastAudit(); r.Action != "terminal/register" || r.Actor != "BERT" || strings.Join(r.Approvals, " ") != "ANNA BERT" || r.Reason != "shop 7" {
		t.Errorf("audit record %+v", r)
	}
	_, err = l.engine.Approve(t.Context(), bert, out.Approval.ID)
	refused(t, "once more", err, provision.CodeApprovalSettled)

	d := l.device("T-1")
	first := must[*provision.Outcome](t)(l.engine.Do(t.Context(), anna, op(provision.ActionCode, "T-1")))
	check(t, d.enroll(codeOf(t, first.Ticket))) // the first code needs nobody
	check(t, d.agree(newKey(t)))
	key := must[*remote.Delivery](t)(d.fetch(1)).KeyID
	check(t, d.confirm(1, "DATA", key))

	second := must[*provision.Outcome](t)(l.engine.Do(t.Context(), anna, op(provision.ActionCode, "T-1")))
	if !second.Ticket.IsZero() || second.Approval == nil {
		t.Fatal("one person hands out a code for a terminal that was enrolled")
	}
	ticket := must[*provision.Outcome](t)(l.engine.Approve(t.Context(), bert, second.Approval.ID)).Ticket
	check(t, l.device("T-1").enroll(codeOf(t, ticket)))

	for _, action := range []provision.Action{provision.ActionRekey, provision.ActionRetire} {
		if out := must[*provision.Outcome](t)(l.engine.Do(t.Context(), anna, op(action, "T-1"))); out.Terminal != nil {
			t.Errorf("%s by one person", action)
		}
	}
	if out := must[*provision.Outcome](t)(l.engine.Do(t.Context(), anna, op(provision.ActionBlock, "T-1"))); out.Terminal.Status != keyset.StatusBlocked {
		t.Error("a block waits")
	}
	grant := provision.Operation{
		Action: provision.ActionDrain, Terminal: "T-1", Slot: 1, KeyID: key, First: 1, Last: 10, Count: 3, Until: noon.Add(time.Hour),
	}
	for _, o := range []provision.Operation{op(provision.ActionUnblock, "T-1"), grant} {
		if out := must[*provision.Outcome](t)(l.engine.Do(t.Context(), anna, o)); out.Terminal != nil {
			t.Errorf("%s by one person", o.Action)
		}
	}
	if row := l.row("T-1"); row.Status != keyset.StatusBlocked || len(row.DrainGrants) != 0 || row.Slots[0].Keys[0].ID != key {
		t.Errorf("row %+v", row)
	}
	if out := must[*provision.Outcome](t)(l.engine.Do(t.Context(), anna, op(provision.ActionCompromised, "T-1"))); out.Terminal.Status != keyset.StatusCompromised {
		t.Error("compromised waits")
	}
	for _, a := range must[[]*provision.Approval](t)(l.engine.Approvals(t.Context())) {
		_, err := l.engine.Approve(t.Context(), bert, a.ID)
		refused(t, "too late: "+string(a.Operation.Action), err, provision.CodeApprovalSettled)
	}
}

// TestChangedSince has the status of a terminal change between what one person asks for and the other approves.
func TestChangedSince(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Production)
	d, key := l.active("T-1")
	ask := func(action provision.Action) string {
		t.Helper()
		return must[*provision.Outcome](t)(l.engine.Do(t.Context(), anna, op(action, "T-1"))).Approval.ID
	}
	late := func(what, id string) {
		t.Helper()
		_, err := l.engine.Approve(t.Context(), bert, id)
		refused(t, what, err, provision.CodeApprovalSettled)
		if r := l.lastAudit(); r.Action != "approve" || r.Object != id || r.Actor != "BERT" || r.Result != "REFUSED" || r.Reason != "ApprovalSettled" {
			t.Errorf("%s: audit record %+v", what, r)
		}
	}
	code, rekey := ask(provision.ActionCode), ask(provision.ActionRekey)
	l.act(provision.ActionBlock, "T-1")
	late("a code before a block", code)
	late("a rekey before a block", rekey)
	unblock := ask(provision.ActionUnblock)
	check(t, d.quarantine("DATA", key))
	late("an unblock before evidence", unblock)
	again := ask(provision.ActionUnblock)
	if again == unblock {
		t.Fatal("what nobody can approve any more waits for the operation that is asked for again")
	}
	l.clock.forward(time.Minute)
	d.chain = must[[]certificate](t)(d.renew(newKey(t))) // no change of status
	must[*provision.Outcome](t)(l.engine.Approve(t.Context(), bert, again))
	if s := l.row("T-1").Status; s != keyset.StatusActive {
		t.Errorf("unblocked, and %v", s)
	}
	l.act(provision.ActionBlock, "T-1")
	early := ask(provision.ActionRekey)
	l.clock.forward(time.Minute)
	l.act(provision.ActionUnblock, "T-1")
	l.act(provision.ActionBlock, "T-1")
	late("the same status, but of another time", early)
}

func TestApprovalsEnd(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Production)
	l.register("T-1")
	l.act(provision.ActionBlock, "T-1")
	out := must[*provision.Outcome](t)(l.engine.Do(t.Context(), anna, op(provision.ActionUnblock, "T-1")))
	l.clock.forward(24 * time.Hour)
	_, err := l.engine.Approve(t.Context(), bert, out.Approval.ID)
	refused(t, "a day later", err, provision.CodeApprovalSettled)
	if waiting := must[[]*provision.Approval](t)(l.engine.Approvals(t.Context())); len(waiting) != 0 {
		t.Errorf("waiting %+v", waiting)
	}
	for _, id := range []string{strings.Repeat("0", 26), "", "../../etc", strings.Repeat("0", 27)} {
		_, err = l.engine.Approve(t.Context(), bert, id)
		refused(t, "unknown "+id, err, provision.CodeApprovalUnknown)
	}
	l.try("what is impossible is not filed", anna, op(provision.ActionRekey, "T-9"), provision.CodeTerminalUnknown)
	if l.row("T-1").Status != keyset.StatusBlocked {
		t.Error("unblocked")
	}
}

// TestApprovedOnce has many people approve one operation at once.
func TestApprovedOnce(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Production)
	d := l.enrolled("T-1")
	_ = d
	out := must[*provision.Outcome](t)(l.engine.Do(t.Context(), anna, op(provision.ActionCode, "T-1")))
	var mu sync.Mutex
	var wg sync.WaitGroup
	tickets := 0
	for range 16 {
		wg.Go(func() {
			got, err := l.engine.Approve(t.Context(), bert, out.Approval.ID)
			mu.Lock()
			defer mu.Unlock()
			if err == nil && !got.Ticket.IsZero() {
				tickets++
				return
			}
			refused(t, "approved before", err, provision.CodeApprovalSettled)
		})
	}
	wg.Wait()
	if tickets != 1 {
		t.Errorf("%d tickets, want 1", tickets)
	}
}

func TestSelfApproved(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	out := must[*provision.Outcome](t)(l.engine.Do(t.Context(), anna, provision.Operation{
		Action: provision.ActionRegister, Terminal: "T-1", Slots: []provision.SlotAssignment{{Slot: 1, KeySet: "DATA"}},
	}))
	if out.Terminal == nil || !out.Approval.SelfApproved || out.Approval.Approver != anna.Identity {
		t.Errorf("outcome %+v", out)
	}
	if r := l.lastAudit(); r.Reason != "self-approved" || strings.Join(r.Approvals, " ") != "ANNA" {
		t.Errorf("audit record %+v", r)
	}
	reason := strings.Repeat("x", 200)
	l.do(provision.Operation{Action: provision.ActionRetire, Terminal: "T-1", Reason: reason})
	if r := l.lastAudit(); r.Reason != "self-approved: "+reason || l.row("T-1").StatusReason != reason {
		t.Errorf("audit record %+v", r)
	}
}

// TestBlockTwice says since when.
func TestBlockTwice(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.register("T-1")
	l.act(provision.ActionBlock, "T-1")
	l.clock.forward(time.Hour)
	_, err := l.engine.Do(t.Context(), anna, op(provision.ActionBlock, "T-1"))
	if text := refused(t, "again", err, provision.CodeStatusUnchanged).Problem().Message; !strings.Contains(text, "2026-03-01T12:00:00Z") {
		t.Errorf("message %q", text)
	}
}
