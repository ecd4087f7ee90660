package terminal_test

import (
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
	"github.com/latchkey-pos/latchkey/terminal/terminaltest"
	"github.com/latchkey-pos/latchkey/tls/enroll"
	"github.com/latchkey-pos/latchkey/tls/trustlist"
)

// TestRenew renews over the network: the next connection to the host shows the new certificate, and a restart too.
func TestRenew(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	host := terminaltest.NewAcquirer(t, lab)
	ra.Endpoints(host.URL)
	medium := terminaltest.NewFS()
	check(t, enrolInto(t.Context(), medium, options(t, ra)))
	term := open(t, medium, nil)
	_, err := term.SignIn(t.Context())
	check(t, err)
	first := ra.Serial()
	if host.Last() != first {
		t.Errorf("the host sees %s, want %s", host.Last(), first)
	}
	due := term.Status().RenewAfter
	if term.RenewDue(due.Add(-time.Second)) || !term.RenewDue(due) {
		t.Errorf("due before %v, or not then", due)
	}
	ra.RenewAfter(due.Add(time.Hour))
	check(t, term.Renew(t.Context()))
	ra.Retire()
	if s := term.Status(); ra.Serial() == first || s.Serial != ra.Serial() || !s.RenewAfter.Equal(due.Add(time.Hour)) {
		t.Errorf("status %+v, want serial %s", s, ra.Serial())
	}
	if term.RenewDue(due) {
		t.Error("due again at once")
	}
	sell(t, lab, term)
	if host.Last() != ra.Serial() {
		t.Errorf("the host sees %s, want the new certificate %s", host.Last(), ra.Serial())
	}
	check(t, term.Close())
	term = open(t, medium, nil)
	sell(t, lab, term)
	if host.Last() != ra.Serial() {
		t.Errorf("after a restart the host sees %s, want %s", host.Last(), ra.Serial())
	}
	check(t, term.Renew(t.Context()))
}

// TestRenewMoves follows the acquirer to another address.
func TestRenewMoves(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.TDES)
	ra := terminaltest.NewRA(t, lab)
	ra.Endpoints("https://127.0.0.1:1")
	medium := terminaltest.NewFS()
	check(t, enrolInto(t.Context(), medium, options(t, ra)))
	term := open(t, medium, nil)
	host := terminaltest.NewAcquirer(t, lab)
	ra.Endpoints(host.URL)
	check(t, term.Renew(t.Context()))
	r, err := term.SignIn(t.Context())
	check(t, err)
	if r.Result != message.SignedIn || term.Status().Endpoints[0].URL != host.URL {
		t.Errorf("%v at %v", r.Result, term.Status().Endpoints)
	}
}

// TestRenewTrust takes a later trust list with a renewal, and neither an older one nor one by a stranger.
func TestRenewTrust(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	medium := enrolled(t, lab, ra)
	first := ra.List()
	term := open(t, medium, &terminaltest.Wire{Host: lab.Host})
	ra.Publish(t, func(l *trustlist.List) {})
	check(t, term.Renew(t.Context()))
	if v := term.Status().TrustList; v != 2 {
		t.Errorf("trust list %d, want 2", v)
	}
	other := terminaltest.NewLab(t, dukpt.AES)
	before, serial := medium.Content(), ra.Serial()
	for what, document := range map[string][]byte{"older": first, "a stranger's": terminaltest.NewRA(t, other).List()} {
		ra.Republish(document)
		if err := term.Renew(t.Context()); !errors.Is(err, trustlist.ErrTrust) {
			t.Errorf("%s list: %v, want ErrTrust", what, err)
		}
	}
	same(t, before, medium)
	if ra.Serial() != serial {
		t.Error("a certificate was issued all the same")
	}
}

// TestRenewRoots lets the services authority be replaced: the list that names the new one comes over plain HTTP, because
// the old list does not lead to the authority any more.
func TestRenewRoots(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	medium := enrolled(t, lab, ra)
	term := open(t, medium, &terminaltest.Wire{Host: lab.Host})
	ra.MoveServices(t, func(l *trustlist.List, root *x509.Certificate) {
		l.Services = []*x509.Certificate{root}
	})
	check(t, term.Renew(t.Context()))
	if v := term.Status().TrustList; v != 2 {
		t.Errorf("trust list %d, want 2", v)
	}
	check(t, term.Close())
	check(t, open(t, medium, &terminaltest.Wire{Host: lab.Host}).Renew(t.Context()))
}

func TestRenewRefused(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	bundled := open(t, imported(t, lab), &terminaltest.Wire{Host: lab.Host})
	for name, do := range map[string]func() error{
		"renew": func() error { return bundled.Renew(t.Context()) }, "rekey": func() error { return bundled.Rekey(t.Context()) },
	} {
		if err := do(); !errors.Is(err, terminal.ErrNotEnrolled) {
			t.Errorf("%s of a terminal from a bundle: %v, want ErrNotEnrolled", name, err)
		}
	}
	if s := bundled.Status(); bundled.RenewDue(time.Now().Add(1e6*time.Hour)) || s.TrustList != 0 || !s.RenewAfter.IsZero() {
		t.Errorf("a terminal from a bundle is to be renewed: %+v", s)
	}
	ra := terminaltest.NewRA(t, lab)
	medium := enrolled(t, lab, ra)
	term := open(t, medium, &terminaltest.Wire{Host: lab.Host})
	serial := ra.Serial()
	ra.Refuse = func(path string) *enroll.Refusal {
		return &enroll.Refusal{Status: 503, Code: "Busy", Message: "later", RetryAfter: time.Minute}
	}
	err := term.Renew(t.Context())
	if r, ok := errors.AsType[*enroll.Refusal](err); !ok || r.RetryAfter != time.Minute {
		t.Errorf("a busy authority: %v, want its refusal", err)
	}
	ra.Refuse = nil
	sell(t, lab, term)
	if term.Status().Serial != serial {
		t.Error("the certificate has changed")
	}
	check(t, term.Close())
	if err := term.Renew(t.Context()); !errors.Is(err, terminal.ErrClosed) || term.RenewDue(time.Now().Add(1e6*time.Hour)) {
		t.Errorf("Renew after Close: %v, want ErrClosed", err)
	}
}

