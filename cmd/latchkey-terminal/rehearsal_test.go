package main

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/internal/fleet"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// writeCodes writes results of a list with the ticket of one terminal.
func writeCodes(path, ticket string) error {
	r, err := fleet.Create(path, fleet.Head{Total: 1, Seed: strings.Repeat("5e", provision.SeedSize), Life: 900}, nil)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := r.Approve("A-1"); err != nil {
		return err
	}
	return r.Append([]fleet.Result{{Line: 2, Terminal: terminaltest.TerminalID, Ticket: ticket, Expires: time.Now().Add(time.Hour).Unix()}})
}

var euros = message.Currency{'E', 'U', 'R'}

// rehearse has n terminals rehearse an outage with all faults, each with an authority and a host of its own.
func rehearse(t *testing.T, seed uint64, n int) (*fleetView, []*terminaltest.Lab) {
	t.Helper()
	var members []*member
	var labs []*terminaltest.Lab
	for range n {
		lab := terminaltest.NewLab(t, dukpt.AES)
		lab.Host.Limits = &message.Limits{Count: 9, Bytes: 1 << 20, AgeSeconds: 86400, Amount: message.Amount{Minor: 10000, Currency: euros, Exponent: 2}}
		ra := terminaltest.NewRA(t, lab)
		ra.Endpoints(terminaltest.NewAcquirer(t, lab).URL)
		labs = append(labs, lab)
		members = append(members, &member{enrol: terminal.EnrolOptions{
			URL: ra.URL, TrustURL: ra.TrustURL, Tenant: terminaltest.Tenant, Terminal: terminaltest.TerminalID, Environment: keyset.Test, Ticket: ra.Ticket(t),
		}})
	}
	p := &rehearsal{
		terminals: n, sales: 4, amount: message.Amount{Minor: 100, Currency: euros, Exponent: 2}, outage: 2 * time.Second, patience: 3 * time.Minute,
		seed: seed, faults: true, network: terminal.LinkOptions{DialTimeout: time.Second, ResponseTimeout: time.Second},
	}
	said, err := p.run(t.Context(), members, newTeller(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", *said)
	return said, labs
}

// rehearsed is how many terminals take part in the tests.
func rehearsed() int {
	if os.Getenv("LATCHKEY_SOAK") != "" {
		return 300
	}
	return 16
}

// TestRehearsal has terminals go through an outage, with faults of networks, power and clocks: by what they are told, and by the
// ledgers of their hosts, each sale counts once.
func TestRehearsal(t *testing.T) {
	t.Parallel()
	said, labs := rehearse(t, 1, rehearsed())
	if err := said.verdict(); err != nil {
		t.Error(err)
	}
	if said.Sales < 2*len(labs) || said.PowerCuts < 3 || said.Clocks < 2 || said.OutageContacts < len(labs) || said.DrainContacts < len(labs)/2 {
		t.Errorf("too little has happened: %+v", *said)
	}
	booked := 0
	for i, lab := range labs {
		times := make(map[uint64]int)
		for _, e := range lab.Host.Entries() {
			booked++
			if times[e.Sequence]++; times[e.Sequence] > 1 || e.Original != nil || e.Result != message.Approved {
				t.Errorf("terminal %d: %+v", i, e)
			}
		}
		if lab.Host.Reused() != 0 {
			t.Errorf("terminal %d: %d keys served twice", i, lab.Host.Reused())
		}
	}
	if booked != said.Sales {
		t.Errorf("%d sales are booked of %d", booked, said.Sales)
	}
}

// TestVerdict: whatever is not approved once shows.
func TestVerdict(t *testing.T) {
	t.Parallel()
	good := fleetView{Terminals: 2, Sales: 6, Answered: 6}
	if err := good.verdict(); err != nil {
		t.Error(err)
	}
	for name, v := range map[string]fleetView{
		"nothing": {Terminals: 2}, "lost": {Sales: 6, Answered: 5, Lost: 1}, "twice": {Sales: 6, Answered: 5, AnsweredTwice: 1},
		"waiting": {Sales: 6, Answered: 5, Waiting: 1}, "declined": {Sales: 6, Answered: 5, Unapproved: 1}, "uncounted": {Sales: 6, Answered: 5},
	} {
		if v.verdict() == nil {
			t.Errorf("%s: that is right", name)
		}
	}
}

// TestAllowed: what the host does not allow is found before anything is sold.
func TestAllowed(t *testing.T) {
	t.Parallel()
	one := message.Amount{Minor: 100, Currency: euros, Exponent: 2}
	limit := func(count uint32, minor int64) *message.Limits {
		return &message.Limits{Count: count, Amount: message.Amount{Minor: minor, Currency: euros, Exponent: 2}}
	}
	if err := allowed(limit(3, 300), 3, one); err != nil {
		t.Error(err)
	}
	for name, l := range map[string]*message.Limits{"nothing": nil, "too few": limit(2, 300), "too little": limit(3, 299)} {
		if allowed(l, 3, one) == nil {
			t.Errorf("%s is enough", name)
		}
	}
}
