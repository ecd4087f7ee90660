package provision_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

func TestRenewal(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	d := l.enrolled("T-1")
	old := d.serial()
	l.clock.forward(time.Hour)
	key := newKey(t)
	chain, err := d.renew(key)
	check(t, err)
	renewed := identity.Serial(chain[0])
	row := l.row("T-1")
	if row.Serial != renewed || row.PreviousSerial != old || !row.PreviousUntil.Equal(l.clock.time().Add(24*time.Hour)) {
		t.Errorf("row %+v", row)
	}
	if !l.admits("T-1", old) || !l.admits("T-1", renewed) || l.changes.Load() != 0 {
		t.Error("one of two overlapping certificates is not admitted")
	}
	again, err := d.renew(key) // the answer was lost
	check(t, err)
	if !again[0].Equal(chain[0]) || l.audited("renew", "REPEATED", "") != 1 {
		t.Error("the same key got another certificate over the one before")
	}
	_, err = d.renew(newKey(t))
	refused(t, "another key over the certificate before", err, provision.CodeCertificateSuperseded)
	l.clock.forward(24*time.Hour - time.Second)
	if !l.admits("T-1", old) {
		t.Error("the certificate before ends too early")
	}
	l.clock.forward(time.Second)
	if l.admits("T-1", old) || !l.admits("T-1", renewed) {
		t.Error("the certificate before has not ended, or the current one has")
	}
	before := l.changes.Load()
	l.sweep()
	if l.changes.Load() != before+1 {
		t.Error("nobody was told that connections are to be cut")
	}
	_, err = d.renew(key)
	refused(t, "over a certificate that has ended", err, provision.CodeCertificateUnknown)
	d.chain, d.key = chain, key
	chain, err = d.renew(key) // the same key is allowed
	check(t, err)
	d.chain = chain
	certs := l.certificates("T-1", identity.Terminal)
	if len(certs) != 3 || certs[0].Renewal || !certs[1].Renewal || !certs[2].Renewal {
		t.Errorf("certificates %+v", certs)
	}
}

// TestOverlapEndsWithTheCertificate renews an hour before the end.
func TestOverlapEndsWithTheCertificate(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	d := l.enrolled("T-1")
	l.clock.forward(90*24*time.Hour - time.Hour)
	_, err := d.renew(newKey(t))
	check(t, err)
	if row := l.row("T-1"); !row.PreviousUntil.Equal(d.chain[0].NotAfter) {
		t.Errorf("overlap until %v, want %v", row.PreviousUntil, d.chain[0].NotAfter)
	}
}

func TestRenewalsInParallel(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test, func(c *provision.Config) { c.DailyCap = 1000 })
	d := l.enrolled("T-1")
	before := l.terminals.issued.Load()
	var mu sync.Mutex
	var wg sync.WaitGroup
	served := 0
	for range 20 {
		csr := l.csr(newKey(t), identity.Terminal, "T-1")
		wg.Go(func() {
			_, err := l.engine.Reenroll(t.Context(), d.caller(), csr)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				served++
				return
			}
			refused(t, "a second renewal", err, provision.CodeCertificateSuperseded)
		})
	}
	wg.Wait()
	if n := l.terminals.issued.Load() - before; served != 1 || n != 1 {
		t.Errorf("%d served and %d issued, want 1", served, n)
	}
}

