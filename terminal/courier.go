package terminal

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/latchkey-pos/latchkey/dukpt"
	"github.com/latchkey-pos/latchkey/keys/remote"
	"github.com/latchkey-pos/latchkey/tls/enroll"
)

// courier fetches initial keys over one connection.
type courier struct {
	client     *enroll.Client
	store      store // of the private keys
	member     *membership
	tls        *x509.Certificate // what the client shows
	assignment *remote.Assignment
	now        time.Time
}

// fetch gets a key for a slot and verifies everything about it: nothing that comes back from here was changed on the way, or
// is for another terminal, slot, environment or request. installed is the slot as it is, zero if it has no key. The caller
// wipes the key.
func (c courier) fetch(ctx context.Context, s remote.AssignedSlot, installed Slot) (Slot, *dukpt.InitialKey, error) {
	leaf, agreement, err := c.member.agreementPair(c.store)
	if err != nil {
		return Slot{}, nil, fmt.Errorf("%w: %v", ErrState, err)
	}
	r := remote.Request{Slot: s.Slot, Attestation: c.member.attestation}
	_, _ = rand.Read(r.Nonce[:]) // cannot fail
	d, exporter, err := c.client.Key(ctx, &r)
	if err != nil {
		return Slot{}, nil, err
	}
	a := c.assignment
	opened, err := remote.Open(d, remote.Binding{
		Tenant: a.Tenant, Terminal: a.Terminal, Slot: s.Slot, TLS: c.tls, Agreement: leaf, Nonce: r.Nonce, Exporter: exporter,
	}, agreement, remote.OpenOptions{
		Roots: c.member.list.Trust().KeyDist, Now: c.now, Environment: a.Environment, KeySet: s.KeySet, Installed: installed.KeyID,
	})
	if err != nil {
		return Slot{}, nil, err
	}
	slot, err := slotOf(s.Slot, opened.Set, opened.Key.KeyID())
	if err != nil {
		opened.Wipe()
		return Slot{}, nil, fmt.Errorf("%w: %v", ErrAssignment, err)
	}
	return slot, opened.Key, nil
}
