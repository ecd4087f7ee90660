package provision_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

func TestTerminalsByPages(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	for _, id := range []keyset.TerminalID{"T-4", "T-1", "T-3", "T-2", "T-5"} {
		l.register(id)
	}
	for _, tc := range []struct {
		after keyset.TerminalID
		limit int
		want  string
	}{
		{"", 1000, "[T-1 T-2 T-3 T-4 T-5] false"}, {"", 2, "[T-1 T-2] true"}, {"T-2", 2, "[T-3 T-4] true"}, {"T-4", 2, "[T-5] false"},
		{"", 5, "[T-1 T-2 T-3 T-4 T-5] false"}, {"T-21", 2, "[T-3 T-4] true"}, {"Z", 1, "[] false"},
	} {
		rows, more, err := l.engine.Terminals(t.Context(), tc.after, tc.limit)
		check(t, err)
		ids := []keyset.TerminalID{}
		for _, r := range rows {
			ids = append(ids, r.ID)
		}
		if got := fmt.Sprint(ids, more); got != tc.want {
			t.Errorf("%d behind %q: %s, want %s", tc.limit, tc.after, got, tc.want)
		}
	}
	for _, limit := range []int{-1, 0, 1001} {
		_, _, err := l.engine.Terminals(t.Context(), "", limit)
		refused(t, fmt.Sprint("limit ", limit), err, provision.CodeRequestMalformed)
		_, _, err = l.engine.Certificates(t.Context(), "", "", limit)
		refused(t, fmt.Sprint("limit ", limit), err, provision.CodeRequestMalformed)
	}
	l.store.Fail = func() error { return errors.New("the disk is gone") }
	_, _, err := l.engine.Terminals(t.Context(), "", 1)
	refused(t, "without a store", err, provision.CodeStoreUnavailable)
}

// TestPagesReadPages has no page, and no step of a campaign, ask the store for the whole table: a database sends what nobody reads.
func TestPagesReadPages(t *testing.T) {
	t.Parallel()
	var c *counting
	l := newLaboratory(t, keyset.Test, func(config *provision.Config) {
		c = &counting{Store: config.Store}
		config.Store = c
	})
	l.apart()
	l.enrolled("T-1")
	l.register("T-2")
	l.do2(compromise)
	for name, do := range map[string]func() error{
		"terminals": func() error { _, _, err := l.engine.Terminals(t.Context(), "", 7); return err },
		"of a group": func() error {
			_, _, err := l.engine.Select(t.Context(), provision.Filter{Group: "N"}, "", 7)
			return err
		},
		"certificates": func() error { _, _, err := l.engine.Certificates(t.Context(), "", "", 7); return err },
		"a campaign":   func() error { return l.engine.Sweep(t.Context(), l.clock.time()) },
	} {
		c.limited()
		check(t, do())
		if got := c.limited(); len(got) == 0 || slices.Contains(got, 0) || slices.Max(got) > 4001 {
			t.Errorf("%s: the store is asked for %v rows", name, got)
		}
	}
}

func TestCertificatesByPages(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	d := l.enrolled("T-1")
	first, agreement := d.serial(), identity.Serial(d.agreed[0])
	other := l.enrolled("T-2").serial()
	d.chain = must[[]certificate](t)(d.renew(newKey(t)))
	second := d.serial()
	d.chain = must[[]certificate](t)(d.renew(newKey(t)))
	third := d.serial()
	l.act(provision.ActionRevoke, "T-2")
	states := func(of keyset.TerminalID, after string, limit int) (out []string, more bool) {
		t.Helper()
		all, more, err := l.engine.Certificates(t.Context(), of, after, limit)
		check(t, err)
		for _, c := range all {
			if full := l.certificate(c).Issuance(); c.State == "" || full.Issued != c.Issued || full.NotAfter != c.NotAfter || full.Revoked != c.Revoked {
				t.Errorf("listed as %+v, and it is %+v", c, full)
			}
			if c.Terminal == "T-1" || c.Role == identity.Terminal {
				out = append(out, c.Serial+" "+string(c.State))
			}
		}
		return out, more
	}
	want := []string{third + " current", second + " previous", agreement + " current", first + " replaced"}
	got, more := states("T-1", "", provision.MaxListed)
	if !slices.Equal(got, want) || more {
		t.Errorf("of one terminal: %v, want %v", got, want)
	}
	got, more = states("T-1", second, 1)
	if !slices.Equal(got, want[2:3]) || !more {
		t.Errorf("one behind the second: %v", got)
	}
	got, more = states("T-1", agreement, 1)
	if !slices.Equal(got, want[3:]) || more {
		t.Errorf("the last one: %v, more %t", got, more)
	}
	if got, more := states("T-1", first, 1); len(got) != 0 || more {
		t.Errorf("behind the last one: %v, more %t", got, more)
	}
	if got, _ := states("", second, 2); !slices.Equal(got, []string{other + " revoked"}) { // and the agreement certificate of T-2
		t.Errorf("of all terminals: %v", got)
	}
	if got, _ := states("T-9", "", 9); len(got) != 0 {
		t.Errorf("of nobody: %v", got)
	}
	_, _, err := l.engine.Certificates(t.Context(), "", "00", 9)
	refused(t, "behind a serial number that is not there", err, provision.CodeRequestMalformed)
}
