package provision_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/ca"
	"github.com/latchkey-pos/latchkey/tls/provision"
	"github.com/latchkey-pos/latchkey/tls/provision/provisiontest"
)

// waitFor polls until something is so.
func waitFor(t testing.TB, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within ten seconds: %s", what)
		}
	}
}

// TestRun lets the engine run: what is to be told is told without anybody asking.
func TestRun(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.engine.Run(ctx) }()
	d, key := l.active("T-1")
	waitFor(t, "the settlement", func() bool { return len(l.kdh.settlements(key)) == 1 })
	l.act(provision.ActionRevoke, "T-1")
	waitFor(t, "the revocation", func() bool { return l.terminals.revocation(d.serial()) == 9 })
	check(t, l.engine.Check(t.Context()))
	end()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// TestOutboxRetries has the key-distribution host be away, over a restart, while the issuer works.
func TestOutboxRetries(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	d := l.enrolled("T-1")
	key := must[*remote.Delivery](t)(d.fetch(1)).KeyID
	l.kdh.failing(errors.New("connection refused"))
	check(t, d.confirm(1, "DATA", key))
	l.sweep()
	l.act(provision.ActionRevoke, "T-1")
	l.sweep()
	if l.terminals.revocation(d.serial()) != 9 {
		t.Error("one service that is away keeps another from being told")
	}
	for range 12 {
		l.clock.forward(5 * time.Minute)
		l.sweep()
	}
	if n := strings.Count(l.log.String(), "task failed and is tried again"); n < 10 || n > 14 {
		t.Errorf("%d attempts in an hour, want some 12", n)
	}
	l.start()
	l.kdh.failing(nil)
	l.clock.forward(5 * time.Minute)
	l.sweep()
	if got := l.kdh.settlements(key); len(got) != 1 || got[0] != keyset.SlotActive {
		t.Errorf("settled as %v", got)
	}
	l.clock.forward(time.Hour)
	l.sweep()
	if got := l.kdh.settlements(key); len(got) != 1 {
		t.Errorf("told %d times", len(got))
	}
}

// TestOutboxLooksBehind has more be due that a service that is away is to be told than the outbox looks at in one go: what others are
// to be told stands behind it, and is told.
func TestOutboxLooksBehind(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	victim := l.enrolled("T-0")
	for n := 1; n <= 5; n++ {
		d := l.enrolled(keyset.TerminalID(fmt.Sprint("T-", n)))
		check(t, d.confirm(1, "DATA", must[*remote.Delivery](t)(d.fetch(1)).KeyID))
	}
	l.kdh.failing(errors.New("connection refused"))
	l.clock.forward(time.Minute) // the revocation is the last
	l.act(provision.ActionRevoke, "T-0")
	l.engine.LookAt(2)
	l.sweep()
	if l.terminals.revocation(victim.serial()) != 9 {
		t.Error("what one service was not told keeps another from being told")
	}
}

// TestOutboxStrangeTask has a task among the others that cannot be read: they are done, and the log says it once.
func TestOutboxStrangeTask(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test, func(c *provision.Config) { c.Store = &strange{c.Store.(*provisiontest.Model)} })
	d := l.enrolled("T-1")
	l.act(provision.ActionRevoke, "T-1")
	l.engine.LookAt(1)
	l.sweep()
	l.sweep()
	if l.terminals.revocation(d.serial()) != 9 {
		t.Error("a task that cannot be read keeps the others from being done")
	}
	if n := strings.Count(l.log.String(), "a task cannot be read"); n != 1 {
		t.Errorf("the log says it %d times", n)
	}
}

// strange is a store with a task that cannot be read, and is due before all others.
type strange struct{ *provisiontest.Model }

func (s *strange) View(ctx context.Context, f func(provision.Tx) error) error {
	return s.Model.View(ctx, func(tx provision.Tx) error { return f(strangeTx{tx}) })
}

type strangeTx struct{ provision.Tx }

