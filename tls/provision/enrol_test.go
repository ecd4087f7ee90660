package provision_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/internal/secret"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/ca/catest"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

func TestEnrol(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.register("T-1")
	d := l.device("T-1")
	check(t, d.enroll(l.code("T-1")))
	row := l.row("T-1")
	if row.Serial != d.serial() || row.Status != keyset.StatusPending || row.NotAfter != d.chain[0].NotAfter || len(d.chain) != 2 {
		t.Errorf("row %+v after a chain of %d", row, len(d.chain))
	}
	if id, err := identity.FromCertificate(d.chain[0]); err != nil || id.Name != "T-1" || id.Role != identity.Terminal {
		t.Errorf("certificate for %v, %v", id, err)
	}
	if !d.admitted() {
		t.Error("an enrolled terminal is not admitted")
	}
	if n := l.audited("enrol", "DONE", "serial "+d.serial()); n != 1 {
		t.Errorf("%d audit records of the enrolment, want 1", n)
	}
	certs := l.certificates("T-1", identity.Terminal)
	if len(certs) != 1 || certs[0].Serial != d.serial() || certs[0].Renewal {
		t.Errorf("certificates %+v", certs)
	}
}

// TestTheSameKeyAgain loses the answer and asks again.
func TestTheSameKeyAgain(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.register("T-1")
	code := l.code("T-1")
	d := l.device("T-1")
	check(t, d.enroll(code))
	first := d.chain
	l.clock.forward(9*time.Minute + 59*time.Second)
	check(t, d.enroll(code))
	if !d.chain[0].Equal(first[0]) || l.terminals.issued.Load() != 1 {
		t.Errorf("another certificate, or %d issued", l.terminals.issued.Load())
	}
	if l.audited("enrol", "REPEATED", "") != 1 {
		t.Error("the repetition is not audited")
	}
	other := l.device("T-1")
	refused(t, "another key", other.enroll(code), provision.CodeOneTimeCodeSpent)
	l.clock.forward(time.Second)
	refused(t, "after ten minutes", d.enroll(code), provision.CodeOneTimeCodeSpent)
	l.clock.forward(10 * time.Minute)
	refused(t, "another key after the life of the code", other.enroll(code), provision.CodeOneTimeCodeExpired)
	if l.terminals.issued.Load() != 1 || l.row("T-1").Serial != d.serial() {
		t.Errorf("%d issued", l.terminals.issued.Load())
	}
}

// TestOneCodeInParallel redeems one code a hundred times at once: one certificate is issued, and one serial is current.
func TestOneCodeInParallel(t *testing.T) {
	t.Parallel()
	for name, sameKey := range map[string]bool{"the same key": true, "different keys": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t, keyset.Test)
			l.register("T-1")
			code := l.code("T-1")
			certificates, refusals := race(l, "T-1", code, sameKey)
			if n := l.terminals.issued.Load(); n != 1 {
				t.Errorf("%d certificates issued, want 1", n)
			}
			want := 1
			if sameKey {
				want = attempts
			}
			if len(certificates) != want || len(refusals) != attempts-want {
				t.Fatalf("%d served and %d refused, want %d served", len(certificates), len(refusals), want)
			}
			for _, c := range certificates {
				if identity.Serial(c) != l.row("T-1").Serial {
					t.Error("a certificate that is not current was given out")
				}
			}
			for _, err := range refusals {
				refused(t, "another key", err, provision.CodeOneTimeCodeSpent)
			}
			if n := len(l.certificates("T-1", identity.Terminal)); n != 1 {
				t.Errorf("%d certificates in the registry", n)
			}
			if l.engine.ServedCount() != 0 {
				t.Error("a lane is left over")
			}
		})
	}
}

const attempts = 100

