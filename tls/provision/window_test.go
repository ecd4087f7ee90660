package provision_test

import (
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// TestWindow tells terminals when to renew: by their group, and anew after a change, without another certificate.
func TestWindow(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test, func(c *provision.Config) {
		c.Renewal, c.Renewals = provision.Window{After: 40, Before: 60}, map[provision.Group]provision.Window{"NORTH": {After: 10, Before: 20}}
	})
	d := l.enrolled("T-1")
	expect := func(what string, after, before time.Duration) {
		t.Helper()
		a := must[*remote.Assignment](t)(l.engine.Assignment(t.Context(), d.caller()))
		from, life := d.chain[0].NotBefore, d.chain[0].NotAfter.Sub(d.chain[0].NotBefore)
		if got := a.RenewAfter.Sub(from.Add(life * after / 100)).Abs(); got > time.Second {
			t.Errorf("%s: it begins at %v", what, a.RenewAfter)
		}
		if got := a.RenewBefore.Sub(from.Add(life * before / 100)).Abs(); got > time.Second {
			t.Errorf("%s: it ends at %v", what, a.RenewBefore)
		}
	}
	expect("of all", 40, 60)
	l.do(provision.Operation{Action: provision.ActionLabel, Terminal: "T-1", Group: "NORTH"})
	expect("of a group", 10, 20)
	l.do(provision.Operation{Action: provision.ActionLabel, Terminal: "T-1", Group: "SOUTH"})
	expect("of a group without one", 40, 60)
	l.config.Renewal = provision.Window{}
	l.start()
	expect("when nothing is said", 50, 75)
	for _, bad := range []provision.Window{{}, {After: 0, Before: 50}, {After: 50, Before: 50}, {After: 60, Before: 50}, {After: 50, Before: 96}} {
		for _, change := range []func(*provision.Config){
			func(c *provision.Config) {
				c.Renewal, c.Renewals = provision.Window{After: 50, Before: 75}, map[provision.Group]provision.Window{"NORTH": bad}
			},
			func(c *provision.Config) { c.Renewal = bad },
		} {
			c := l.config
			change(&c)
			_, err := provision.New(t.Context(), c)
			if err == nil && c.Renewal != (provision.Window{}) {
				t.Errorf("%+v is taken", bad)
			}
		}
	}
}