func (t strangeTx) Tasks(unix int64, after provision.TaskPlace, limit int) ([]*provision.Task, error) {
	if after != (provision.TaskPlace{}) {
		return t.Tx.Tasks(unix, after, limit)
	}
	none := &provision.Task{ID: "00000000000000000000000000", Due: time.Unix(1, 0)}
	rest, err := t.Tx.Tasks(unix, none.Place(), limit-1)
	return append([]*provision.Task{none}, rest...), err
}

// spoilt is a store in which the row of a terminal cannot be used, and no list of certificates can be read.
type spoilt struct {
	*provisiontest.Model
	terminal keyset.TerminalID
	on       bool
}

func (s *spoilt) Update(ctx context.Context, f func(provision.Tx) error) error {
	return s.Model.Update(ctx, func(tx provision.Tx) error { return f(spoiltTx{tx, s}) })
}

func (s *spoilt) View(ctx context.Context, f func(provision.Tx) error) error {
	return s.Model.View(ctx, func(tx provision.Tx) error { return f(spoiltTx{tx, s}) })
}

type spoiltTx struct {
	provision.Tx
	*spoilt
}

var errSpoilt = errors.New("the row is not one of ours")

func (t spoiltTx) Terminal(id keyset.TerminalID) (*provision.Terminal, bool, error) {
	if t.on && id == t.terminal {
		return nil, false, errSpoilt
	}
	return t.Tx.Terminal(id)
}

func (t spoiltTx) Certificates(id keyset.TerminalID, after string, limit int, yield func(provision.Issuance) error) error {
	if t.on {
		return errSpoilt
	}
	return t.Tx.Certificates(id, after, limit, yield)
}

// TestSpoiltRow has a campaign meet a row that cannot be used, and certificates that cannot be read: revocations are told all the
// same, and when the row is mended the campaign goes on.
func TestSpoiltRow(t *testing.T) {
	t.Parallel()
	var s *spoilt
	l := newLaboratory(t, keyset.Test, func(c *provision.Config) {
		s = &spoilt{Model: c.Store.(*provisiontest.Model), terminal: "T-1"}
		c.Store = s
	})
	l.apart()
	l.enrolled("T-1")
	d := l.enrolled("T-2")
	l.register("T-3")
	code := l.code("T-3")
	l.terminals.lost.Store(ptr(errors.New("connection lost")))
	if l.device("T-3").enroll(code) == nil {
		t.Fatal("it is certified")
	}
	l.terminals.lost.Store(nil)
	l.clock.forward(5 * time.Minute) // the certificate that nobody has is looked for
	l.do2(compromise)
	l.clock.forward(time.Second)
	l.act(provision.ActionRevoke, "T-2")
	s.on = true
	l.sweep()
	if l.terminals.revocation(d.serial()) != 9 {
		t.Error("the revocation is not told")
	}
	if c, _ := l.progress("DATA"); !c.Told || !c.Ordering {
		t.Errorf("told %t, ordering %t", c.Told, c.Ordering)
	}
	logged := strings.Count(l.log.String(), "a campaign waits")
	l.sweep()
	if n := strings.Count(l.log.String(), "a campaign waits"); n != logged {
		t.Error("the campaign is not put off")
	}
	s.on = false
	l.clock.forward(5 * time.Minute)
	l.sweep()
	if c, counts := l.progress("DATA"); c.Ordering || counts != "map[ordered:2 out:1]" {
		t.Errorf("mended: %s, ordering %t", counts, c.Ordering)
	}
	if n := len(l.terminals.revoked); n != 2 {
		t.Errorf("%d certificates are revoked, want that of T-2 and the one that nobody has", n)
	}
}

func ptr[V any](v V) *V { return &v }