func TestRenewalRefusals(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	d, key := l.active("T-1")
	for name, csr := range map[string][]byte{
		"of another terminal": l.csr(newKey(t), identity.Terminal, "T-2"), "of another role": l.csr(newKey(t), identity.Agreement, "T-1"), "nothing": nil,
	} {
		_, err := l.engine.Reenroll(t.Context(), d.caller(), csr)
		refused(t, name, err, provision.CodeSigningRequestRefused)
	}
	_, foreign := l.certified(l.terminals, identity.Terminal, "T-1")
	_, err := (&device{l: l, id: "T-1", chain: foreign}).renew(newKey(t))
	refused(t, "a certificate that was never current", err, provision.CodeCertificateUnknown)
	_, unknown := l.certified(l.terminals, identity.Terminal, "T-9")
	_, err = (&device{l: l, id: "T-9", chain: unknown}).renew(newKey(t))
	refused(t, "an unknown terminal", err, provision.CodeTerminalUnknown)
	_, operator := l.certified(l.services, identity.Operator, "ANNA")
	_, err = (&device{l: l, id: "T-1", chain: operator}).renew(newKey(t))
	refused(t, "an operator", err, provision.CodeCertificateRequired)
	_, err = l.engine.Reenroll(t.Context(), provision.Caller{}, nil)
	refused(t, "nobody", err, provision.CodeCertificateRequired)

	l.act(provision.ActionBlock, "T-1")
	chain, err := d.renew(newKey(t))
	check(t, err)
	d.chain = chain
	check(t, d.quarantine("DATA", key))
	d.chain = must[[]certificate](t)(d.renew(newKey(t))) // as blocked
	l.act(provision.ActionRevoke, "T-1")
	_, err = d.renew(newKey(t))
	refused(t, "revoked", err, provision.CodeStatusNotPermitted)

	fault := errors.New("the token at slot 7 is locked")
	other := l.enrolled("T-2")
	l.terminals.fail.Store(&fault)
	_, err = other.renew(newKey(t))
	refusal := refused(t, "issuer away", err, provision.CodeIssuerUnavailable)
	if p := refusal.Problem(); p.Status != 503 || p.RetryAfter < 2*time.Second || p.Message+p.Hint != "" && strings.Contains(p.Message+p.Hint, "slot 7") {
		t.Errorf("problem %+v", p)
	}
}

// busy is the error of an issuer that knows when to come again.
type busy time.Duration

func (b busy) Error() string             { return "the issuer at slot 7 is busy" }
func (b busy) RetryAfter() time.Duration { return time.Duration(b) }

// TestIssuerSaysWhen has an issuer say when to come again: a terminal is told that, and not why.
func TestIssuerSaysWhen(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	d := l.enrolled("T-1")
	l.register("T-2")
	code, fresh := l.code("T-2"), l.device("T-2")
	for name, ask := range map[string]func() error{
		"renewal":   func() error { _, err := d.renew(newKey(t)); return err },
		"enrolment": func() error { return fresh.enroll(code) },
		"list":      func() error { _, err := l.engine.CRL(t.Context()); return err },
	} {
		l.failing(fmt.Errorf("wrapped: %w", busy(77*time.Second)))
		p := refused(t, name, ask(), provision.CodeIssuerUnavailable).Problem()
		if p.RetryAfter != 77*time.Second || strings.Contains(p.Message+p.Hint, "slot 7") {
			t.Errorf("%s: problem %+v, want 77 s", name, p)
		}
		l.failing(busy(0))
		if p := refused(t, name, ask(), provision.CodeIssuerUnavailable).Problem(); p.RetryAfter < 2*time.Second || p.RetryAfter > 10*time.Second {
			t.Errorf("%s, when it does not say: problem %+v", name, p)
		}
	}
}

// TestQuarantinedIsAsBlocked keeps certificates of held terminals alive, also by a code, and gives them no keys.
func TestQuarantinedIsAsBlocked(t *testing.T) {
	t.Parallel()
	for name, hold := range map[string]func(*laboratory, *device, dukpt.KeyID){
		"blocked":     func(l *laboratory, _ *device, _ dukpt.KeyID) { l.act(provision.ActionBlock, "T-1") },
		"quarantined": func(_ *laboratory, d *device, key dukpt.KeyID) { check(t, d.quarantine("DATA", key)) },
	} {
		l := newLaboratory(t, keyset.Test)
		d, key := l.active("T-1")
		hold(l, d, key)
		held := l.row("T-1").Status
		d.chain = must[[]certificate](t)(d.renew(newKey(t)))
		check(t, d.agree(d.agreement))
		must[*remote.Assignment](t)(l.engine.Assignment(t.Context(), d.caller()))
		l.act(provision.ActionRekey, "T-1")
		_, err := d.fetch(1)
		refused(t, name, err, provision.CodeStatusNotPermitted)
		again := l.device("T-1")
		check(t, again.enroll(l.code("T-1")))
		check(t, again.agree(newKey(t)))
		if row := l.row("T-1"); row.Status != held || !again.admitted() {
			t.Errorf("%s: row %+v", name, row)
		}
		l.act(provision.ActionUnblock, "T-1")
		_, err = again.fetch(1)
		check(t, err)
	}
}

