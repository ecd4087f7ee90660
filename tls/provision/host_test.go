package provision_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys"
	"github.com/latchkey-pos/latchkey/keys/keyset"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/identity"
	"github.com/latchkey-pos/latchkey/tls/keydist"
	"github.com/latchkey-pos/latchkey/tls/keydist/keydisttest"
	"github.com/latchkey-pos/latchkey/tls/provision"
	"github.com/latchkey-pos/latchkey/tls/tlsconf"
)

// realHost is a key-distribution host as it is, without a network in between.
type realHost struct {
	host  *keydist.Host
	store *keydisttest.Model
}

var ra = keydist.Caller{Identity: identity.Identity{Tenant: tenant, Role: identity.RA, Name: "RA-1"}, Source: source}

func (h *realHost) Certify(ctx context.Context, o remote.CertifyOrder) ([]*x509.Certificate, error) {
	return h.host.Certify(ctx, ra, o)
}

func (h *realHost) Deliver(ctx context.Context, o remote.Order) (*remote.Delivery, error) {
	return h.host.Deliver(ctx, ra, o)
}

func (h *realHost) Settle(ctx context.Context, s remote.Settlement) error {
	return h.host.Settle(ctx, ra, s)
}

func (h *realHost) Withdraw(ctx context.Context, w remote.Withdrawal) error {
	return h.host.Withdraw(ctx, ra, w)
}

func (h *realHost) Adopt(ctx context.Context, a remote.Adoption) error {
	return h.host.Adopt(ctx, ra, a)
}

// initialKey derives under the base key of the host: one for everything.
func initialKey(_ context.Context, _ keyset.KeyRef, id dukpt.KeyID) (*dukpt.InitialKey, error) {
	k, err := keys.NewKey(keys.Attributes{
		Algorithm: keys.AES128, Usage: keys.UsageBDK, Mode: keys.ModeDerive, Exportability: keys.NonExportable,
	}, bytes.Repeat([]byte{1}, 16))
	if err != nil {
		return nil, err
	}
	defer k.Wipe()
	base, err := dukpt.NewBaseKey(k)
	if err != nil {
		return nil, err
	}
	defer base.Wipe()
	return base.Derive(id)
}

// withHost opens the registry anew with a real key-distribution host, and sets that are delivered without an attestation.
func (l *laboratory) withHost() *realHost {
	l.t.Helper()
	for _, s := range l.sets {
		s.Delivery = keyset.Code
	}
	h := &realHost{store: new(keydisttest.Model)}
	h.host = must[*keydist.Host](l.t)(keydist.New(keydist.Config{
		Tenant: tenant, Environment: keyset.Test, Store: h.store, Issuer: l.keydist, Blocks: remote.InHost(initialKey), KeySets: l.config.KeySets,
		Signer: l.kdh.signer, Chain: l.kdh.chain, Trust: tlsconf.Trust{Terminals: pool(l.terminals.Fake), KeyDist: pool(l.keydist)},
		Clock: l.clock.time, Instance: "KDH-1", Logger: slog.New(slog.DiscardHandler),
	}))
	l.config.Distributor = h
	l.start()
	return h
}

// states returns what became of the key ids that the host gave out, in their order.
func (h *realHost) states() (out []keyset.SlotState) {
	all := h.store.IssuedAll()
	slices.SortFunc(all, func(a, b keydist.Issued) int { return strings.Compare(a.KeyID.String(), b.KeyID.String()) })
	for _, i := range all {
		out = append(out, i.State)
	}
	return out
}

// TestLostAnswers loses eight answers at once and then twenty more, as fast as the host gives out keys. The next one that
// arrives is confirmed like any other, and registry and host agree on what became of each key.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	l := newLaboratory(t, keyset.Test)
	host := l.withHost()
	d := l.enrolled("T-1")
	for range 8 {
		must[*remote.Delivery](t)(d.fetch(1))
	}
	for n := range 20 {
		_, err := d.fetch(1)
		refusal := refused(t, "too early", err, provision.CodeDistributorUnavailable)
		if p := refusal.Problem(); p.Status != 503 || p.RetryAfter != time.Minute || !strings.Contains(p.Message, "TooManyPending") {
			t.Fatalf("answer %d: %+v", n, p)
		}
		l.clock.forward(refusal.RetryAfter)
		must[*remote.Delivery](t)(d.fetch(1))
		l.sweep()
	}
	l.clock.forward(time.Minute)
	arrived := must[*remote.Delivery](t)(d.fetch(1))
	check(t, d.confirm(1, "DATA", arrived.KeyID))
	l.sweep()
	registry, known := l.states("T-1", 0), host.states()
	if len(registry) != 29 || !slices.Equal(registry, known) || registry[28] != keyset.SlotActive || slices.ContainsFunc(registry[:28], func(s keyset.SlotState) bool { return s != keyset.SlotRetired }) {
		t.Errorf("the registry has %v, the host %v", registry, known)
	}
	if row := l.row("T-1"); row.Status != keyset.StatusActive || row.Slots[0].Wanted {
		t.Errorf("row %+v", row)
	}
}