// TestRenewKeepsTheOld does not use a new certificate that the authority does not let in, and takes another one next time.
func TestRenewKeepsTheOld(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	medium := enrolled(t, lab, ra)
	term := open(t, medium, &terminaltest.Wire{Host: lab.Host})
	first := ra.Serial()
	ra.Refuse = func(path string) *enroll.Refusal {
		if path == terminaltest.PathAssignment {
			return &enroll.Refusal{Status: http.StatusForbidden, Code: "NotCurrent", Message: "who?"}
		}
		return nil
	}
	if err := term.Renew(t.Context()); err == nil {
		t.Error("a certificate that is not let in is used")
	}
	if err := term.Renew(t.Context()); err == nil {
		t.Error("it is used after all")
	}
	if n := ra.Renewals(); n != 1 {
		t.Errorf("%d keys came for one renewal", n)
	}
	second := ra.Serial()
	if s := term.Status(); s.Serial != first || second == first || !term.RenewDue(time.Now()) {
		t.Errorf("serial %s of %s and %s, due %v", s.Serial, first, second, term.RenewDue(time.Now()))
	}
	check(t, term.Close())
	ra.Refuse = nil
	term = open(t, medium, &terminaltest.Wire{Host: lab.Host})
	if !term.RenewDue(time.Now()) {
		t.Error("after a restart nobody knows of the renewal")
	}
	check(t, term.Renew(t.Context()))
	if s := term.Status(); s.Serial != second || term.RenewDue(time.Now()) {
		t.Errorf("serial %s, want %s, which waited", s.Serial, second)
	}
}

// TestRenewRestored renews anew when the authority has come back from before the renewal.
func TestRenewRestored(t *testing.T) {
	t.Parallel()
	lab := terminaltest.NewLab(t, dukpt.AES)
	ra := terminaltest.NewRA(t, lab)
	medium := enrolled(t, lab, ra)
	term := open(t, medium, &terminaltest.Wire{Host: lab.Host})
	ra.After = func(path string) error {
		if path == terminaltest.PathAssignment {
			return terminaltest.ErrLost
		}
		return nil
	}
	if err := term.Renew(t.Context()); err == nil {
		t.Fatal("a lost answer is no error")
	}
	ra.After = nil
	ra.Restore()
	check(t, term.Renew(t.Context()))
	if s := term.Status(); s.Serial != ra.Serial() || ra.Renewals() != 2 {
		t.Errorf("serial %s, want %s; %d keys came", s.Serial, ra.Serial(), ra.Renewals())
	}
	check(t, term.Renew(t.Context()))
}

// TestRenewPowerCuts cuts the power at every write of a renewal: the terminal works, and the renewal comes to its end.
func TestRenewPowerCuts(t *testing.T) {
	t.Parallel()
	cuts := 0
	for at := 0; ; at++ {
		r := rand.New(rand.NewPCG(uint64(at), 4))
		lab := terminaltest.NewLab(t, schemes[at%2])
		ra := terminaltest.NewRA(t, lab)
		medium := enrolled(t, lab, ra)
		first := ra.Serial()
		wire := &terminaltest.Wire{Host: lab.Host}
		term := open(t, medium, wire)
		ra.Publish(t, func(*trustlist.List) {})
		medium.CutAfter(at)
		err := term.Renew(t.Context())
		if err == nil {
			break
		}
		if !errors.Is(err, terminaltest.ErrPower) {
			t.Fatalf("cut at write %d: %v", at, err)
		}
		cuts++
		medium = medium.Reboot(r)
		term = open(t, medium, wire)
		sell(t, lab, term)
		renewals := 1
		if term.Status().Serial != first { // the renewal was over but for what it leaves; this is the next one
			renewals = 2
		}
		check(t, term.Renew(t.Context()))
		ra.Retire()
		if n := ra.Renewals(); n != renewals {
			t.Fatalf("cut at write %d: %d keys came for %d renewals", at, n, renewals)
		}
		if s := term.Status(); s.Serial != ra.Serial() || s.TrustList != 2 || term.RenewDue(time.Now()) {
			t.Fatalf("cut at write %d: status %+v, want serial %s", at, s, ra.Serial())
		}
		check(t, term.Close())
		term = open(t, medium, wire)
		sell(t, lab, term)
		check(t, term.Renew(t.Context()))
		for name := range medium.Content() {
			if strings.HasPrefix(name, "identity-next") {
				t.Fatalf("cut at write %d: %s is left", at, name)
			}
		}
	}
	t.Logf("%d power cuts", cuts)
	if cuts < 15 {
		t.Errorf("only %d power cuts", cuts)
	}
}