// race redeems one code in many goroutines at once.
func race(l *laboratory, id keyset.TerminalID, code secret.Bytes, sameKey bool) (certificates []*x509.Certificate, refusals []error) {
	requests := make([][]byte, attempts)
	first := l.csr(newKey(l.t), identity.Terminal, id)
	for i := range requests {
		requests[i] = first
		if !sameKey {
			requests[i] = l.csr(newKey(l.t), identity.Terminal, id)
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	start := make(chan struct{})
	for _, csr := range requests {
		wg.Go(func() {
			<-start
			chain, err := l.engine.Enroll(l.t.Context(), source, string(id), code, csr)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				refusals = append(refusals, err)
				return
			}
			certificates = append(certificates, chain[0])
		})
	}
	close(start)
	wg.Wait()
	return certificates, refusals
}

// TestCrash ends the process after each step of an enrolment. The same key gets through afterwards; once the code was
// reserved, no other key does.
func TestCrash(t *testing.T) {
	t.Parallel()
	died := errors.New("died")
	for _, tc := range []struct {
		name     string
		die      func(l *laboratory) (restore func())
		reserved bool
		issued   int64 // at the end, when the same key has asked again
	}{
		{"before the reservation", func(l *laboratory) func() {
			l.store.Fail = func() error { return died }
			return func() { l.store.Fail = nil }
		}, false, 1},
		{"after the reservation", func(l *laboratory) func() {
			l.store.Lose = func() error { return died }
			return func() { l.store.Lose = nil }
		}, true, 1},
		{"while issuing", func(l *laboratory) func() {
			l.terminals.fail.Store(&died)
			return func() { l.terminals.fail.Store(nil) }
		}, true, 1},
		{"before the commit", func(l *laboratory) func() {
			f := func() { l.store.Fail = func() error { return died } }
			l.terminals.before.Store(&f)
			return func() { l.store.Fail = nil; l.terminals.before.Store(nil) }
		}, true, 2},
		{"after the commit", func(l *laboratory) func() {
			f := func() { l.store.Lose = func() error { return died } }
			l.terminals.before.Store(&f)
			return func() { l.store.Lose = nil; l.terminals.before.Store(nil) }
		}, true, 1},
	} {
		for _, sameKey := range []bool{true, false} {
			t.Run(tc.name, func(t *testing.T) {
				t.Parallel()
				l := newLaboratory(t, keyset.Test)
				l.register("T-1")
				code := l.code("T-1")
				d := l.device("T-1")
				restore := tc.die(l)
				if err := d.enroll(code); err == nil {
					t.Fatal("an enrolment succeeds although the process died")
				}
				restore()
				l.start()
				if !sameKey {
					err := l.device("T-1").enroll(code)
					if tc.reserved {
						refused(t, "another key", err, provision.CodeOneTimeCodeSpent)
					} else {
						check(t, err)
					}
					return
				}
				check(t, d.enroll(code))
				if n := l.terminals.issued.Load(); n != tc.issued {
					t.Errorf("%d certificates issued, want %d", n, tc.issued)
				}
				if l.row("T-1").Serial != d.serial() || !d.admitted() {
					t.Error("the certificate that was given out is not current")
				}
			})
		}
	}
}

// TestWrongCodes guesses until the code is void, also across a restart.
func TestWrongCodes(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.register("T-1")
	code := l.code("T-1")
	d := l.device("T-1")
	for i := range 4 {
		refused(t, "a wrong code", d.enroll(provision.NewCode(i%2 == 0)), provision.CodeCredentialsRefused)
		l.start()
	}
	refused(t, "a fifth", d.enroll(provision.NewCode(false)), provision.CodeCredentialsRefused)
	refused(t, "the code", d.enroll(code), provision.CodeOneTimeCodeVoid)
	if l.audited("enrol", "REFUSED", string(provision.CodeCredentialsRefused)) != 5 {
		t.Error("the guesses are not audited")
	}
	next := l.code("T-1")
	for range 4 {
		refused(t, "a wrong code", d.enroll(provision.NewCode(false)), provision.CodeCredentialsRefused)
	}
	refused(t, "the code before", d.enroll(code), provision.CodeCredentialsRefused) // the fifth
	refused(t, "a code that is void", d.enroll(next), provision.CodeOneTimeCodeVoid)
	if l.terminals.issued.Load() != 0 {
		t.Error("a certificate was issued")
	}
}

// TestAlike compares what is told about an unknown terminal, one without a code, and a wrong code.
func TestAlike(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.register("KNOWN")
	l.register("NO-CODE")
	l.code("KNOWN")
	var texts []string
	for _, id := range []keyset.TerminalID{"KNOWN", "NO-CODE", "UNKNOWN"} {
		before := len(l.store.Leaves())
		refusal := refused(t, string(id), l.device(id).enroll(provision.NewCode(false)), provision.CodeCredentialsRefused)
		if n := len(l.store.Leaves()) - before; n != 1 {
			t.Errorf("%s: %d audit records", id, n)
		}
		p := refusal.Problem()
		texts = append(texts, p.Error()+p.Hint)
		if p.Status != 401 {
			t.Errorf("%s: status %d", id, p.Status)
		}
	}
	if len(slices.Compact(texts)) != 1 {
		t.Errorf("different answers: %q", texts)
	}
	for name, call := range map[string]func() error{
		"a name in lower case": func() error {
			_, err := l.engine.Enroll(t.Context(), source, "known", provision.NewCode(false), nil)
			return err
		},
		"a short text": func() error {
			_, err := l.engine.Enroll(t.Context(), source, "KNOWN", secret.From([]byte("ABC")), nil)
			return err
		},
		"nothing": func() error { _, err := l.engine.Enroll(t.Context(), "", "", secret.Bytes{}, nil); return err },
	} {
		refused(t, name, call(), provision.CodeCredentialsRefused)
	}
}

// TestKeysAreNotShared gives no terminal a key that another one has, and none one key for both purposes.
func TestKeysAreNotShared(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	first, second := l.enrolled("T-1"), l.enrolled("T-2")
	own := second.key
	for name, key := range map[string]*ecdsa.PrivateKey{"TLS": first.key, "agreement": first.agreement} {
		_, err := second.renew(key)
		refused(t, "renewal with the "+name+" key of another", err, provision.CodeSigningRequestRefused)
		second.key = key
		refused(t, "enrolment with the "+name+" key of another", second.enroll(l.code("T-2")), provision.CodeSigningRequestRefused)
		second.key = own
		check(t, second.enroll(l.code("T-2")))
		refused(t, "agreement with the "+name+" key of another", second.agree(key), provision.CodeSigningRequestRefused)
	}
	_, err := second.renew(second.agreement)
	refused(t, "renewal with one's own agreement key", err, provision.CodeSigningRequestRefused)
	second.key = second.agreement
	refused(t, "enrolment with one's own agreement key", second.enroll(l.code("T-2")), provision.CodeSigningRequestRefused)
	second.key = newKey(t)
	check(t, second.enroll(l.code("T-2")))
	refused(t, "agreement with one's own last TLS key", second.agree(own), provision.CodeSigningRequestRefused)
	second.chain = must[[]certificate](t)(second.renew(second.key)) // a renewal may keep the key
}

// TestOneKeyInParallel has two terminals enrol with one key at once.
func TestOneKeyInParallel(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.register("T-1")
	l.register("T-2")
	one, two := l.device("T-1"), l.device("T-2")
	two.key = one.key
	codeOne, codeTwo := l.code("T-1"), l.code("T-2")
	inside := func() { // while the issuer is asked for the first
		l.terminals.before.Store(nil)
		check(t, two.enroll(codeTwo))
	}
	l.terminals.before.Store(&inside)
	refused(t, "the slower one", one.enroll(codeOne), provision.CodeSigningRequestRefused)
	if l.row("T-1").Serial != "" || l.row("T-2").Serial == "" {
		t.Error("both have the key, or none")
	}
}

// TestIssuedForSomethingElse has the issuer certify what nobody asked for.
func TestIssuedForSomethingElse(t *testing.T) {
	t.Parallel()
	for _, twist := range catest.Twists() {
		t.Run(twist.Name, func(t *testing.T) {
			t.Parallel()
			l := newLaboratory(t, keyset.Test)
			l.terminals.Fake = must[*catest.Fake](t)(catest.NewFake(identity.TerminalCA, twist, l.clock.time))
			l.register("T-1")
			code := l.code("T-1")
			refused(t, twist.Name, l.device("T-1").enroll(code), provision.CodeIssuerUnavailable)
			if l.row("T-1").Serial != "" || len(l.certificates("T-1", identity.Terminal)) != 0 {
				t.Error("kept")
			}
		})
	}
}

func TestSigningRequestsAreRefused(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.register("T-1")
	code := l.code("T-1")
	other := l.csr(newKey(t), identity.Terminal, "T-2")
	for name, csr := range map[string][]byte{
		"of another terminal": other, "of another role": l.csr(newKey(t), identity.Agreement, "T-1"), "nothing": nil, "garbage": []byte("garbage"),
	} {
		_, err := l.engine.Enroll(t.Context(), source, "T-1", code, csr)
		refused(t, name, err, provision.CodeSigningRequestRefused)
	}
	check(t, l.device("T-1").enroll(code)) // the code is still good
	_, err := l.engine.Enroll(t.Context(), source, "T-1", provision.NewCode(false), other)
	refused(t, "a bad request with a wrong code", err, provision.CodeCredentialsRefused)
}

// TestEnrolAgain gives an enrolled terminal a new code: what it had is void.
func TestEnrolAgain(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	d, key := l.active("T-1")
	old := d.serial()
	again := l.device("T-1")
	check(t, again.enroll(l.code("T-1")))
	if l.admits("T-1", old) || !again.admitted() || l.changes.Load() == 0 {
		t.Error("the certificate before is still admitted")
	}
	row := l.row("T-1")
	if row.AgreementSerial != "" || !row.Slots[0].Wanted || row.Status != keyset.StatusActive {
		t.Errorf("row %+v", row)
	}
	l.sweep()
	if l.terminals.revocation(old) != 4 {
		t.Errorf("the certificate before: reason %d, want superseded", l.terminals.revocation(old))
	}
	refuse := func() error { _, err := again.fetch(1); return err }
	refused(t, "a key without an agreement key", refuse(), provision.CodeAgreementMissing)
	check(t, again.agree(newKey(t)))
	check(t, refuse())
	if k := l.row("T-1").Slots[0].Keys; len(k) != 2 || k[0].ID != key || k[0].State != keyset.SlotActive {
		t.Errorf("keys %+v", k)
	}
}

func TestStatusAtEnrolment(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	for id, action := range map[keyset.TerminalID]provision.Action{
		"BLOCKED": provision.ActionBlock, "REVOKED": provision.ActionRevoke, "STOLEN": provision.ActionCompromised, "OLD": provision.ActionRetire,
	} {
		l.register(id)
		code := l.code(id)
		l.act(action, id)
		err := l.device(id).enroll(code)
		if action == provision.ActionBlock {
			check(t, err)
			continue
		}
		refused(t, string(id), err, provision.CodeStatusNotPermitted)
		_, err = l.engine.Do(t.Context(), anna, provision.Operation{Action: provision.ActionCode, Terminal: id})
		refused(t, "a code for "+string(id), err, provision.CodeStatusNotPermitted)
	}
}

// TestRevokedWhileIssuing revokes the terminal in the middle of its enrolment.
func TestRevokedWhileIssuing(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.register("T-1")
	code := l.code("T-1")
	f := func() { l.act(provision.ActionRevoke, "T-1") }
	l.terminals.before.Store(&f)
	refused(t, "enrol", l.device("T-1").enroll(code), provision.CodeOneTimeCodeVoid)
	if row := l.row("T-1"); row.Serial != "" || row.Status != keyset.StatusRevoked {
		t.Errorf("row %+v", row)
	}
}

// TestOutages has the issuer and the key-distribution host be away for longer than the cap of a day: what counts is
// certificates.
func TestOutages(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test, func(c *provision.Config) { c.DailyCap = 3 })
	l.register("T-1")
	d, code, away := l.device("T-1"), l.code("T-1"), errors.New("issuer away")
	key, next := newKey(t), newKey(t)
	renew := func() (err error) { d.chain, err = keep(d.chain)(d.renew(next)); return err }
	for what, tc := range []struct {
		name string
		fail func(error)
		code provision.Code
		ask  func() error
	}{
		{"enrol", l.failing, provision.CodeIssuerUnavailable, func() error { return d.enroll(code) }},
		{"agree", l.kdh.failing, provision.CodeDistributorUnavailable, func() error { return d.agree(key) }},
		{"renew", l.failing, provision.CodeIssuerUnavailable, renew},
	} {
		tc.fail(away)
		for range 30 {
			refused(t, tc.name+" in an outage", tc.ask(), tc.code)
		}
		if n := l.row("T-1").Issued; n != uint32(what) {
			t.Errorf("%s: %d certificates are counted, want %d", tc.name, n, what)
		}
		tc.fail(nil)
		check(t, tc.ask())
		if n := l.row("T-1").Issued; n != uint32(what+1) {
			t.Errorf("%s: %d certificates are counted, want %d", tc.name, n, what+1)
		}
	}
	l.clock.forward(16 * time.Minute)
	issued, certified := l.terminals.issued.Load(), l.kdh.certified
	refused(t, "a renewal beyond the cap", renew(), provision.CodeIssuanceCapReached)
	refused(t, "an agreement key beyond the cap", d.agree(key), provision.CodeIssuanceCapReached)
	refused(t, "an enrolment beyond the cap", l.device("T-1").enroll(l.code("T-1")), provision.CodeIssuanceCapReached)
	if l.terminals.issued.Load() != issued || l.kdh.certified != certified {
		t.Error("somebody was asked to certify although the cap is reached")
	}
}

// keep returns a chain as it was when there is no other.
func keep(old []*x509.Certificate) func([]*x509.Certificate, error) ([]*x509.Certificate, error) {
	return func(chain []*x509.Certificate, err error) ([]*x509.Certificate, error) {
		if err != nil {
			return old, err
		}
		return chain, nil
	}
}

func TestNewPepper(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	l.register("T-1")
	code := l.code("T-1")
	l.config.Pepper = secret.From([]byte(strings.Repeat("another!", 4)))
	l.start()
	refused(t, "a code of the pepper before", l.device("T-1").enroll(code), provision.CodeCredentialsRefused)
	if l.audited("code/void", "DONE", "the pepper has changed") != 1 {
		t.Error("that the code is void is not audited")
	}
	l.start()
	check(t, l.device("T-1").enroll(l.code("T-1")))
}
