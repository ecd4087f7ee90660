package decrypt

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/message"
	"github.com/latchkey-pos/latchkey/terminal"
)

// cardsID is the key that the MACs of the test terminal are made under.
func (p *place) cardsID() dukpt.KeyID {
	i := slices.IndexFunc(p.bundle.Slots, func(s terminal.BundleSlot) bool { return s.Number == dataSlot })
	return p.bundle.Slots[i].KeyID
}

// accusations returns how often the authority was told of evidence.
func (o *office) accusations() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.accused)
}

// status is that of T-1 in the latest record.
func (o *office) status() keyset.Status {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.known["T-1"].Status
}

// sequence is that of the latest record.
func (o *office) sequence() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.log)
}

// release has an operator set the terminal free, and waits until the node knows.
func (o *office) release(r *running) {
	r.tb.Helper()
	o.publish("T-1", func(t *keyset.Terminal) { t.Status = keyset.StatusActive })
	r.knows(o.sequence())
}

// quarantined waits until authority and node have the terminal quarantined.
func (o *office) quarantined(r *running) {
	r.tb.Helper()
	until(r.tb, "the quarantine", func() bool { return o.status() == keyset.StatusQuarantined })
	r.knows(o.sequence())
}

// TestACloneIsQuarantined sends a second content of a KSN: the terminal is held within two seconds, until an operator releases
// it. What was looked at by then is not held against it again, and what comes later is.
func TestACloneIsQuarantined(t *testing.T) {
	t.Parallel()
	const limit = 2 * time.Second
	p, c := testConfig(t)
	o := openOffice(t, p)
	o.publish("T-1", nil)
	c = following(t, o, c)
	r := start(t, p, c)
	r.ready()
	r.expect("a sale", r.sale(1, 100), "FRESH")
	other := r.sale(1, 200)
	began := time.Now()
	r.expect("another amount", other, "KsnReplayed")
	o.quarantined(r)
	took := time.Since(began)
	if took > limit {
		t.Errorf("quarantined after %v, want at most %v", took, limit)
	}
	t.Logf("quarantined after %v", took)
	o.set(func() {
		q := o.accused[0]
		if len(o.accused) != 1 || q.Terminal != "T-1" || q.KeySet != "CARDS" || q.KeyID != p.cardsID() || q.Reason != "KsnReplayed" || time.Since(q.Time) > time.Minute {
			t.Errorf("the authority was told %+v", o.accused)
		}
	})
	waiting := r.sale(2, 100)
	r.expect("the next sale", waiting, "TerminalQuarantined")
	r.expect("a sign-in", r.signIn(3), "SIGNED-IN")
	if _, metrics := r.admin("/metrics"); !strings.Contains(metrics, "\nlatchkey_clone_evidence_total 1\n") {
		t.Error("the metrics do not count the evidence")
	}

	o.release(r)
	r.expect("what was held", waiting, "FRESH")
	r.expect("the other amount once more", r.resend(other, 4), "KsnReplayed") // byte for byte, as a queue does until somebody empties it
	o.restore()                                                               // a new epoch, in which everything is told that may have been lost
	r.knows(o.sequence())
	until(t, "what is told in a new epoch", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.high["T-1 CARDS"] == 3
	})
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = start(t, p, c)
	r.ready()
	r.expect("a sale after a restart", r.sale(5, 100), "FRESH")
	until(t, "the use of a key", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.high["T-1 CARDS"] == 5
	})
	if n := o.accusations(); n != 1 || o.status() != keyset.StatusActive {
		t.Errorf("told of evidence %d times, want once; the terminal is %v", n, o.status())
	}
	r.expect("another amount, again", r.sale(5, 200), "KsnReplayed")
	o.quarantined(r)
	r.expect("the next sale", r.sale(6, 100), "TerminalQuarantined")
}

// TestEvidenceIsNotForgotten has the authority out of reach when the evidence comes, and the service end before it is back.
func TestEvidenceIsNotForgotten(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	o := openOffice(t, p)
	o.publish("T-1", nil)
	c = following(t, o, c)
	r := start(t, p, c)
	r.ready()
	o.set(func() { o.fault = http.StatusServiceUnavailable })
	r.expect("a sale", r.sale(1, 100), "FRESH")
	r.expect("another amount", r.sale(1, 200), "KsnReplayed")
	until(t, "a failed report", func() bool { return strings.Contains(r.log.String(), "could not be told") })
	r.expect("the next sale", r.sale(2, 100), "FRESH") // nobody has quarantined it yet
	o.set(func() { o.fault = 0 })
	o.quarantined(r)

	o.release(r)
	o.set(func() { o.fault = http.StatusServiceUnavailable })
	r.expect("another amount, again", r.sale(2, 200), "KsnReplayed")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if n := o.accusations(); n != 1 {
		t.Fatalf("told of evidence %d times, want once", n)
	}
	o.set(func() { o.fault = 0 })
	r = start(t, p, c)
	r.ready()
	o.quarantined(r)
	r.expect("the next sale", r.sale(3, 100), "TerminalQuarantined")
}

// TestEvidenceOfNobodyIsLeft has evidence about a key that the registry does not have any more: there is nobody to hold, and
// the rest is told.
func TestEvidenceOfNobodyIsLeft(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	before := start(t, p, c) // no registry yet
	before.expect("a sale", before.sale(1, 100), "FRESH")
	before.expect("another amount", before.sale(1, 200), "KsnReplayed")
	if err := before.stop(); err != nil {
		t.Fatal(err)
	}
	o := openOffice(t, p)
	o.publish("T-1", func(t *keyset.Terminal) { t.Slots = t.Slots[:1] }) // the PIN slot alone
	r := start(t, p, following(t, o, c))
	r.ready()
	until(t, "the use of its other key", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.high["T-1 PINS"] == 1
	})
	if n := o.accusations(); n != 0 || o.status() != keyset.StatusActive {
		t.Errorf("told of evidence %d times; the terminal is %v", n, o.status())
	}
	if log := r.log.String(); strings.Contains(log, "could not be told") {
		t.Errorf("the report failed:\n%s", log)
	}
}

// TestARollBackIsNoQuarantine signs in on a used counter: the terminal is told where to go on, and goes on.
func TestARollBackIsNoQuarantine(t *testing.T) {
	t.Parallel()
	p, c := testConfig(t)
	o := openOffice(t, p)
	o.publish("T-1", nil)
	r := start(t, p, following(t, o, c))
	r.ready()
	r.expect("a sale", r.sale(1, 100), "FRESH")
	r.expect("a sign-in on its counter", r.signIn(1), message.RolledBack.String())
	r.expect("a sale after it", r.sale(2, 100), "FRESH")
	until(t, "the use of a key", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.high["T-1 CARDS"] == 2
	})
	if n := o.accusations(); n != 0 {
		t.Errorf("told of evidence %d times", n)
	}
	if !strings.Contains(r.log.String(), "a terminal was rolled back") {
		t.Error("the log does not say it")
	}
	if _, metrics := r.admin("/metrics"); !strings.Contains(metrics, `latchkey_transactions_total{result="ROLLED-BACK"} 1`) {
		t.Error("the metrics do not count it")
	}
}