func TestAgreement(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.register("T-1")
	d := l.device("T-1")
	check(t, d.enroll(l.code("T-1")))
	refused(t, "the TLS key", d.agree(d.key), provision.CodeSigningRequestRefused)
	key := newKey(t)
	check(t, d.agree(key))
	first := d.agreed[0]
	row := l.row("T-1")
	if row.AgreementSerial != identity.Serial(first) || row.Generation != 2 {
		t.Errorf("row %+v", row)
	}
	check(t, d.agree(key))
	if !d.agreed[0].Equal(first) || l.kdh.certified != 1 {
		t.Error("the same key got another certificate at once")
	}
	refused(t, "another key under one code", d.agree(newKey(t)), provision.CodeAgreementNotPermitted)
	l.clock.forward(16 * time.Minute)
	check(t, d.agree(key))
	if d.agreed[0].Equal(first) || l.kdh.certified != 2 {
		t.Error("the renewal gave the old certificate")
	}
	certs := l.certificates("T-1", identity.Agreement)
	if len(certs) != 2 || certs[0].Renewal || !certs[1].Renewal {
		t.Errorf("certificates %+v", certs)
	}
	refused(t, "another key later", d.agree(newKey(t)), provision.CodeAgreementNotPermitted)
	again := l.device("T-1")
	check(t, again.enroll(l.code("T-1")))
	refused(t, "over the certificate before", d.agree(key), provision.CodeCertificateUnknown)
	l.clock.forward(15 * time.Minute)
	refused(t, "too late", again.agree(newKey(t)), provision.CodeAgreementNotPermitted)
	check(t, again.enroll(l.code("T-1")))
	check(t, again.agree(newKey(t)))
}

// TestAgreementCrash has the key-distribution host fail after the code was bound to a key.
func TestAgreementCrash(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.register("T-1")
	d := l.device("T-1")
	check(t, d.enroll(l.code("T-1")))
	key := newKey(t)
	l.kdh.failing(errors.New("connection refused"))
	refused(t, "host away", d.agree(key), provision.CodeDistributorUnavailable)
	l.kdh.failing(&kdhRefusal{unavailable: true})
	refused(t, "host in trouble", d.agree(key), provision.CodeDistributorUnavailable)
	l.kdh.failing(&kdhRefusal{})
	refusal := refused(t, "host refuses", d.agree(key), provision.CodeDistributorRefused)
	if !strings.Contains(refusal.Problem().Message, "another curve") {
		t.Errorf("the terminal is not told why: %s", refusal.Problem().Message)
	}
	l.kdh.failing(nil)
	refused(t, "another key", d.agree(newKey(t)), provision.CodeAgreementNotPermitted)
	check(t, d.agree(key))
}

// TestAgreementForSomethingElse has the key-distribution host certify what nobody asked for.
func TestAgreementForSomethingElse(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.register("T-1")
	d := l.device("T-1")
	check(t, d.enroll(l.code("T-1")))
	key := newKey(t)
	_, otherKey := l.certified(l.keydist, identity.Agreement, "T-1")
	_, otherName := l.certified(l.keydist, identity.Agreement, "T-2")
	_, otherRole := l.certified(l.keydist, identity.KDH, "T-1")
	l.clock.forward(time.Hour)
	early := must[[]certificate](t)(l.keydist.Issue(t.Context(), ca.Request{
		PublicKey: key.Public(), Identity: identity.Identity{Tenant: tenant, Role: identity.Agreement, Name: "T-1"},
	}))
	l.clock.forward(-time.Hour)
	for name, chain := range map[string][]certificate{
		"another key": otherKey, "another terminal": otherName, "another role": otherRole, "nothing": {}, "a CA": l.keydist.Chain(),
		"what is not valid yet": early,
	} {
		l.kdh.certify = chain
		refused(t, name, d.agree(key), provision.CodeDistributorUnavailable)
	}
	if row := l.row("T-1"); row.AgreementSerial != "" {
		t.Errorf("row %+v", row)
	}
	l.kdh.certify = nil
	check(t, d.agree(key))
}
