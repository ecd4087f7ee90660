package provision_test

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/provision"
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