// TestNobodysCertificate: the issuer certifies, and the certificate cannot be kept. It is revoked, unless it was kept after all.
func TestNobodysCertificate(t *testing.T) {
	t.Parallel()
	broken := errors.New("the disk is full")
	for name, tc := range map[string]struct {
		inside  func(*laboratory) // while the issuer is asked
		revoked int
	}{
		"the terminal is revoked meanwhile": {func(l *laboratory) { l.act(provision.ActionRevoke, "T-1") }, 1},
		"the store fails once":              {func(l *laboratory) { l.store.Fail = once(broken) }, 1},
		"the store fails after it was kept": {func(l *laboratory) { l.store.Lose = once(broken) }, 0},
	} {
		for _, renewal := range []bool{false, true} {
			l := newLaboratory(t, keyset.Test)
			var ask func() error
			revoked := tc.revoked
			if renewal {
				d := l.enrolled("T-1")
				ask = func() error { _, err := d.renew(newKey(t)); return err }
			} else {
				l.register("T-1")
				code := l.code("T-1")
				ask = func() error { return l.device("T-1").enroll(code) }
			}
			var before string
			inside := func() {
				l.terminals.before.Store(nil)
				before = l.row("T-1").Serial
				tc.inside(l)
			}
			l.terminals.before.Store(&inside)
			if err := ask(); err == nil {
				t.Errorf("%s: it is certified", name)
			}
			l.sweep()
			l.terminals.mu.Lock()
			for serial, reason := range l.terminals.revoked {
				if serial == before {
					continue // of a terminal that was revoked
				}
				revoked--
				if reason != 4 || serial == l.row("T-1").Serial {
					t.Errorf("%s: %s is revoked for reason %d", name, serial, reason)
				}
			}
			l.terminals.mu.Unlock()
			if revoked != 0 {
				t.Errorf("%s, renewal %t: revoked %v, want %d that nobody has", name, renewal, l.terminals.revoked, tc.revoked)
			}
		}
	}
}

// once returns an error the first time.
func once(err error) func() error {
	return func() error {
		out := err
		err = nil
		return out
	}
}

// TestOutboxGivesUp has the host refuse for good.
func TestOutboxGivesUp(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	d := l.enrolled("T-1")
	key := must[*remote.Delivery](t)(d.fetch(1)).KeyID
	l.kdh.failing(&kdhRefusal{})
	check(t, d.confirm(1, "DATA", key))
	l.sweep()
	if l.audited("task/settle", "REFUSED", "") != 1 {
		t.Error("that the host refuses is not audited")
	}
	l.kdh.failing(nil)
	l.clock.forward(time.Hour)
	l.sweep()
	if got := l.kdh.settlements(key); len(got) != 0 {
		t.Errorf("told again: %v", got)
	}
}

// TestSerialOfAnotherInstance has an issuer not know the certificate that is to be revoked: alone that is for good, beside others
// it may be one of theirs, and is told again.
func TestSerialOfAnotherInstance(t *testing.T) {
	t.Parallel()
	for _, shared := range []bool{false, true} {
		l := newLaboratory(t, keyset.Test, func(c *provision.Config) { c.Shared = shared })
		d := l.enrolled("T-1")
		l.act(provision.ActionRevoke, "T-1")
		l.failing(fmt.Errorf("%w: it is not in the ledger", ca.ErrUnknownSerial))
		l.sweep()
		if n := l.audited("task/revoke", "REFUSED", ""); (n == 0) != shared {
			t.Errorf("shared %t: given up %d times", shared, n)
		}
		l.failing(nil)
		l.clock.forward(time.Minute)
		l.sweep()
		if revoked := l.terminals.revocation(d.serial()) == 9; revoked != shared {
			t.Errorf("shared %t: told later %t", shared, revoked)
		}
	}
}

func TestRevocationList(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	d := l.enrolled("T-1")
	first := must[[]byte](t)(l.engine.CRL(t.Context()))
	if string(first) != string(must[[]byte](t)(l.engine.CRL(t.Context()))) {
		t.Error("every question makes the issuer sign")
	}
	l.act(provision.ActionRevoke, "T-1")
	l.sweep()
	list := must[*x509.RevocationList](t)(x509.ParseRevocationList(must[[]byte](t)(l.engine.CRL(t.Context()))))
	if len(list.RevokedCertificateEntries) != 1 || list.RevokedCertificateEntries[0].SerialNumber.Cmp(d.chain[0].SerialNumber) != 0 {
		t.Errorf("list %+v", list.RevokedCertificateEntries)
	}
	must[[]byte](t)(l.engine.CRL(t.Context()))[0] = 0 // ours, not the engine's
	must[*x509.RevocationList](t)(x509.ParseRevocationList(must[[]byte](t)(l.engine.CRL(t.Context()))))
}
