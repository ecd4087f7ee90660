package provision_test

import (
	"errors"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/tls/provision"
)

// killed asks for a certificate while everything after the issuer fails, as if the process had ended there, and starts the
// engine again. It returns what the issuer has made and nobody has.
func (l *laboratory) killed(ask func() error) int64 {
	l.t.Helper()
	before := l.terminals.issued.Load()
	dies := func() { l.store.Fail = func() error { return errors.New("killed") } }
	l.terminals.before.Store(&dies)
	if ask() == nil {
		l.t.Fatal("it is certified")
	}
	l.terminals.before.Store(nil)
	l.store.Fail = nil
	l.start()
	return l.terminals.issued.Load() - before
}

// orphans returns how many certificates were revoked as those that nobody has.
func (l *laboratory) orphans() (n int) {
	l.terminals.mu.Lock()
	defer l.terminals.mu.Unlock()
	for _, reason := range l.terminals.revoked {
		if reason == 4 {
			n++
		}
	}
	return n
}

// waiting returns how many notes there are of keys that were to be certified.
func (l *laboratory) waiting() (n int) {
	l.t.Helper()
	check(l.t, l.store.View(l.t.Context(), func(tx provision.Tx) error {
		n = 0
		all, err := tx.Tasks(1<<40, provision.TaskPlace{}, 1<<20)
		for _, task := range all {
			if task.Kind == provision.TaskOrphans {
				n++
			}
		}
		return err
	}))
	return n
}

// asks are the two ways to ask for a certificate: each makes a terminal that asks for one, and again for the same key.
func asks(t *testing.T) map[string]func(l *laboratory) (ask func() error) {
	return map[string]func(l *laboratory) func() error{
		"enrolment": func(l *laboratory) func() error {
			l.register("T-1")
			code, d := l.code("T-1"), l.device("T-1")
			return func() error { return d.enroll(code) }
		},
		"renewal": func(l *laboratory) func() error {
			d, key := l.enrolled("T-1"), newKey(t)
			return func() error { _, err := d.renew(key); return err }
		},
	}
}

// TestOrphan has the process end between the issuer's signature and the commit: the next one finds the certificate and has it
// revoked, and the terminal gets one for the same key that stays good.
func TestOrphan(t *testing.T) {
	t.Parallel()
	for name, begin := range asks(t) {
		l := newLaboratory(t, keyset.Test)
		ask := begin(l)
		if n := l.killed(ask); n != 1 {
			t.Fatalf("%s: %d certificates were made", name, n)
		}
		l.sweep()
		if l.orphans() != 1 || l.waiting() != 0 || l.audited("certificate/orphan", "DONE", "") != 1 {
			t.Errorf("%s: %d revoked, %d notes are left", name, l.orphans(), l.waiting())
		}
		check(t, ask())
		l.clock.forward(time.Hour)
		l.sweep()
		if serial := l.row("T-1").Serial; l.terminals.revocation(serial) != 0 || l.orphans() != 1 || l.waiting() != 0 {
			t.Errorf("%s: %d revoked, %d notes are left", name, l.orphans(), l.waiting())
		}
	}
}

// TestOrphanOfALostAnswer has the issuer sign and not answer. Nobody looks for the certificate while an attempt may be under
// way; a second one that works for the same key does not make the first one forgotten.
func TestOrphanOfALostAnswer(t *testing.T) {
	t.Parallel()
	for name, begin := range asks(t) {
		l := newLaboratory(t, keyset.Test)
		ask := begin(l)
		away := errors.New("connection reset")
		l.terminals.lost.Store(&away)
		for range 3 {
			refused(t, name, ask(), provision.CodeIssuerUnavailable)
			l.sweep()
		}
		if l.waiting() != 1 || l.orphans() != 0 {
			t.Errorf("%s: %d notes of one key, %d revoked at once", name, l.waiting(), l.orphans())
		}
		l.terminals.lost.Store(nil)
		check(t, ask())
		l.sweep()
		if l.waiting() != 1 || l.orphans() != 0 {
			t.Errorf("%s, certified: %d notes, %d revoked at once", name, l.waiting(), l.orphans())
		}
		l.failing(errors.New("sealed"))
		l.clock.forward(time.Minute)
		l.sweep()
		if l.waiting() != 1 {
			t.Errorf("%s: the note is gone and nobody has looked", name)
		}
		l.failing(nil)
		l.clock.forward(time.Hour)
		l.sweep()
		if serial := l.row("T-1").Serial; l.terminals.revocation(serial) != 0 || l.orphans() != 3 || l.waiting() != 0 {
			t.Errorf("%s: %d revoked, want 3; %d notes are left", name, l.orphans(), l.waiting())
		}
	}
}

// TestOrphanOfTheSlow has an attempt take so long that its certificate is looked for: it is revoked, and nobody gets it.
func TestOrphanOfTheSlow(t *testing.T) {
	t.Parallel()
	for name, begin := range asks(t) {
		l := newLaboratory(t, keyset.Test)
		ask := begin(l)
		before := l.row("T-1").Serial
		slow := func() {
			l.clock.forward(2 * time.Minute)
			l.sweep()
		}
		l.terminals.before.Store(&slow)
		refused(t, name, ask(), provision.CodeIssuerUnavailable)
		l.terminals.before.Store(nil)
		l.sweep()
		if l.orphans() != 1 || l.row("T-1").Serial != before {
			t.Errorf("%s: %d revoked", name, l.orphans())
		}
		check(t, ask())
	}
}
