package provision_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/feed"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

type certificate = *x509.Certificate

func pool(f *catest.Fake) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(f.Chain()[1])
	return p
}

func TestObservationsRepeat(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	d, key := l.active("T-1")
	o := feed.Observations{
		Confirmed: []feed.Confirmation{{Terminal: "T-1", Slot: 1, KeySet: "DATA", KeyID: key}},
		FirstSeen: []feed.Sighting{{Terminal: "T-1", KeySet: "DATA", KeyID: key, Time: noon.Add(time.Minute)}},
		High:      []feed.HighMark{{Terminal: "T-1", KeySet: "DATA", KeyID: key, Ordinal: 7}},
	}
	first := must[feed.ObservationsAnswer](t)(l.engine.Observe(t.Context(), decrypt, o))
	generation, audits := l.row("T-1").Generation, len(l.store.Leaves())
	o.FirstSeen[0].Time, o.High[0].Ordinal = noon.Add(time.Hour), 5 // neither later nor back
	again := must[feed.ObservationsAnswer](t)(l.engine.Observe(t.Context(), decrypt, o))
	if first != again || l.row("T-1").Generation != generation || len(l.store.Leaves()) != audits {
		t.Errorf("the same again moved the feed from %v to %v", first, again)
	}
	k := l.row("T-1").Slots[0].Keys[0]
	if !k.FirstSeen.Equal(noon.Add(time.Minute)) || k.High != 7 {
		t.Errorf("key %+v", k)
	}
	o.High[0].Ordinal = 9
	must[feed.ObservationsAnswer](t)(l.engine.Observe(t.Context(), decrypt, o))
	if k := l.row("T-1").Slots[0].Keys[0]; k.High != 9 {
		t.Errorf("key %+v", k)
	}
	check(t, d.quarantine("DATA", key))
	row := l.row("T-1")
	if row.Status != keyset.StatusQuarantined || row.StatusReason != "clone" || !d.admitted() {
		t.Errorf("row %+v", row)
	}
	check(t, d.quarantine("DATA", key))
	if l.row("T-1").Generation != row.Generation {
		t.Error("a second quarantine is a change")
	}
	if l.act(provision.ActionUnblock, "T-1").Status != keyset.StatusActive {
		t.Error("released to another status than active")
	}
}

func TestObservationsThatContradict(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	_, key := l.active("T-1")
	d2 := l.enrolled("T-2", provision.SlotAssignment{Slot: 1, KeySet: "DATA"}, provision.SlotAssignment{Slot: 2, KeySet: "OTHER"})
	pending := must[*remote.Delivery](t)(d2.fetch(2)).KeyID
	unknown := keyID(t, "123456780000ABCD")
	for name, c := range map[string]feed.Confirmation{
		"unknown terminal":        {Terminal: "T-9", Slot: 1, KeySet: "DATA", KeyID: key},
		"unknown key":             {Terminal: "T-1", Slot: 1, KeySet: "DATA", KeyID: unknown},
		"key of another terminal": {Terminal: "T-2", Slot: 1, KeySet: "DATA", KeyID: key},
		"key of another slot":     {Terminal: "T-2", Slot: 1, KeySet: "OTHER", KeyID: pending},
		"key of another set":      {Terminal: "T-2", Slot: 2, KeySet: "DATA", KeyID: pending},
	} {
		before := l.audited("observe/confirm", "REFUSED", "")
		_, err := l.engine.Observe(t.Context(), decrypt, feed.Observations{
			Confirmed: []feed.Confirmation{c},
			High:      []feed.HighMark{{Terminal: "T-1", KeySet: "DATA", KeyID: key, Ordinal: 3}},
		})
		refused(t, name, err, provision.CodeObservationRefused)
		if l.audited("observe/confirm", "REFUSED", "") != before+1 {
			t.Errorf("%s: not audited", name)
		}
	}
	if l.row("T-1").Slots[0].Keys[0].High != 3 {
		t.Error("what was good beside a contradiction is lost")
	}
	if l.row("T-2").Status != keyset.StatusPending {
		t.Error("a contradiction made a terminal active")
	}
	_, err := l.engine.Observe(t.Context(), decrypt, feed.Observations{
		FirstSeen:   []feed.Sighting{{Terminal: "T-1", KeySet: "DATA", KeyID: unknown, Time: noon}},
		High:        []feed.HighMark{{Terminal: "T-9", KeySet: "DATA", KeyID: key, Ordinal: 1}},
		Quarantined: []feed.Quarantine{{Terminal: "T-1", KeySet: "OTHER", KeyID: key, Reason: "clone", Time: noon}},
	})
	check(t, err) // nobody waits for these
	for _, action := range []string{"observe/first-seen", "observe/high", "observe/quarantine"} {
		if l.audited(action, "REFUSED", string(provision.CodeObservationRefused)) != 1 {
			t.Errorf("%s: not audited", action)
		}
	}
	if l.row("T-1").Status != keyset.StatusActive {
		t.Error("a contradiction quarantined a terminal")
	}
	_, err = l.engine.Observe(t.Context(), decrypt, feed.Observations{})
	refused(t, "nothing", err, provision.CodeObservationRefused)
}

// TestConfirmedTooLate confirms keys of terminals that were cut off, and keys that were retired.
func TestConfirmedTooLate(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	d := l.enrolled("T-1")
	first := must[*remote.Delivery](t)(d.fetch(1)).KeyID
	second := must[*remote.Delivery](t)(d.fetch(1)).KeyID
	check(t, d.confirm(1, "DATA", second))
	check(t, d.confirm(1, "DATA", first)) // retired meanwhile: the feed says so
	if s := l.states("T-1", 0); s[0] != keyset.SlotRetired || s[1] != keyset.SlotActive {
		t.Errorf("states %v", s)
	}
	other := l.enrolled("T-2")
	key := must[*remote.Delivery](t)(other.fetch(1)).KeyID
	l.act(provision.ActionCompromised, "T-2")
	check(t, other.confirm(1, "DATA", key))
	if row := l.row("T-2"); row.Status != keyset.StatusCompromised || row.Slots[0].Keys[0].State != keyset.SlotPending {
		t.Errorf("row %+v", row)
	}
	blocked := l.enrolled("T-3")
	key = must[*remote.Delivery](t)(blocked.fetch(1)).KeyID
	l.act(provision.ActionBlock, "T-3")
	check(t, blocked.confirm(1, "DATA", key))
	if row := l.row("T-3"); row.Status != keyset.StatusBlocked || row.Slots[0].Keys[0].State != keyset.SlotActive {
		t.Errorf("row %+v", row)
	}
	if l.act(provision.ActionUnblock, "T-3").Status != keyset.StatusActive {
		t.Error("a terminal that was confirmed while blocked is not active after it")
	}
}

func TestWhoObserves(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	_, key := l.active("T-1")
	o := feed.Observations{Quarantined: []feed.Quarantine{{Terminal: "T-1", KeySet: "DATA", KeyID: key, Reason: "clone", Time: noon}}}
	for _, role := range identity.Roles() {
		if role == identity.Decrypt {
			continue
		}
		_, err := l.engine.Observe(t.Context(), actor(role, "X"), o)
		refused(t, string(role), err, provision.CodeRoleNotPermitted)
	}
	stranger := decrypt
	stranger.Identity.Tenant = "OTHER"
	_, err := l.engine.Observe(t.Context(), stranger, o)
	refused(t, "another tenant", err, provision.CodeTenantMismatch)
	if l.row("T-1").Status != keyset.StatusActive {
		t.Error("quarantined by somebody who may not")
	}
}
